// What a block of hopper_focal_pairs.cu is made of: its sizes, its teams, its images, and the warp that feeds them.
#pragma once

#include "attended_by_warp.cuh"
#include "hopper.h"
#include "hopper_ptx.cuh"

namespace heritage_align::hopper::pairs {

constexpr int kTeamWarps = 4;
constexpr int kTeamThreads = kTeamWarps * kLanes;
constexpr int kSlots = 2;  // images in shared memory; a team frees one as soon as it has multiplied it
constexpr int kRegionFragments = 3, kRegions = kRegionFragments * 16;
constexpr int kChunkColumns = 32;  // four pieces of 16 bytes, one a lane of a quad

// Tiles of 16 words leave room for three teams, of 32 for two.
constexpr int kMaxTeams = 3;
constexpr int teams_for(int word_fragments) { return word_fragments <= 2 ? 3 : 2; }
constexpr int threads_for(int word_fragments) {
  return (teams_for(word_fragments) + 1) * kTeamThreads;  // the last four warps feed, which is one that works
}
// What a thread starts with is 128 or 168 registers; the feeding warps leave a part of theirs to the teams.
constexpr int kFeedRegisters = 56;
constexpr int team_registers_for(int word_fragments) { return word_fragments <= 2 ? 152 : 224; }

struct Sizes {
  int words;          // of a tile: 16 or 32
  int regions;        // of an image, at most
  int region_pitch;   // bytes between the rows of an image
  int factor_pitch;   // floats
  int partial_pitch;  // floats, odd
  bool i2t;

  // Of a team: the quarters of the product, R, and for i2t the factors of the tile's texts. A thread that adds quarters
  // leaves the cosine in place of the first and the logit in place of the second; then what step 2 needs and yields
  // follows in place of the others.
  __host__ __device__ int partial_floats() const { return (regions * partial_pitch + 3) / 4 * 4; }
  __host__ __device__ int weights_at() const { return 2 * partial_floats(); }
  __host__ __device__ int results_at() const { return weights_at() + kTeamWarps * kWarpContexts * 4; }
  __host__ __device__ int quarters_floats() const {
    const int later = results_at() + (i2t ? regions * words : 0);
    return later > kTeamWarps * partial_floats() ? later : kTeamWarps * partial_floats();
  }
  __host__ __device__ int factor_floats() const { return (regions * factor_pitch + 3) / 4 * 4; }
  __host__ __device__ int text_factor_pitch() const { return words + 1; }
  __host__ __device__ int text_factor_floats() const { return i2t ? words * text_factor_pitch() : 0; }
  __host__ __device__ int team_floats() const { return quarters_floats() + factor_floats() + text_factor_floats(); }
  __host__ __device__ int slot_bytes() const { return regions * region_pitch; }
};

struct Parameters {
  FocalParameters focal;
  Asked asked;
  int64_t tasks;
  Sizes sizes;
  const float* word_scales;  // where the words were int8, else null
};

struct Image {
  AskedImage asked;
  int64_t first_region, factor;
  int regions;
};

// Of each team: whether its image is known and has come, and whether it has freed the slot again. The image of step s is
// in slot s % kSlots, for team s % teams; by team and not by slot, so that a barrier is never two phases ahead of who
// waits.
struct Pipeline {
  Barrier known[kMaxTeams], come[kMaxTeams], freed[kMaxTeams];
  Image images[kMaxTeams];
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

struct Team {
  static constexpr int kSize = kTeamThreads;
  __device__ static int number() { return threadIdx.x / kTeamThreads; }
  __device__ static int thread() { return threadIdx.x % kTeamThreads; }
  __device__ static void sync() { named_barrier<kTeamThreads>(1 + number()); }
};

__device__ __forceinline__ Image image_of(const Parameters& p, int64_t task) {
  Image image{asked_image(p.asked, task, p.focal.regions.items), 0, 0, 0};
  if (image.asked.image >= 0) {
    if (p.focal.direction != Direction::i2t) image.factor = p.focal.image_factors.offsets[image.asked.image];
    image.first_region = p.focal.regions.start(image.asked.image);
    image.regions = static_cast<int>(p.focal.regions.start(image.asked.image + 1) - image.first_region);
  }
  return image;
}

__device__ __forceinline__ Image image_of_lane(const Image& own, int lane) {
  const auto shuffled = [&](auto x) { return __shfl_sync(kAllLanes, x, lane); };
  return {{shuffled(own.asked.image), shuffled(own.asked.first), shuffled(own.asked.last)},
          shuffled(own.first_region), shuffled(own.factor), shuffled(own.regions)};
}

// Asks an image and its factor into the L2.
__device__ __forceinline__ void ask_for(const Parameters& p, const Image& image, const unsigned char* rows,
                                        int64_t row_pitch, uint32_t row_bytes) {
  const int lane = threadIdx.x % kLanes;
  if (row_pitch == row_bytes) {
    if (lane == 0 && image.regions > 0) ask_into_l2(rows, image.regions * row_bytes);
  } else {
    HA_NO_UNROLL
    for (int r = lane; r < image.regions; r += kLanes) ask_into_l2(rows + r * row_pitch, row_bytes);
  }
  if (lane != 0 || p.focal.direction == Direction::i2t || image.regions == 0) return;
  const auto factor = reinterpret_cast<uintptr_t>(p.focal.image_factors.values + image.factor);
  const uintptr_t from = factor / 16 * 16, to = (factor + triangle_size(image.regions) * sizeof(float) + 15) / 16 * 16;
  ask_into_l2(reinterpret_cast<const void*>(from), static_cast<uint32_t>(to - from));
}

// By one warp, whose lanes find out what the images of 32 steps are, in the time of one. While teams score, no slot may
// be free; so that device memory is read all the same, the image that comes when a slot is freed is asked into the L2 as
// soon as the one before it is under way (two for each multiprocessor: of 36 x 1024, 20 MB in all).
template <Storage storage, int kTeams>
__device__ __forceinline__ void feed(const Parameters& p, unsigned char* slots, Pipeline& pipeline) {
  const int lane = threadIdx.x % kLanes;
  const int64_t row_pitch = p.focal.regions.stride * element_size(storage);
  const auto row_bytes = static_cast<uint32_t>(p.focal.regions.dim * element_size(storage));
  const auto rows_of_image = [&](const Image& image) {
    return static_cast<const unsigned char*>(p.focal.regions.values) + image.first_region * row_pitch;
  };
  Image of_lane{};
  uint32_t step = 0;
  for (int64_t task = blockIdx.x; task < p.tasks; task += gridDim.x, ++step) {
    if (step % kLanes == 0) {
      const int64_t task_of_lane = task + lane * static_cast<int64_t>(gridDim.x);
      if (task_of_lane < p.tasks) of_lane = image_of(p, task_of_lane);
      __syncwarp();
    }
    const Image image = image_of_lane(of_lane, step % kLanes);
    const uint32_t slot = step % kSlots, team = step % kTeams;
    const uint32_t before = step - kSlots;  // who had the slot
    if (step >= kSlots) pipeline.freed[before % kTeams].wait(before / kTeams & 1);
    Barrier& come = pipeline.come[team];
    if (lane == 0) {
      pipeline.images[team] = image;
      pipeline.known[team].arrive();
      come.arrive_expecting(image.regions * row_bytes);
    }
    __syncwarp();
    const unsigned char* from = rows_of_image(image);
    HA_NO_UNROLL
    for (int r = lane; r < image.regions; r += kLanes)
      copy_bulk(slots + slot * p.sizes.slot_bytes() + r * p.sizes.region_pitch, from + r * row_pitch, row_bytes, come);
    const int later = step % kLanes + kSlots;
    if (later < kLanes && task + kSlots * static_cast<int64_t>(gridDim.x) < p.tasks) {
      const Image coming = image_of_lane(of_lane, later);
      ask_for(p, coming, rows_of_image(coming), row_pitch, row_bytes);
    }
  }
}

#endif

}  // namespace heritage_align::hopper::pairs
