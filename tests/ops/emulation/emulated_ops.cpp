// The CUDA drivers and kernels, host code and device code, as ops of the namespace heritage_align_emulated on CPU
// tensors. Compiled with -Dheritage_align=heritage_align_emulated; the sources for Hopper are compiled beside this
// file.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include "cuda_emulation.h"

#include "../../../csrc/ops.cpp"
#include "../../../csrc/cuda/focal_attention.cu"
#include "../../../csrc/cuda/focal_gradient.cu"
#include "../../../csrc/cuda/per_image.cu"
#include "../../../csrc/cuda/pairs.cu"
#include "../../../csrc/cuda/pooled.cu"
#include "../../../csrc/cuda/preparation.cu"

#define CUDA CPU
#include "../../../csrc/cuda/register.cu"

// How the fibers of a block take turns, see run_grid.
extern "C" __attribute__((visibility("default"))) void set_thread_order(int order) { emulation::set_order(order); }
extern "C" __attribute__((visibility("default"))) int largest_block() { return emulation::largest_block(); }
