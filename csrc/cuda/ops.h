// The ops as torch calls them on CUDA tensors; schemas and meanings of the arguments: csrc/ops.cpp.
#pragma once

#include "../focal_arguments.h"

namespace heritage_align::cuda {

Tensor focal_attention(const FocalArguments& a, const Maybe& bin_order, const Maybe& bin_starts);

// The gradients of the rows of both sides, float32.
std::tuple<Tensor, Tensor> focal_attention_backward(const Tensor& grad, const FocalArguments& a);

Tensor patch_weighted(Tensor queries, Tensor patches, Maybe patch_scales, Tensor patch_offsets, Maybe weights,
                      Maybe global_features, Maybe candidates, int64_t pooling, double temperature, double global_mix,
                      int64_t max_patches);

Tensor maxsim(Tensor queries, Maybe query_scales, Tensor query_offsets, Tensor documents, Maybe document_scales,
              Tensor document_offsets, Maybe candidates, Maybe bin_order, Maybe bin_starts, int64_t max_query,
              int64_t max_document);

Tensor fold_patches(Tensor global_features, Tensor patches, Maybe patch_scales, Tensor patch_offsets,
                    double temperature, bool renormalise, int64_t max_patches);

Tensor triangular_factor(Tensor values, Maybe scales, Tensor offsets, Tensor factor_offsets, int64_t packed_size);

}  // namespace heritage_align::cuda
