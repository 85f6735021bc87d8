// Between torch's tensors and the plain data of problem.h, and the threads. Only what the stable ABI offers.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <atomic>
#include <cstdlib>
#include <memory>
#include <optional>
#include <vector>

#include "level.h"

namespace heritage_align {

using torch::stable::Tensor;
using Maybe = std::optional<Tensor>;

inline Storage storage_of(const Tensor& values) {
  switch (values.scalar_type()) {
    case torch::headeronly::ScalarType::Float:
      return Storage::f32;
    case torch::headeronly::ScalarType::Half:
      return Storage::f16;
    case torch::headeronly::ScalarType::BFloat16:
      return Storage::bf16;
    case torch::headeronly::ScalarType::Char:
      return Storage::i8;
    default:
      STD_TORCH_CHECK(false, "values must be float32, float16, bfloat16 or int8");
  }
}

template <class E>
const E* data_of(const Maybe& tensor) {
  return tensor.has_value() ? static_cast<const E*>(tensor->const_data_ptr()) : nullptr;
}

inline Rows rows_of(const Tensor& values, const Maybe& scales, const Tensor& offsets) {
  const bool one_row = values.size(0) <= 1;
  STD_TORCH_CHECK(values.stride(1) == 1 || values.size(1) <= 1, "the elements of a row must lie side by side");
  const Storage storage = storage_of(values);
  STD_TORCH_CHECK((storage == Storage::i8) == scales.has_value(), "scales belong to int8 values");
  return Rows{values.const_data_ptr(),
              storage,
              data_of<float>(scales),
              one_row ? values.size(1) : values.stride(0),
              values.size(1),
              static_cast<const int64_t*>(offsets.const_data_ptr()),
              offsets.size(0) - 1};
}

// One row an item, as ragged rows: `offsets` receives 0, 1, 2, ...
inline Rows single_rows(const Tensor& values, std::vector<int64_t>& offsets) {
  offsets.resize(values.size(0) + 1);
  for (size_t i = 0; i < offsets.size(); ++i) offsets[i] = static_cast<int64_t>(i);
  return Rows{values.const_data_ptr(), storage_of(values),
              nullptr,                 values.size(0) <= 1 ? values.size(1) : values.stride(0),
              values.size(1),          offsets.data(),
              values.size(0)};
}

inline Tensor new_floats(const Tensor& like, std::initializer_list<int64_t> shape) {
  return torch::stable::new_empty(like, std::vector<int64_t>(shape), torch::headeronly::ScalarType::Float);
}

// 64-byte aligned memory that is not cleared.
class Memory {
 public:
  explicit Memory(size_t bytes) : data_(std::aligned_alloc(64, (bytes + 127) / 64 * 64)) {
    if (data_ == nullptr) throw std::bad_alloc();
  }
  Memory(Memory&& other) noexcept : data_(other.data_) { other.data_ = nullptr; }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  ~Memory() { std::free(data_); }
  char* bytes() const { return static_cast<char*>(data_); }
  float* floats() const { return static_cast<float*>(data_); }

 private:
  void* data_;
};

// Runs body(task, scratch) for every task on torch's threads. Tasks are taken one by one, so that a thread which shares its
// core with another process does not hold up the rest.
template <class Body>
void for_each_task(int64_t tasks, size_t scratch_bytes, const Body& body) {
  std::atomic<int64_t> next{0};
  const int64_t threads = torch::stable::get_num_threads();
  const int64_t workers = tasks < threads ? tasks : threads;
  torch::stable::parallel_for(0, workers, 1, [&](int64_t begin, int64_t end) {
    if (begin == end) return;
    const Memory scratch(scratch_bytes);
    for (int64_t task; (task = next.fetch_add(1)) < tasks;) body(task, scratch.bytes());
  });
}

}  // namespace heritage_align
