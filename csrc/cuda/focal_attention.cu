// The op focal_attention on CUDA.
#include "focal_kernel.cuh"
#include "hopper.h"
#include "ops.h"
#include "tensors.cuh"

namespace heritage_align::cuda {
namespace {

constexpr int64_t kWorkspaceBytes = int64_t{512} << 20;  // for items longer than a tile, at most

// Whether the items and settings are those of focal_tile_kernel.
bool fits_tile(const FocalParameters& p, int64_t max_regions, int64_t max_words) {
  return p.settings.normaliser != Normaliser::softmax && max_words <= kProductWords && max_regions <= kTileRegions &&
         (p.direction == Direction::i2t || max_regions <= kMostRegions) &&
         (p.direction == Direction::t2i || max_words <= kMostWords);
}

template <class P>
void launch(const Device& device, FocalParameters p, const Tensor& like, int64_t max_regions) {
  const bool tile = fits_tile(p, max_regions, p.max_words);
  if (!tile && p.max_words <= kTileWords && max_regions <= kTileRegions) {
    device.launch(focal_attention_kernel<P, false>, blocks_for(p.tasks.count), kThreads, kFocalBytes, p);
    return;
  }
  p.tasks = with_wide_tiles(p.tasks, p.regions.items, p.words.items, p.max_words);
  int64_t blocks = blocks_for(p.tasks.count);
  if (tile) {
    device.launch(focal_tile_kernel<P>, blocks, kThreads, kFocalTileBytes,
                  FocalTileParameters{p, slope_of(p.settings.rectifier), norm_of(p.settings)});
    return;
  }
  p.max_words = std::max<int64_t>(p.max_words, kProductWords);
  p.pitch = std::max<int64_t>(max_regions, kTileRegions) | 1;
  const int64_t of_block = workspace_of_block(p.max_words, p.pitch);
  const int64_t affordable = std::max<int64_t>(1, kWorkspaceBytes / 4 / of_block);
  blocks = std::min({blocks, affordable, int64_t{4} * device.multiprocessors()});
  Tensor workspace = new_tensor(like, {blocks * of_block}, ScalarType::Float);
  p.workspace = static_cast<float*>(workspace.mutable_data_ptr());
  device.launch(focal_attention_kernel<P, true>, blocks, kThreads, kFocalBytes, p);
}

}  // namespace

Tensor focal_attention(Tensor regions, Maybe region_scales, Tensor region_offsets, Tensor words, Maybe word_scales,
                       Tensor word_offsets, Maybe keep, Maybe image_factor, Maybe image_factor_offsets,
                       Maybe text_factor, Maybe text_factor_offsets, Maybe candidates, Maybe pair_order,
                       Maybe pair_starts, Maybe bin_order, Maybe bin_starts, int64_t direction, int64_t rectifier,
                       int64_t normalise, int64_t focal, int64_t aggregate, double temperature, double lse_scale,
                       int64_t max_regions, int64_t max_words) {
  const Device device(regions);
  FocalParameters p{};
  p.settings = focal_settings(rectifier, normalise, focal, aggregate, temperature, lse_scale);
  p.direction = static_cast<Direction>(direction);
  const bool t2i = p.direction != Direction::i2t, i2t = p.direction != Direction::t2i;
  STD_TORCH_CHECK(!t2i || image_factor.has_value(), "t2i needs image_factor");
  STD_TORCH_CHECK(!i2t || text_factor.has_value(), "i2t needs text_factor");
  Maybe word_memory, word_lengths, region_lengths;
  p.regions = rows_of(regions, region_scales, region_offsets);
  p.words = words_for(device, p.regions.storage, words, rows_of(words, word_scales, word_offsets), word_memory);
  p.keep = data_of<uint8_t>(keep);
  p.image_factors = {data_of<float>(image_factor), data_of<int64_t>(image_factor_offsets)};
  p.text_factors = {data_of<float>(text_factor), data_of<int64_t>(text_factor_offsets)};
  p.max_words = max_words;
  Tensor scores = room_for_scores(regions, p.regions.items, p.words.items, candidates);
  p.scores = static_cast<float*>(scores.mutable_data_ptr());
  if (candidates.has_value() && hopper::score_focal_pairs(device, p, *candidates, words, max_regions)) return scores;

  fill_scores(device, scores);
  Maybe order_memory;
  const PairOrder order =
      order_if_worth_it(device, candidates, pair_order, pair_starts, p.regions.items, nullptr, order_memory);
  p.tasks = plan_tasks(p.regions.items, p.words.items, candidates, order, bin_order, bin_starts, max_regions,
                       max_words);
  // Candidates may touch a small part of a large store: then every block measures the regions that it reads anyway.
  if (i2t && !candidates.has_value()) region_lengths = lengths_of(device, regions, p.regions);
  p.region_lengths = data_of<float>(region_lengths);
  if (hopper::fits_focal(device, p, regions, max_regions, max_words) &&
      hopper::score_focal(device, p, regions, words, max_regions, max_words))
    return scores;
  if (t2i) word_lengths = lengths_of(device, words, p.words);
  p.word_lengths = data_of<float>(word_lengths);
  switch (p.regions.storage) {
    case Storage::f32:
      launch<FloatProduct>(device, p, regions, max_regions);
      break;
    case Storage::f16:
      launch<HalfProduct>(device, p, regions, max_regions);
      break;
    case Storage::bf16:
      launch<BrainProduct>(device, p, regions, max_regions);
      break;
    case Storage::i8:
      if (p.words.storage == Storage::i8) {
        launch<Int8Product>(device, p, regions, max_regions);
      } else {
        launch<MixedProduct>(device, p, regions, max_regions);
      }
      break;
  }
  return scores;
}

}  // namespace heritage_align::cuda
