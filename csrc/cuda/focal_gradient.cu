// The op focal_attention_backward on CUDA.
#include <tuple>

#include "focal_gradient_spread.cuh"
#include "ops.h"
#include "tensors.cuh"

namespace heritage_align::cuda {
namespace {

#ifdef HERITAGE_ALIGN_EMULATION
constexpr int64_t kChunkBytes = 4 << 10;  // so that tests meet several chunks
#else
constexpr int64_t kChunkBytes = int64_t{512} << 20;  // of C', weights and squares at a time
#endif

struct Room {
  const Tensor& like;
  std::vector<Tensor> kept;

  float* floats(int64_t n) {
    kept.push_back(new_tensor(like, {n}, ScalarType::Float));
    return static_cast<float*>(kept.back().mutable_data_ptr());
  }
};

template <bool of_images>
void spread(const Device& device, const FocalGradientParameters& p, Tensor& out, bool add) {
  const int64_t items = of_images ? p.images() : p.chunk_texts;
  const int64_t longest = of_images ? p.max_regions : p.max_words;
  constexpr int64_t columns = kSpreadThreads * kSpreadColumns;
  const SpreadParameters spread{p, static_cast<float*>(out.mutable_data_ptr()), add,
                                (longest + kSpreadRows - 1) / kSpreadRows, (p.regions.dim + columns - 1) / columns};
  device.launch(squares_kernel<of_images>, items, kSquareThreads, 0, p);
  device.launch(spread_kernel<of_images>, items * spread.row_blocks * spread.column_blocks, kSpreadThreads,
                kSpreadInner * kSpreadRows * sizeof(float), spread);
}

}  // namespace

std::tuple<Tensor, Tensor> focal_attention_backward(const Tensor& grad, const FocalArguments& a) {
  const Device device(a.regions);
  const Tensor &regions = a.regions, &words = a.words;
  const int64_t max_regions = a.max_regions, max_words = a.max_words;
  FocalGradientParameters p{};
  p.settings = a.settings();
  p.direction = a.direction();
  const bool t2i = a.t2i(), i2t = a.i2t();
  STD_TORCH_CHECK(!t2i || a.image_factor.has_value(), "t2i needs image_factor");
  STD_TORCH_CHECK(!i2t || a.text_factor.has_value(), "i2t needs text_factor");
  p.regions = rows_of(regions, a.region_scales, a.region_offsets);
  p.words = rows_of(words, a.word_scales, a.word_offsets);
  p.keep = data_of<uint8_t>(a.keep);
  p.image_factors = {data_of<float>(a.image_factor), data_of<int64_t>(a.image_factor_offsets)};
  p.text_factors = {data_of<float>(a.text_factor), data_of<int64_t>(a.text_factor_offsets)};
  p.n_texts = p.words.items;
  p.max_regions = max_regions;
  p.max_words = max_words;
  const int64_t total_regions = regions.size(0), n_images = p.regions.items;
  Tensor region_gradient = new_tensor(regions, {total_regions, regions.size(1)}, ScalarType::Float);
  Tensor word_gradient = new_tensor(words, {words.size(0), words.size(1)}, ScalarType::Float);
  if (n_images == 0 || p.n_texts == 0 || total_regions == 0 || words.size(0) == 0) {
    torch::stable::zero_(region_gradient);
    torch::stable::zero_(word_gradient);
    return {region_gradient, word_gradient};
  }
  STD_TORCH_CHECK(max_regions > 0 && max_words > 0, "max_regions and max_words are needed");
  Room room{regions, {}};
  Maybe word_lengths, region_lengths;
  if (t2i) word_lengths = lengths_of(device, words, p.words);
  if (i2t) region_lengths = lengths_of(device, regions, p.regions);
  p.word_lengths = data_of<float>(word_lengths);
  p.region_lengths = data_of<float>(region_lengths);
  p.slopes = static_cast<const float*>(grad.const_data_ptr());
  if (a.candidates.has_value()) {
    float* slopes = room.floats(n_images * p.n_texts);
    device.clear(slopes, sizeof(float) * n_images * p.n_texts);
    device.launch(listed_slopes_kernel, (p.n_texts + kListThreads - 1) / kListThreads, kListThreads, 0,
                  ListedSlopes{data_of<int64_t>(a.candidates), p.slopes, p.n_texts, a.candidates->size(1), n_images,
                               slopes});
    p.slopes = slopes;
  }
  const int64_t arrays = 1 + t2i + i2t, of_text = 4 * (arrays * total_regions + max_words) * max_words;
  p.chunk_texts = std::clamp<int64_t>(kChunkBytes / of_text, 1, p.n_texts);
  const int64_t tiles = total_regions * p.columns();
  p.gradient = room.floats(tiles);
  if (t2i) {
    p.weights_t2i = room.floats(tiles);
    p.shares_t2i = room.floats(2 * n_images * p.columns());
  }
  if (i2t) {
    p.weights_i2t = room.floats(tiles);
    p.shares_i2t = room.floats(2 * p.chunk_texts * total_regions);
  }
  p.image_squares = room.floats(n_images * max_regions * max_regions);
  p.text_squares = room.floats(p.chunk_texts * max_words * max_words);
  const int64_t of_pair = work_of_pair(max_regions, max_words);
  size_t shared_bytes = sizeof(float) * of_pair;
  int64_t most_blocks = n_images * p.chunk_texts;
  if (shared_bytes > kSharedBytesOfBlock) {
    shared_bytes = 0;
    most_blocks = std::min<int64_t>(most_blocks, 4 * device.multiprocessors());
    p.workspace = room.floats(most_blocks * of_pair);
  }
  const int64_t at_once = p.chunk_texts;
  for (int64_t first = 0; first < p.n_texts; first += at_once) {
    p.first_text = first;
    p.chunk_texts = std::min(at_once, p.n_texts - first);
    p.pairs = n_images * p.chunk_texts;
    device.launch(pair_gradient_kernel, std::min(most_blocks, p.pairs), kPairThreads, shared_bytes, p);
    spread<true>(device, p, region_gradient, first > 0);
    spread<false>(device, p, word_gradient, false);
  }
  return {region_gradient, word_gradient};
}

}  // namespace heritage_align::cuda
