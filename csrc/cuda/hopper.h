// The path for sm_90a. It has been compiled, never run, and so runs only if asked for: HERITAGE_ALIGN_CUDA_PATH=hopper.
#pragma once

#include "focal_attention.cuh"
#include "rerank.cuh"
#include "tensors.cuh"

namespace heritage_align::hopper {

#ifdef HERITAGE_ALIGN_EMULATION
inline bool score_focal(const Device&, const FocalParameters&, const Tensor&, int64_t, int64_t) { return false; }
inline bool score_pairs(const Device&, const RerankParameters&) { return false; }
#else
// Each returns false, having done nothing, where it is not asked for, does not fit the problem, or the GPU is no Hopper.
bool score_focal(const Device& device, const FocalParameters& p, const Tensor& regions, int64_t max_regions,
                 int64_t max_words);
bool score_pairs(const Device& device, const RerankParameters& p);
#endif

}  // namespace heritage_align::hopper
