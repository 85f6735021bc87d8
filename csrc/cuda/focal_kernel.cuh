// Focal attention on tiles: a product, then its epilogue by warps that need nothing of each other. A warp takes a
// context item, finds its factor's operands once (of up to 64 contexts; those of more are made whenever they are
// needed), and scores its query items a few at a time.
#pragma once

#include "focal_factor.cuh"
#include "focal_steps.cuh"

namespace heritage_align {

// One direction of a tile in shared memory.
template <bool i2t>
class Scorer {
 public:
  __device__ __forceinline__ Scorer(const FocalTileParameters& p, const FocalLists& lists, const float* cosines,
                                    float* scratch, const float* region_lengths)
      : p_(p), lists_(lists), cosines_(cosines), scratch_(scratch), region_lengths_(region_lengths) {}

  // All pairs; warps share context items, or what meets them.
  __device__ __forceinline__ void score() const {
    constexpr int kWarps = kThreads / kLanes;
    const int items = i2t ? tile().n_texts : tile().n_images, query_items = i2t ? tile().n_images : tile().n_texts;
    const int parts = items % kWarps == 0 || items > 2 * kWarps ? 1 : items % 2 == 0 ? 2 : 4;
    // By a shuffle, so that the compiler knows it to be the same in all lanes, and loops over it to converge.
    const int warp = __shfl_sync(kAllLanes, threadIdx.x / kLanes, 0);
    for (int unit = warp; unit < items * parts; unit += kWarps) {
      const int item = unit / parts, part = unit % parts;
      const int first = part * query_items / parts, last = (part + 1) * query_items / parts;
      const int contexts = context_start()[item + 1] - context_start()[item];
      if (contexts == 0 || first == last) continue;
      if constexpr (!i2t) {
        if (contexts > kMostHeld) {
          score_item<kMostRegions / 8>(item, contexts, first, last);
          continue;
        }
      }
      // Fewer numbers of groups than Hopper's tiles have: here they come in five products and both directions.
      if (contexts <= 16) {
        score_item<2>(item, contexts, first, last);
      } else if (contexts <= 24) {
        score_item<3>(item, contexts, first, last);
      } else if (contexts <= 40) {
        score_item<5>(item, contexts, first, last);
      } else {
        score_item<8>(item, contexts, first, last);
      }
    }
  }

 private:
  __device__ __forceinline__ const WideTile& tile() const { return lists_.tile; }
  __device__ __forceinline__ const int* query_start() const { return i2t ? tile().region_start : tile().word_start; }
  __device__ __forceinline__ const int* context_start() const { return i2t ? tile().word_start : tile().region_start; }

  __device__ __forceinline__ void find_kept_contexts(int start, int contexts, uint64_t (&kept)[kKeptWords]) const {
    const uint8_t* keep = i2t || p_.focal.keep == nullptr ? nullptr : p_.focal.keep + tile().first_region + start;
    uint64_t all[kKeptWords], some = 0;
    HA_UNROLL
    for (int w = 0; w < kKeptWords; ++w) {
      const int left = contexts - 64 * w, context = 64 * w + static_cast<int>(threadIdx.x % kLanes);
      all[w] = left <= 0 ? 0 : ~uint64_t{0} >> (left < 64 ? 64 - left : 0);
      kept[w] = all[w];
      if (keep == nullptr || left <= 0) continue;
      const uint64_t low = __ballot_sync(kAllLanes, context < contexts && keep[context] != 0);
      const uint64_t high = __ballot_sync(kAllLanes, context + kLanes < contexts && keep[context + kLanes] != 0);
      kept[w] = low | high << kLanes;
      some |= kept[w];
    }
    if (keep != nullptr && some == 0)  // an item that would keep nothing keeps all
      HA_UNROLL
      for (int w = 0; w < kKeptWords; ++w) kept[w] = all[w];
  }

  // Query items first .. last attend to one item, as many at a time as find room.
  template <int groups>
  __device__ __forceinline__ void score_item(int item, int contexts, int first, int last) const {
    const FocalParameters& p = p_.focal;
    const Factors& factors = i2t ? p.text_factors : p.image_factors;
    const int64_t number = i2t ? int64_t{tile().text[item]} : tile().first_image + item;
    const int rank = contexts < p.regions.dim ? contexts : static_cast<int>(p.regions.dim);
    using Factor = typename FactorOf<groups, i2t, (8 * groups <= kMostHeld)>::Type;
    const Factor factor(factors.values + factors.offsets[number], contexts, rank);
    Batch batch{};
    batch.start = context_start()[item];
    batch.contexts = contexts;
    find_kept_contexts(batch.start, contexts, batch.kept);
    const int pitch = (contexts + 1) / 2 * 2;
    const auto room = [&](int end) {  // for results, to an even number
      return (query_start()[end] - query_start()[first] + 1) / 2 * 2;
    };
    for (int end; first < last; first = end) {
      end = first + 1;
      while (end < last && room(end + 1) + (end + 1 - first) * pitch <= kScratch) ++end;
      batch.first = first;
      batch.last = end;
      batch.query = query_start()[first];
      batch.queries = query_start()[end] - batch.query;
      batch.results = scratch_;
      batch.scales = scratch_ + room(end);
      batch.pitch = pitch;
      __syncwarp();  // the scratch is no longer read
      if (i2t) {
        scale_words(p_, query_start(), cosines_, batch);
      } else {
        scale_regions(p_, query_start(), cosines_, batch);
      }
      __syncwarp();
      attend_queries<groups, i2t>(
          p_, batch, factor, i2t ? lists_.image_of_region : lists_.text_of_word, cosines_,
          [&](int query) { return i2t ? region_lengths_[query] : p.word_lengths[tile().row_of_word(query)]; });
      __syncwarp();
      aggregate_items(p.settings, query_start(), batch, [&](int query_item, float score) {
        const int image = i2t ? query_item : item, text = i2t ? item : query_item;
        float& place = p.scores[(tile().first_image + image) * p.tasks.image_step + tile().place[text]];
        place = i2t && p.direction == Direction::both ? place + score : score;
      });
    }
  }

  const FocalTileParameters& p_;
  const FocalLists& lists_;
  const float* cosines_;
  float* scratch_;  // of this warp
  const float* region_lengths_;
};

// The number of each row's item. A barrier must follow.
__device__ __forceinline__ void number_rows(const int* start, int items, uint8_t* item_of_row) {
  for (int item = threadIdx.x; item < items; item += kThreads)
    for (int row = start[item]; row < start[item + 1]; ++row) item_of_row[row] = static_cast<uint8_t>(item);
}

// One direction of a tile. A function of its own, so that this is compiled once and not for each product: it is most of
// the code, and a call a tile costs nothing.
template <bool i2t>
HA_NO_INLINE __device__ void score_tile(const FocalTileParameters& p, const FocalLists& lists, const float* cosines,
                                        float* scratch, const float* region_lengths) {
  Scorer<i2t>(p, lists, cosines, scratch, region_lengths).score();
}

template <class P>
__global__ void __launch_bounds__(kThreads, 2)
    focal_tile_kernel(const __grid_constant__ FocalTileParameters parameters) {
  HA_SHARED_MEMORY(shared);
  FocalLists& lists = *reinterpret_cast<FocalLists*>(shared);
  WideTile& tile = lists.tile;
  unsigned char* stages = shared + kTileListBytes;
  float* cosines = reinterpret_cast<float*>(stages);
  float* scratch = reinterpret_cast<float*>(stages + kCosineBytes);
  float* own_lengths = scratch + kThreads / kLanes * kScratch;
  scratch += threadIdx.x / kLanes * kScratch;
  const FocalParameters& p = parameters.focal;

  for (int64_t task = blockIdx.x; task < p.tasks.count; task += gridDim.x) {
    const TextGroups groups = start_task<Block>(p.tasks, task, p.regions, tile);
    if (groups.first >= groups.last || tile.n_regions == 0) continue;
    number_rows(tile.region_start, tile.n_images, lists.image_of_region);
    const float* lengths = region_lengths_of_tile(p, tile, own_lengths);  // read after the barriers of the product
    for (int64_t group = groups.first; group < groups.last; group += groups.step) {
      start_group<Block>(p.tasks, groups, group, p.words, tile);
      if (tile.n_words == 0) continue;
      number_rows(tile.word_start, tile.n_texts, lists.text_of_word);
      make_product<P>(p.words, p.regions, tile, 0, 0, stages, [&](int word, int region, float x, float y) {
        *reinterpret_cast<float2*>(cosines + cosine_at(word, region)) = {x, y};
      });
      if (p.direction != Direction::i2t) score_tile<false>(parameters, lists, cosines, scratch, lengths);
      if (p.direction == Direction::both) __syncthreads();  // i2t adds to the scores of t2i
      if (p.direction != Direction::t2i) score_tile<true>(parameters, lists, cosines, scratch, lengths);
    }
  }
}

}  // namespace heritage_align
