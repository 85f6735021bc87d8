// The op schemas, nothing else. Settings are numbers in the order of the enums in pair_score.h; tensors are as
// heritage_align/ops hands them over after checking: values may be float32, float16, bfloat16 or int8 (then with float32
// row scales), rows of any stride but unit-stride elements; offsets are int64 on the device of the values.
#include <torch/csrc/stable/library.h>

#include "focal_arguments.h"

STABLE_TORCH_LIBRARY(heritage_align, m) {
  m.def("focal_attention(" HA_FOCAL_ARGUMENTS ", Tensor? bin_order, Tensor? bin_starts) -> Tensor");
  m.def("focal_attention_backward(Tensor grad, " HA_FOCAL_ARGUMENTS ") -> (Tensor, Tensor)");
  m.def(
      "patch_weighted(Tensor queries, Tensor patches, Tensor? patch_scales, Tensor patch_offsets, Tensor? weights,"
      " Tensor? global_features, Tensor? candidates, int pooling, float temperature, float global_mix, int max_patches)"
      " -> Tensor");
  m.def(
      "maxsim(Tensor queries, Tensor? query_scales, Tensor query_offsets,"
      " Tensor documents, Tensor? document_scales, Tensor document_offsets,"
      " Tensor? candidates, Tensor? bin_order, Tensor? bin_starts, int max_query, int max_document) -> Tensor");
  m.def(
      "fold_patches(Tensor global_features, Tensor patches, Tensor? patch_scales, Tensor patch_offsets,"
      " float temperature, bool renormalise, int max_patches) -> Tensor");
  m.def(
      "triangular_factor(Tensor values, Tensor? scales, Tensor offsets, Tensor factor_offsets, int packed_size)"
      " -> Tensor");
}
