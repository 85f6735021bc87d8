// The ops as torch calls them on CUDA tensors; schemas and meanings of the arguments: csrc/ops.cpp.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <tuple>

namespace heritage_align::cuda {

using torch::stable::Tensor;
using Maybe = std::optional<Tensor>;

Tensor focal_attention(Tensor regions, Maybe region_scales, Tensor region_offsets, Tensor words, Maybe word_scales,
                       Tensor word_offsets, Maybe keep, Maybe image_factor, Maybe image_factor_offsets,
                       Maybe text_factor, Maybe text_factor_offsets, Maybe candidates, Maybe pair_order,
                       Maybe pair_starts, Maybe bin_order, Maybe bin_starts, int64_t direction, int64_t rectifier,
                       int64_t normalise, int64_t focal, int64_t aggregate, double temperature, double lse_scale,
                       int64_t max_regions, int64_t max_words);

// The gradients of the rows of both sides, float32.
std::tuple<Tensor, Tensor> focal_attention_backward(
    Tensor grad, Tensor regions, Maybe region_scales, Tensor region_offsets, Tensor words, Maybe word_scales,
    Tensor word_offsets, Maybe keep, Maybe image_factor, Maybe image_factor_offsets, Maybe text_factor,
    Maybe text_factor_offsets, Maybe candidates, int64_t direction, int64_t rectifier, int64_t normalise, int64_t focal,
    int64_t aggregate, double temperature, double lse_scale, int64_t max_regions, int64_t max_words);

Tensor patch_weighted(Tensor queries, Tensor patches, Maybe patch_scales, Tensor patch_offsets, Maybe weights,
                      Maybe global_features, Maybe candidates, Maybe pair_order, Maybe pair_starts, int64_t pooling,
                      double temperature, double global_mix, int64_t max_patches);

Tensor maxsim(Tensor queries, Maybe query_scales, Tensor query_offsets, Tensor documents, Maybe document_scales,
              Tensor document_offsets, Maybe candidates, Maybe pair_order, Maybe pair_starts, Maybe bin_order,
              Maybe bin_starts, int64_t max_query, int64_t max_document);

Tensor fold_patches(Tensor global_features, Tensor patches, Maybe patch_scales, Tensor patch_offsets,
                    double temperature, bool renormalise, int64_t max_patches);

Tensor triangular_factor(Tensor values, Maybe scales, Tensor offsets, Tensor factor_offsets, int64_t packed_size);

}  // namespace heritage_align::cuda
