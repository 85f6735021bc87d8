// What a block works on: some whole images and some whole texts, found from the task's number. Every op has the same
// tasks.
//
// All pairs: a group of texts (a bin of the planner, else consecutive texts) by a group of consecutive images.
// Candidates, image by image: one image by the texts that ask for it, a group at a time, so that the image is read
// once. Candidates, pair by pair: one image by one text; where few texts share an image, that fills the GPU better.
#pragma once

#include "rows.cuh"

namespace heritage_align {

constexpr int kTileWords = 64;     // words of a bin of the planner
constexpr int kTileRegions = 144;  // regions of a tile: four images of 36
constexpr int kTileImages = 64;    // images of a tile at most
constexpr int kRaster = 16;        // text groups that run side by side over the images: their words stay in L2

enum class Plan : int32_t { all_pairs, by_image, by_pair };

struct Tasks {
  Plan plan;
  int64_t count;
  int64_t text_groups;      // all pairs
  int64_t image_groups;     // all pairs
  int64_t pairs;            // candidates
  int64_t splits;           // by image: blocks that share an image's texts
  int texts_per_group;      // where no bins are given
  int images_per_group;
  int64_t bins;             // all pairs, where the planner packed the texts
  int bins_per_group;
  const int32_t* bin_order;
  const int32_t* bin_starts;
  const int64_t* candidates;
  const int64_t* pair_order;
  const int64_t* pair_starts;
  int64_t candidates_per_text;
  int64_t image_step;       // the score of an image and a text goes to image * image_step + the text's place
};

// Where in the flattened candidates an entry of the order is; pair by pair there is no order.
__device__ __forceinline__ int64_t pair_at(const Tasks& tasks, int64_t entry) {
  return tasks.pair_order == nullptr ? entry : tasks.pair_order[entry];
}

// The texts and images of a tile that have rows, in shared memory. Longer than a tile means one text, or one image,
// alone.
template <int words>
struct TileOf {
  static constexpr int kWords = words;

  int n_texts, n_images;
  int n_words, n_regions;
  int64_t first_image;                   // images are consecutive
  int64_t first_region;
  int32_t text[words];
  int64_t place[words];
  int64_t word_row[words];               // row of the words; only the first where there are more than the tile holds
  int word_start[words + 1];
  int region_start[kTileImages + 1];
  uint8_t keeps_some[kTileImages];

  __device__ int64_t row_of_word(int word) const {
    return n_words <= words ? word_row[word] : word_row[0] + word;
  }
};

using Tile = TileOf<kTileWords>;

// The groups of texts first, first + step, ... below last, all against the tile's images.
struct TextGroups {
  int64_t first, last, step;
  int64_t begin, end;  // of the entries that the groups divide; by bins: not used
};

struct Corner {
  int64_t text_group, first_image;
};

// All pairs: which tile a task is. kRaster text groups run side by side; the last stripe may be narrower.
__device__ inline Corner corner_of(const Tasks& tasks, int64_t task) {
  const int64_t stripe = task / (kRaster * tasks.image_groups);
  const int64_t rest = task - stripe * kRaster * tasks.image_groups;
  const int64_t left = tasks.text_groups - stripe * kRaster, width = left < kRaster ? left : kRaster;
  return {stripe * kRaster + rest % width, rest / width * tasks.images_per_group};
}

// Sets the images of the tile and returns the groups of texts that meet them; called by the whole team, ends with a
// barrier.
template <class Team, int words>
__device__ inline TextGroups start_task(const Tasks& tasks, int64_t task, const Rows& images, TileOf<words>& tile) {
  TextGroups groups{};
  int64_t first_image = 0, n_images = 1;
  if (tasks.plan == Plan::all_pairs) {
    const Corner corner = corner_of(tasks, task);
    first_image = corner.first_image;
    n_images = images.items - first_image;
    if (n_images > tasks.images_per_group) n_images = tasks.images_per_group;
    groups = {corner.text_group, corner.text_group + 1, 1, 0, 0};
  } else if (tasks.plan == Plan::by_image) {
    first_image = task / tasks.splits;
    const int64_t begin = tasks.pair_starts[first_image], end = tasks.pair_starts[first_image + 1];
    const int64_t count = (end - begin + tasks.texts_per_group - 1) / tasks.texts_per_group;
    groups = {task % tasks.splits, count, tasks.splits, begin, end};
  } else {
    first_image = tasks.candidates[pair_at(tasks, task)];
    const bool exists = first_image >= 0 && first_image < images.items;
    if (!exists) first_image = 0;
    groups = {0, exists ? 1 : 0, 1, task, task + 1};
  }
  Team::sync();  // the tile of the task before is no longer read
  for (int i = Team::thread(); i <= n_images; i += Team::kSize)
    tile.region_start[i] = static_cast<int>(images.start(first_image + i) - images.start(first_image));
  if (Team::thread() == 0) {
    tile.n_images = static_cast<int>(n_images);
    tile.first_image = first_image;
    tile.first_region = images.start(first_image);
    tile.n_regions = static_cast<int>(images.start(first_image + n_images) - tile.first_region);
  }
  Team::sync();
  return groups;
}

// Lists the texts of a group that have words; called by the whole team, ends with a barrier. Its first warp works:
// each lane looks up a text, and sums over the lanes before it give every text its place.
template <class Team, int words>
__device__ inline void start_group(const Tasks& tasks, const TextGroups& groups, int64_t group, const Rows& texts,
                                   TileOf<words>& tile) {
  Team::sync();  // the group before is no longer read
  if (Team::thread() < kLanes) {
    const int lane = Team::thread();
    int64_t begin, end;
    if (tasks.plan == Plan::all_pairs && tasks.bin_order != nullptr) {
      const int64_t first = group * tasks.bins_per_group, last = first + tasks.bins_per_group;
      begin = tasks.bin_starts[first];
      end = tasks.bin_starts[last < tasks.bins ? last : tasks.bins];
    } else {
      const int64_t limit = tasks.plan == Plan::all_pairs ? texts.items : groups.end;
      begin = groups.begin + group * tasks.texts_per_group;
      end = begin + tasks.texts_per_group < limit ? begin + tasks.texts_per_group : limit;
    }
    int n_texts = 0, n_words = 0;
    for (int64_t at = begin; at < end; at += kLanes) {
      int64_t text = 0, place = 0, row = 0;
      int length = 0;
      if (at + lane < end) {
        if (tasks.plan != Plan::all_pairs) {
          place = pair_at(tasks, at + lane);
          text = place / tasks.candidates_per_text;
        } else {
          text = place = tasks.bin_order != nullptr ? tasks.bin_order[at + lane] : at + lane;
        }
        row = texts.start(text);
        length = static_cast<int>(texts.start(text + 1) - row);
      }
      int words_to_here = length;
      for (int step = 1; step < kLanes; step *= 2) {
        const int before = __shfl_up_sync(kAllLanes, words_to_here, step);
        if (lane >= step) words_to_here += before;
      }
      const unsigned with_words = __ballot_sync(kAllLanes, length > 0);
      if (length > 0) {
        const int slot = n_texts + __popc(with_words & ((1u << lane) - 1u));
        const int start = n_words + words_to_here - length;
        tile.text[slot] = static_cast<int32_t>(text);
        tile.place[slot] = place;
        tile.word_start[slot] = start;
        for (int w = 0; w < length && start + w < words; ++w) tile.word_row[start + w] = row + w;
      }
      n_texts += __popc(with_words);
      n_words += __shfl_sync(kAllLanes, words_to_here, kLanes - 1);
    }
    if (lane == 0) {
      tile.n_texts = n_texts;
      tile.n_words = n_words;
      tile.word_start[n_texts] = n_words;
    }
  }
  Team::sync();
}

// For each image of the tile, whether `keep` (of all regions) leaves it a region; ends with a barrier.
template <class Team, int words>
__device__ inline void find_kept(const uint8_t* keep, TileOf<words>& tile) {
  const int lane = Team::thread() % kLanes;
  for (int i = Team::thread() / kLanes; i < tile.n_images; i += Team::kSize / kLanes) {
    bool some = false;
    for (int r = tile.region_start[i] + lane; r < tile.region_start[i + 1]; r += kLanes)
      some = some || keep[tile.first_region + r] != 0;
    some = __any_sync(kAllLanes, some);
    if (lane == 0) tile.keeps_some[i] = some;
  }
  Team::sync();
}

}  // namespace heritage_align
