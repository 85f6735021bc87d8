// What is done before a product, once each: words in the dtype that the product takes, lengths of rows, scores of -inf.
#include "tensors.cuh"

namespace heritage_align {
namespace {

constexpr int kRowThreads = 128;  // a warp a row
constexpr int kRowsOfBlock = kRowThreads / kLanes;
constexpr int kFillThreads = 256;
constexpr int64_t kFillBlocks = 2048;  // the threads of 132 multiprocessors and more; each goes on from there

struct ConvertParameters {
  Rows from;
  int64_t rows;
  void* to;           // (rows, pitch) of `storage`: float32, float16 or bfloat16
  int64_t pitch;
  Storage storage;
};

__global__ void __launch_bounds__(kRowThreads) convert_rows_kernel(ConvertParameters p) {
  const int lane = threadIdx.x % kLanes;
  for (int64_t r = static_cast<int64_t>(blockIdx.x) * kRowsOfBlock + threadIdx.x / kLanes; r < p.rows;
       r += static_cast<int64_t>(gridDim.x) * kRowsOfBlock) {
    const float scale = scale_of(p.from, r);
    for (int64_t d = lane; d < p.from.dim; d += kLanes) {
      const float x = element_of(p.from, r, d) * scale;
      const int64_t at = r * p.pitch + d;
      if (p.storage == Storage::f32) {
        static_cast<float*>(p.to)[at] = x;
      } else {
        static_cast<uint16_t*>(p.to)[at] = p.storage == Storage::f16 ? f16_of_float(x) : bf16_of_float(x);
      }
    }
  }
}

struct LengthParameters {
  Rows rows;
  int64_t count;
  float* lengths;
};

__global__ void __launch_bounds__(kRowThreads) row_lengths_kernel(LengthParameters p) {
  const int lane = threadIdx.x % kLanes;
  for (int64_t r = static_cast<int64_t>(blockIdx.x) * kRowsOfBlock + threadIdx.x / kLanes; r < p.count;
       r += static_cast<int64_t>(gridDim.x) * kRowsOfBlock) {
    const float length = warp_length(p.rows, r, lane);
    if (lane == 0) p.lengths[r] = length;
  }
}

struct FillParameters {
  float* scores;  // as torch allocates them: at a multiple of 16 bytes
  int64_t count;
};

__global__ void __launch_bounds__(kFillThreads) fill_scores_kernel(FillParameters p) {
  const int64_t thread = static_cast<int64_t>(blockIdx.x) * kFillThreads + threadIdx.x, whole = p.count / 4;
  const float4 four{-INFINITY, -INFINITY, -INFINITY, -INFINITY};
  for (int64_t i = thread; i < whole; i += static_cast<int64_t>(gridDim.x) * kFillThreads)
    reinterpret_cast<float4*>(p.scores)[i] = four;
  if (thread < p.count % 4) p.scores[4 * whole + thread] = -INFINITY;
}

}  // namespace

void fill_scores(const Device& device, Tensor& scores) {
  const int64_t count = scores.numel(), blocks = (count / 4 + kFillThreads) / kFillThreads;
  device.launch(fill_scores_kernel, count == 0 ? 0 : std::min<int64_t>(blocks, kFillBlocks), kFillThreads, 0,
                FillParameters{static_cast<float*>(scores.mutable_data_ptr()), count});
}

Rows words_for(const Device& device, Storage regions, const Tensor& values, const Rows& words, Maybe& memory) {
  const Storage wanted = regions == Storage::i8 && words.storage != Storage::i8 ? Storage::f16 : regions;
  if (words.storage == wanted) return words;
  const int64_t pitch = (words.dim + 7) / 8 * 8, count = values.size(0);
  memory = new_tensor(values, {count, pitch},
                      wanted == Storage::f32   ? ScalarType::Float
                      : wanted == Storage::f16 ? ScalarType::Half
                                               : ScalarType::BFloat16);
  void* to = memory->mutable_data_ptr();
  device.launch(convert_rows_kernel, blocks_for((count + kRowsOfBlock - 1) / kRowsOfBlock), kRowThreads, 0,
                ConvertParameters{words, count, to, pitch, wanted});
  return Rows{to, nullptr, words.offsets, pitch, words.dim, words.items, wanted, true};
}

Tensor lengths_of(const Device& device, const Tensor& values, const Rows& rows) {
  const int64_t count = values.size(0);
  Tensor lengths = new_tensor(values, {count}, ScalarType::Float);
  device.launch(row_lengths_kernel, blocks_for((count + kRowsOfBlock - 1) / kRowsOfBlock), kRowThreads, 0,
                LengthParameters{rows, count, static_cast<float*>(lengths.mutable_data_ptr())});
  return lengths;
}

}  // namespace heritage_align
