// The current CUDA stream through LibTorch's stable ABI, errors, and kernel launches.
//
// The library targets torch 2.10, in which the stable Stream has no native handle, and it loads on CPU builds of
// torch, in which the CUDA shims do not exist. So the one shim that is needed is looked up when a kernel is first
// launched.
#pragma once

#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#ifdef HERITAGE_ALIGN_EMULATION
#include "launch_emulated.h"
#else
#include <cuda_runtime.h>
#include <dlfcn.h>

#include <mutex>
#include <stdexcept>
#include <string>
#include <unordered_set>

namespace heritage_align {

#define HA_CUDA_CHECK(call)                                                                                   \
  do {                                                                                                        \
    const cudaError_t ha_status = (call);                                                                     \
    if (ha_status != cudaSuccess)                                                                             \
      throw std::runtime_error(std::string("heritage_align: " #call ": ") + cudaGetErrorString(ha_status));   \
  } while (0)

constexpr size_t kSharedBytesOfBlock = 99 * 1024;  // what every GPU since sm_80 gives a block

// What stays as it is for as long as the process lives: the driver is asked once, not at every call of an op.
class DeviceFacts {
 public:
  static DeviceFacts& of(int32_t index) {
    constexpr int32_t most = 128;  // torch numbers devices in eight bits
    static DeviceFacts facts[most];
    if (index < 0 || index >= most)
      throw std::runtime_error("heritage_align: no CUDA device " + std::to_string(index));
    std::call_once(facts[index].asked_, [index] { facts[index].ask(index); });
    return facts[index];
  }

  int multiprocessors() const { return multiprocessors_; }
  bool is_hopper() const { return is_hopper_; }

  // Allows a kernel all the shared memory that a block may have, once, on this device, which must be current. Always
  // the most: threads that launch one kernel with different sizes share this number.
  void allow_all_shared_memory(const void* kernel) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (allowed_.count(kernel) != 0) return;
    HA_CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes_of_block_));
    allowed_.insert(kernel);
  }

 private:
  void ask(int32_t index) {
    const auto attribute = [index](cudaDeviceAttr which) {
      int value = 0;
      HA_CUDA_CHECK(cudaDeviceGetAttribute(&value, which, index));
      return value;
    };
    multiprocessors_ = attribute(cudaDevAttrMultiProcessorCount);
    shared_bytes_of_block_ = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin);
    is_hopper_ =
        attribute(cudaDevAttrComputeCapabilityMajor) == 9 && attribute(cudaDevAttrComputeCapabilityMinor) == 0;
  }

  std::once_flag asked_;
  int multiprocessors_ = 0, shared_bytes_of_block_ = 0;
  bool is_hopper_ = false;
  std::mutex mutex_;
  std::unordered_set<const void*> allowed_;
};

// Makes the device of a tensor current for as long as it lives, and launches on its current stream.
class Device {
 public:
  explicit Device(const torch::stable::Tensor& tensor)
      : index_(tensor.get_device_index()), guard_(index_), stream_(current_stream(index_)),
        facts_(DeviceFacts::of(index_)) {}

  cudaStream_t stream() const { return stream_; }
  int multiprocessors() const { return facts_.multiprocessors(); }
  bool is_hopper() const { return facts_.is_hopper(); }

  template <class Parameters>
  void launch(void (*kernel)(Parameters), int64_t blocks, int threads, size_t shared_bytes,
              const Parameters& parameters) const {
    if (blocks == 0) return;
    if (shared_bytes > 48 * 1024) facts_.allow_all_shared_memory(reinterpret_cast<const void*>(kernel));
    kernel<<<static_cast<unsigned>(blocks), threads, shared_bytes, stream_>>>(parameters);
    HA_CUDA_CHECK(cudaGetLastError());
  }

  void clear(void* at, size_t bytes) const { HA_CUDA_CHECK(cudaMemsetAsync(at, 0, bytes, stream_)); }

 private:
  static cudaStream_t current_stream(int32_t device) {
    using Shim = int32_t (*)(int32_t, void**);
    static const Shim shim = reinterpret_cast<Shim>(dlsym(RTLD_DEFAULT, "aoti_torch_get_current_cuda_stream"));
    if (shim == nullptr)
      throw std::runtime_error("heritage_align: this torch has no aoti_torch_get_current_cuda_stream");
    void* stream = nullptr;
    if (shim(device, &stream) != 0) throw std::runtime_error("heritage_align: torch gave no current CUDA stream");
    return static_cast<cudaStream_t>(stream);
  }

  int32_t index_;
  torch::stable::accelerator::DeviceGuard guard_;
  cudaStream_t stream_;
  DeviceFacts& facts_;
};

}  // namespace heritage_align
#endif
