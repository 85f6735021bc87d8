// Candidate pairs, image by image: each image is then read once for all the texts that ask for it.
//
// Made on the device, from the ids alone: count the texts of each image, sum the counts, give each pair its place.
// Which place among those of its image is left to chance; a pair's score does not depend on it.
#pragma once

#include "rows.cuh"

namespace heritage_align {

struct PairOrder {
  const int64_t* order;   // positions in the flattened candidates; those of no image are left out
  const int64_t* starts;  // of image i: order[starts[i]] .. order[starts[i + 1]]
  const int64_t* images;  // images that some text asks for; null: all
  const int64_t* count;   // how many those are
};

// What a block of a candidate kernel works on: an image and the texts that ask for it, as entries first .. last of the
// order; or, where nothing was ordered, one pair.
struct Asked {
  const int64_t* candidates;
  int64_t candidates_per_text;
  int64_t pairs;
  PairOrder by_image;  // order null: by pair
};

struct AskedImage {
  int64_t image;  // -1: no such image
  int64_t first, last;
};

__device__ __forceinline__ AskedImage asked_image(const Asked& asked, int64_t task, int64_t n_images) {
  const PairOrder& by = asked.by_image;
  if (by.order == nullptr) {
    const int64_t image = asked.candidates[task];
    return {image < n_images ? image : -1, task, task + 1};
  }
  if (by.images != nullptr && task >= *by.count) return {-1, 0, 0};
  const int64_t image = by.images != nullptr ? by.images[task] : task;
  return {image, by.starts[image], by.starts[image + 1]};
}

__device__ __forceinline__ int64_t pair_at(const Asked& asked, int64_t entry) {
  return asked.by_image.order == nullptr ? entry : asked.by_image.order[entry];
}

__device__ __forceinline__ int64_t text_of_pair(const Asked& asked, int64_t pair) {
  // 64-bit division is slow, and few lists are that long.
  return asked.pairs < int64_t{1} << 31
             ? static_cast<uint32_t>(pair) / static_cast<uint32_t>(asked.candidates_per_text)
             : pair / asked.candidates_per_text;
}

}  // namespace heritage_align
