// The op schemas, nothing else. Settings are numbers in the order of the enums in pair_score.h; tensors are as
// heritage_align/ops hands them over after checking: values may be float32, float16, bfloat16 or int8 (then with float32
// row scales), rows of any stride but unit-stride elements; offsets are int64 on the device of the values.
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(heritage_align, m) {
  m.def(
      "focal_attention(Tensor regions, Tensor? region_scales, Tensor region_offsets,"
      " Tensor words, Tensor? word_scales, Tensor word_offsets, Tensor? keep,"
      " Tensor? image_factor, Tensor? image_factor_offsets, Tensor? text_factor, Tensor? text_factor_offsets,"
      " Tensor? candidates, Tensor? pair_order, Tensor? pair_starts, Tensor? bin_order, Tensor? bin_starts,"
      " int direction, int rectifier, int normalise, int focal, int aggregate, float temperature, float lse_scale,"
      " int max_regions, int max_words) -> Tensor");
  m.def(
      "focal_attention_backward(Tensor grad, Tensor regions, Tensor? region_scales, Tensor region_offsets,"
      " Tensor words, Tensor? word_scales, Tensor word_offsets, Tensor? keep,"
      " Tensor? image_factor, Tensor? image_factor_offsets, Tensor? text_factor, Tensor? text_factor_offsets,"
      " Tensor? candidates, int direction, int rectifier, int normalise, int focal, int aggregate,"
      " float temperature, float lse_scale, int max_regions, int max_words) -> (Tensor, Tensor)");
  m.def(
      "patch_weighted(Tensor queries, Tensor patches, Tensor? patch_scales, Tensor patch_offsets, Tensor? weights,"
      " Tensor? global_features, Tensor? candidates, Tensor? pair_order, Tensor? pair_starts,"
      " int pooling, float temperature, float global_mix, int max_patches) -> Tensor");
  m.def(
      "maxsim(Tensor queries, Tensor? query_scales, Tensor query_offsets,"
      " Tensor documents, Tensor? document_scales, Tensor document_offsets,"
      " Tensor? candidates, Tensor? pair_order, Tensor? pair_starts, Tensor? bin_order, Tensor? bin_starts,"
      " int max_query, int max_document) -> Tensor");
  m.def(
      "fold_patches(Tensor global_features, Tensor patches, Tensor? patch_scales, Tensor patch_offsets,"
      " float temperature, bool renormalise, int max_patches) -> Tensor");
  m.def(
      "triangular_factor(Tensor values, Tensor? scales, Tensor offsets, Tensor factor_offsets, int packed_size)"
      " -> Tensor");
}
