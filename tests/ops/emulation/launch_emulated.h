// The twin of csrc/cuda/stream.h: a launch runs the grid, block after block, before it returns.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <cstring>

#include "cuda_emulation.h"

namespace heritage_align {

constexpr size_t kSharedBytesOfBlock = 99 * 1024;

class Device {
 public:
  explicit Device(const torch::stable::Tensor&) {}
  int multiprocessors() const { return 2; }
  bool is_hopper() const { return true; }  // HERITAGE_ALIGN_CUDA_PATH decides

  void clear(void* at, size_t bytes) const { memset(at, 0, bytes); }

  template <class Parameters>
  void launch(void (*kernel)(Parameters), int64_t blocks, int threads, size_t shared_bytes,
              const Parameters& parameters) const {
    emulation::run_grid(blocks, threads, shared_bytes, [&] { kernel(parameters); });
  }
};

}  // namespace heritage_align
