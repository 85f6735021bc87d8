// The op focal_attention on the CPU.
#include "focal_inputs.h"

namespace heritage_align {
namespace {

Tensor focal_attention(Tensor regions, Maybe region_scales, Tensor region_offsets, Tensor words, Maybe word_scales,
                       Tensor word_offsets, Maybe keep, Maybe image_factor, Maybe image_factor_offsets,
                       Maybe text_factor, Maybe text_factor_offsets, Maybe candidates, Maybe /*pair_order*/,
                       Maybe /*pair_starts*/, Maybe /*bin_order*/, Maybe /*bin_starts*/, int64_t direction,
                       int64_t rectifier, int64_t normalise, int64_t focal, int64_t aggregate, double temperature,
                       double lse_scale, int64_t /*max_regions*/, int64_t /*max_words*/) {
  const Level& cpu = level();
  const Rows images = rows_of(regions, region_scales, region_offsets);
  const Rows texts = rows_of(words, word_scales, word_offsets);
  const FocalSettings settings = focal_settings(rectifier, normalise, focal, aggregate, temperature, lse_scale);
  const auto way = static_cast<Direction>(direction);
  std::vector<uint8_t> kept;
  if (keep.has_value() && way != Direction::i2t) kept = usable_keep(images, data_of<uint8_t>(keep));
  const Memory lengths = lengths_of(cpu, texts);
  std::optional<OwnedFactors> text_factors;
  if (way != Direction::t2i) text_factors.emplace(cpu, texts, text_factor, text_factor_offsets);
  const FocalProblem problem{images,
                             texts,
                             way,
                             settings,
                             kept.empty() ? nullptr : kept.data(),
                             {data_of<float>(image_factor), data_of<int64_t>(image_factor_offsets)},
                             text_factors.has_value() ? text_factors->view() : Factors{},
                             lengths.floats()};
  const bool factors_here = way != Direction::i2t && !image_factor.has_value();
  if (candidates.has_value()) {
    const Tensor scores = new_floats(regions, {candidates->size(0), candidates->size(1)});
    float* out = static_cast<float*>(scores.mutable_data_ptr());
    std::unique_ptr<Memory> memory;
    const ListWords listed = list_words(cpu, word_form(cpu, images, texts, false), texts, memory);
    for_candidates(cpu, images, texts, *candidates, factors_here, out,
                   [&](const CandidateList& list, const Extent& extent, char* scratch) {
                     cpu.focal_candidates(problem, list, listed, extent, scratch);
                   });
    return scores;
  }
  const Tensor scores = new_floats(regions, {images.items, texts.items});
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
  m.impl("focal_attention", TORCH_BOX(&heritage_align::focal_attention));
}
