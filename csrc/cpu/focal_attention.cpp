// The op focal_attention on the CPU.
#include "focal_inputs.h"

namespace heritage_align {
namespace {

Tensor focal_attention(const FocalArguments& a, const Maybe& /*bin_order*/, const Maybe& /*bin_starts*/) {
  const Level& cpu = level();
  const Rows images = rows_of(a.regions, a.region_scales, a.region_offsets);
  const Rows texts = rows_of(a.words, a.word_scales, a.word_offsets);
  std::vector<uint8_t> kept;
  if (a.keep.has_value() && a.t2i()) kept = usable_keep(images, data_of<uint8_t>(a.keep));
  const Memory lengths = lengths_of(cpu, texts);
  std::optional<OwnedFactors> text_factors;
  if (a.i2t()) text_factors.emplace(cpu, texts, a.text_factor, a.text_factor_offsets);
  const FocalProblem problem{images,
                             texts,
                             a.direction(),
                             a.settings(),
                             kept.empty() ? nullptr : kept.data(),
                             {data_of<float>(a.image_factor), data_of<int64_t>(a.image_factor_offsets)},
                             text_factors.has_value() ? text_factors->view() : Factors{},
                             lengths.floats()};
  const bool factors_here = a.t2i() && !a.image_factor.has_value();
  if (a.candidates.has_value()) {
    const Tensor scores = new_floats(a.regions, {a.candidates->size(0), a.candidates->size(1)});
    float* out = static_cast<float*>(scores.mutable_data_ptr());
    std::unique_ptr<Memory> memory;
    const ListWords listed = list_words(cpu, word_form(cpu, images, texts, false), texts, memory);
    for_candidates(cpu, images, texts, *a.candidates, factors_here, out,
                   [&](const CandidateList& list, const Extent& extent, char* scratch) {
                     cpu.focal_candidates(problem, list, listed, extent, scratch);
                   });
    return scores;
  }
  const Tensor scores = new_floats(a.regions, {images.items, texts.items});
  float* out = static_cast<float*>(scores.mutable_data_ptr());
  for_all_pairs(cpu, images, texts, factors_here,
                [&](Arithmetic arithmetic, const RegionBlock& block, const WordBlock* blocks, int64_t count,
                    const Extent& extent, char* scratch) {
                  cpu.focal_block(problem, arithmetic, block, blocks, count, out, texts.items, extent, scratch);
                });
  return scores;
}

}  // namespace
}  // namespace heritage_align

STABLE_TORCH_LIBRARY_IMPL(heritage_align, CPU, m) {
  m.impl("focal_attention", TORCH_BOX(&heritage_align::FocalOp::forward<&heritage_align::focal_attention>));
}
