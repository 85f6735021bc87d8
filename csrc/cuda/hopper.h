// The path for sm_90a.
#pragma once

#include <cstdlib>
#include <cstring>

#include "focal_attention.cuh"
#include "pooled.cuh"
#include "tensors.cuh"

namespace heritage_align::hopper {

// Whether the path is to be taken where it fits: on a GPU of compute capability 9.0, unless HERITAGE_ALIGN_CUDA_PATH is
// "ampere".
inline bool chosen(const Device& device) {
  if (!device.is_hopper()) return false;
  const char* path = std::getenv("HERITAGE_ALIGN_CUDA_PATH");
  return path == nullptr || std::strcmp(path, "ampere") != 0;
}

// Focal attention of all pairs. fits_focal: whether the path is chosen and the problem such that score_focal may be
// called. That measures the words itself, so p.word_lengths is not needed; region_lengths are, for i2t. False, having
// done nothing: the driver refused.
bool fits_focal(const Device& device, const FocalParameters& p, const Tensor& regions, int64_t max_regions,
                int64_t max_words);
bool score_focal(const Device& device, const FocalParameters& p, const Tensor& regions, const Tensor& words,
                 int64_t max_regions, int64_t max_words);

// Each returns false, having done nothing, where the path is not chosen or does not fit the problem.
// Focal attention of candidates.
bool score_focal_pairs(const Device& device, const FocalParameters& p, const Tensor& candidates, const Tensor& words,
                       int64_t max_regions);
// Patch-weighted similarity and MaxSim of all pairs. `store`: the tensor that p.patches describes; no query has more
// than max_query rows.
bool score_pooled(const Device& device, const PooledParameters& p, const Tensor& store, int64_t max_query);

}  // namespace heritage_align::hopper
