// The schemas, and the CUDA drivers as ops of the namespace heritage_align_emulated on CPU tensors. Everything here is
// compiled with -Dheritage_align=heritage_align_emulated.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include "cuda_emulation.h"

#include "../../../csrc/ops.cpp"

#define CUDA CPU
#include "../../../csrc/cuda/register.cu"

// How the fibers of a block take turns, see run_grid.
extern "C" __attribute__((visibility("default"))) void set_thread_order(int order) { emulation::set_order(order); }
extern "C" __attribute__((visibility("default"))) int largest_block() { return emulation::largest_block(); }
