// Registers the CUDA kernels of the ops; the schemas are in csrc/ops.cpp.
#include <torch/csrc/stable/library.h>

#include "ops.h"

STABLE_TORCH_LIBRARY_IMPL(heritage_align, CUDA, m) {
  m.impl("focal_attention", TORCH_BOX(&heritage_align::FocalOp::forward<&heritage_align::cuda::focal_attention>));
  m.impl("focal_attention_backward",
         TORCH_BOX(&heritage_align::FocalOp::backward<&heritage_align::cuda::focal_attention_backward>));
  m.impl("patch_weighted", TORCH_BOX(&heritage_align::cuda::patch_weighted));
  m.impl("maxsim", TORCH_BOX(&heritage_align::cuda::maxsim));
  m.impl("fold_patches", TORCH_BOX(&heritage_align::cuda::fold_patches));
  m.impl("triangular_factor", TORCH_BOX(&heritage_align::cuda::triangular_factor));
}
