// The path for sm_90a. It was compiled and emulated but has never met a GPU, so it runs only where it is asked for:
// HERITAGE_ALIGN_CUDA_PATH=hopper.
#pragma once

#include "focal_attention.cuh"
#include "rerank.cuh"
#include "tensors.cuh"

namespace heritage_align::hopper {

// Each returns false, having done nothing, where it is not asked for, does not fit the problem, or the GPU is no
// Hopper.
bool score_focal(const Device& device, const FocalParameters& p, const Tensor& regions, int64_t max_regions,
                 int64_t max_words);
bool score_pairs(const Device& device, const RerankParameters& p);

bool asked_for();

}  // namespace heritage_align::hopper
