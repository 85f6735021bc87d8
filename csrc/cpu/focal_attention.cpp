// The op focal_attention on the CPU.
#include "tiling.h"

namespace heritage_align {
namespace {

// Which regions take part: an image of which `keep` removes all regions keeps all of them.
std::vector<uint8_t> usable_keep(const Rows& images, const uint8_t* keep) {
  std::vector<uint8_t> usable(keep, keep + images.offsets[images.items]);
  for (int64_t i = 0; i < images.items; ++i) {
    const auto first = usable.begin() + images.offsets[i], last = usable.begin() + images.offsets[i + 1];
    if (std::find(first, last, uint8_t{1}) == last) std::fill(first, last, uint8_t{1});
  }
  return usable;
}

Tensor focal_attention(Tensor regions, Maybe region_scales, Tensor region_offsets, Tensor words, Maybe word_scales,
                       Tensor word_offsets, Maybe keep, Maybe image_factor, Maybe image_factor_offsets,
                       Maybe text_factor, Maybe text_factor_offsets, Maybe candidates, Maybe /*pair_order*/,
                       Maybe /*pair_starts*/, Maybe /*bin_order*/, Maybe /*bin_starts*/, int64_t direction,
                       int64_t rectifier, int64_t normalise, int64_t focal, int64_t aggregate, double temperature,
                       double lse_scale, int64_t /*max_regions*/, int64_t /*max_words*/) {
  const Level& cpu = level();
  const Rows images = rows_of(regions, region_scales, region_offsets);
  const Rows texts = rows_of(words, word_scales, word_offsets);
  const FocalSettings settings{static_cast<Rectifier>(rectifier),     static_cast<Normaliser>(normalise),
                               static_cast<Focal>(focal),             static_cast<Aggregate>(aggregate),
                               static_cast<float>(temperature),       static_cast<float>(lse_scale)};
  const auto way = static_cast<Direction>(direction);
  std::vector<uint8_t> kept;
  if (keep.has_value() && way != Direction::i2t) kept = usable_keep(images, data_of<uint8_t>(keep));
  const int64_t total_words = texts.offsets[texts.items];
  const Memory lengths(4 * total_words + 4);
  constexpr int64_t at_once = 256;
  for_each_task((total_words + at_once - 1) / at_once, 64, [&](int64_t task, char*) {
    const int64_t first = task * at_once;
    cpu.row_lengths(texts, first, std::min(at_once, total_words - first), lengths.floats() + first);
  });
  Factors text_factors{data_of<float>(text_factor), data_of<int64_t>(text_factor_offsets)};
  std::vector<int64_t> factor_offsets;
  std::unique_ptr<Memory> factor_memory;
  if (way != Direction::t2i && text_factors.values == nullptr) {
    factor_offsets.push_back(0);
    for (int64_t t = 0; t < texts.items; ++t)
      factor_offsets.push_back(factor_offsets.back() + triangle_size(texts.length(t)));
    factor_memory = std::make_unique<Memory>(4 * factor_offsets.back() + 4);
    text_factors = Factors{factor_memory->floats(), factor_offsets.data()};
    Extent extent{0, 0, 0, 0, 0, longest_of(texts)};
    for_each_task(texts.items, cpu.scratch_bytes(extent, Arithmetic::f32, texts.dim), [&](int64_t t, char* scratch) {
      cpu.triangular_factor(texts, texts.offsets[t], texts.length(t), factor_memory->floats() + factor_offsets[t],
                            scratch);
    });
  }
  const FocalProblem problem{images,
                             texts,
                             way,
                             settings,
                             kept.empty() ? nullptr : kept.data(),
                             {data_of<float>(image_factor), data_of<int64_t>(image_factor_offsets)},
                             text_factors,
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
