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

Tensor focal_attention(const FocalArguments& a, const Maybe& bin_order, const Maybe& bin_starts) {
  const Device device(a.regions);
  const Tensor &regions = a.regions, &words = a.words;
  FocalParameters p{};
  p.settings = a.settings();
  p.direction = a.direction();
  STD_TORCH_CHECK(!a.t2i() || a.image_factor.has_value(), "t2i needs image_factor");
  STD_TORCH_CHECK(!a.i2t() || a.text_factor.has_value(), "i2t needs text_factor");
  Maybe word_memory, word_lengths, region_lengths;
  p.regions = rows_of(regions, a.region_scales, a.region_offsets);
  p.words = words_for(device, p.regions.storage, words, rows_of(words, a.word_scales, a.word_offsets), word_memory);
  p.keep = data_of<uint8_t>(a.keep);
  p.image_factors = {data_of<float>(a.image_factor), data_of<int64_t>(a.image_factor_offsets)};
  p.text_factors = {data_of<float>(a.text_factor), data_of<int64_t>(a.text_factor_offsets)};
  p.max_words = a.max_words;
  Tensor scores = room_for_scores(regions, p.regions.items, p.words.items, a.candidates);
  p.scores = static_cast<float*>(scores.mutable_data_ptr());
  if (a.candidates.has_value() && hopper::score_focal_pairs(device, p, *a.candidates, words, a.max_regions))
    return scores;

  fill_scores(device, scores);
  Maybe order_memory;
  const PairOrder order = order_if_worth_it(device, a.candidates, p.regions.items, nullptr, order_memory);
  p.tasks = plan_tasks(p.regions.items, p.words.items, a.candidates, order, bin_order, bin_starts, a.max_regions,
                       a.max_words);
  // Candidates may touch a small part of a large store: then every block measures the regions that it reads anyway.
  if (a.i2t() && !a.candidates.has_value()) region_lengths = lengths_of(device, regions, p.regions);
  p.region_lengths = data_of<float>(region_lengths);
  if (hopper::fits_focal(device, p, regions, a.max_regions, a.max_words) &&
      hopper::score_focal(device, p, regions, words, a.max_regions, a.max_words))
    return scores;
  if (a.t2i()) word_lengths = lengths_of(device, words, p.words);
  p.word_lengths = data_of<float>(word_lengths);
  switch (p.regions.storage) {
    case Storage::f32:
      launch<FloatProduct>(device, p, regions, a.max_regions);
      break;
    case Storage::f16:
      launch<HalfProduct>(device, p, regions, a.max_regions);
      break;
    case Storage::bf16:
      launch<BrainProduct>(device, p, regions, a.max_regions);
      break;
    case Storage::i8:
      if (p.words.storage == Storage::i8) {
        launch<Int8Product>(device, p, regions, a.max_regions);
      } else {
        launch<MixedProduct>(device, p, regions, a.max_regions);
      }
      break;
  }
  return scores;
}

}  // namespace heritage_align::cuda
