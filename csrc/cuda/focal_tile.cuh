// Focal attention on a tile of cosines in shared memory, for items of up to 64 rows: the three steps of
// epilogue/focal_attention.h by warps that need nothing of each other. A warp takes a context item, finds its factor's
// operands once, and scores its query items a few at a time.
#pragma once

#include "attend.cuh"
#include "focal_attention.cuh"

namespace heritage_align {

constexpr int kMostContexts = 64;

// Cosine of a word and a region of the tile. Even and odd pairs of words lie 8 floats apart: the pairs of regions that
// a quad reads of four words, and the eight regions of four words, then meet all banks.
__device__ __forceinline__ int cosine_at(int word, int region) {
  return word * kTileRegions + (region ^ (word & 2) << 2);
}

// Shared memory of a block: the tile's lists, the chunks and, after them in time, cosines, then floats: for each warp
// scratch for a batch, and lengths of regions. What is read behind the last row or column of something lies before the
// end of it all, and gets no weight.
struct FocalLists {
  WideTile tile;
  uint8_t text_of_word[kProductWords];
  uint8_t image_of_region[kTileRegions];
};
constexpr int kScratch = 300;  // six texts of 13 words by 36 regions
constexpr int kTileListBytes = (static_cast<int>(sizeof(FocalLists)) + 127) / 128 * 128;
constexpr int kCosineBytes = kProductWords * kTileRegions * static_cast<int>(sizeof(float));
constexpr int kFocalTileBytes = kTileListBytes + kCosineBytes +
                                (kThreads / kLanes * kScratch + kTileRegions) * static_cast<int>(sizeof(float));
static_assert(kProductBytes <= kCosineBytes, "cosines take the place of the chunks");
static_assert(kFocalTileBytes <= kHalfOfShared, "two blocks share an A100's multiprocessor");
static_assert(kScratch >= kTileRegions + kMostContexts && kScratch % 2 == 0, "room for one query item");

struct FocalTileParameters {
  FocalParameters focal;
  float slope;  // of the rectifier, see slope_of
  Norm norm;
};

// A pair's items in the tile, as queries and contexts. Context 8 q + 2 t + i of a lane is region 8 q + 2 t + i of an
// image, but word 8 q + t + 4 i of a text: the four words that a quad reads at once then lie in different banks.
template <bool i2t>
struct Roles {
  static __device__ __forceinline__ int context(int q, int t, int i) { return 8 * q + (i2t ? t + 4 * i : 2 * t + i); }
  static __device__ __forceinline__ int at(int query, int context) {
    return i2t ? cosine_at(context, query) : cosine_at(query, context);
  }
};

// The factor of an item as operands of mma.sync, see squared_lengths: two halves of 11 bits of R times a power of two
// that brings its largest entry to [2^7, 2^8).
template <int groups, bool i2t>
struct FactorOfTriangle {
  uint2 held[factor_blocks(groups)];
  float unscale;

  __device__ __forceinline__ FactorOfTriangle(const float* R, int m, int rank) {
    const int lane = threadIdx.x % kLanes, g = lane / 4, t = lane % 4;
    float x[factor_blocks(groups)][2], top = 0.0f;
    HA_UNROLL
    for (int j = 0; j < groups; ++j)
      HA_UNROLL
      for (int q = j; q < groups; ++q)
        HA_UNROLL
        for (int i = 0; i < 2; ++i) {
          const int row = 8 * j + g, context = Roles<i2t>::context(q, t, i);
          const bool inside = row < rank && row <= context && context < m;
          float& entry = x[number_of(j, q)][i];
          entry = inside ? R[row * m - row * (row + 1) / 2 + context] : 0.0f;
          top = fmaxf(top, fabsf(entry));
        }
    for (int step = kLanes / 2; step > 0; step /= 2) top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, step));
    int exponent = 0;
    if (top > 0.0f && top < INFINITY) frexpf(top, &exponent);
    exponent = exponent < -100 ? -100 : exponent;
    const float scale = ldexpf(1.0f, 8 - exponent);
    unscale = ldexpf(1.0f, exponent - 8);
    HA_UNROLL
    for (int b = 0; b < factor_blocks(groups); ++b) {
      const float first = x[b][0] * scale, second = x[b][1] * scale;
      const uint32_t high = halves_of_floats(first, second);
      held[b] = {high, halves_of_floats(first - float_of_f16(static_cast<uint16_t>(high)),
                                        second - float_of_f16(static_cast<uint16_t>(high >> 16)))};
    }
  }

  static __host__ __device__ constexpr int number_of(int j, int q) { return j * groups - j * (j - 1) / 2 + q - j; }
  __device__ __forceinline__ uint2 block(int j, int q) const { return held[number_of(j, q)]; }
};

// Query items first .. last, whose queries are the tile's from `query` on, and one context item.
struct Batch {
  int first, last;
  int query, queries;
  int start, contexts;
  uint64_t kept;   // a bit for each context that may be weighed
  float* results;  // of the queries
  float* scales;   // of the logits, by query item and context
  int pitch;       // of the scales, even
};

// Step 1: scales[query item][context]. t2i: a lane walks down two regions, the words of all texts of the batch one
// after the other, four read ahead.
__device__ __forceinline__ void scale_regions(const FocalTileParameters& p, const int* text_start,
                                              const float* cosines, const Batch& m) {
  constexpr int kAhead = 4;
  const int lane = threadIdx.x % kLanes, columns = m.contexts > kLanes ? 2 : 1;
  const float slope = p.slope;
  const float* from[2][kAhead];
  HA_UNROLL
  for (int k = 0; k < 2; ++k)
    HA_UNROLL
    for (int i = 0; i < kAhead; ++i) from[k][i] = cosines + cosine_at(m.query + i, m.start + lane + k * kLanes);
  int text = m.first, end = text_start[text + 1] - m.query;
  float squares[2] = {0.0f, 0.0f};
  for (int word = 0; word < m.queries; word += kAhead) {
    float x[kAhead][2];
    HA_UNROLL
    for (int i = 0; i < kAhead; ++i)
      HA_UNROLL
      for (int k = 0; k < 2; ++k) x[i][k] = k < columns ? from[k][i][word * kTileRegions] : 0.0f;
    HA_UNROLL
    for (int i = 0; i < kAhead; ++i) {
      HA_UNROLL
      for (int k = 0; k < 2; ++k) {
        const float rectified = fmaxf(x[i][k], slope * x[i][k]);
        squares[k] += rectified * rectified;
      }
      if (word + i + 1 != end) continue;  // the same for all lanes
      HA_UNROLL
      for (int k = 0; k < 2; ++k) {
        if (lane + k * kLanes < m.contexts)
          m.scales[(text - m.first) * m.pitch + lane + k * kLanes] = logit_scale(p.norm, squares[k]);
        squares[k] = 0.0f;
      }
      ++text;
      end = text < m.last ? text_start[text + 1] - m.query : 0;
    }
  }
}

// The same for i2t: a quad walks along the regions of an image, of a word; eight words a warp.
__device__ __forceinline__ void scale_words(const FocalTileParameters& p, const int* image_start,
                                            const float* cosines, const Batch& m) {
  constexpr int kAhead = 5;  // an image of 36 takes nine
  const int lane = threadIdx.x % kLanes, g = lane / 4, t = lane % 4;
  const float slope = p.slope;
  for (int image = m.first; image < m.last; ++image) {
    const int start = image_start[image], count = image_start[image + 1] - start;
    for (int first = 0; first < m.contexts; first += 8) {
      const int word = first + g < m.contexts ? first + g : m.contexts - 1;
      float squares = 0.0f;
      for (int region = t; region < count + t; region += 4 * kAhead) {
        float x[kAhead];
        HA_UNROLL
        for (int i = 0; i < kAhead; ++i)
          x[i] = region + 4 * i < count ? cosines[cosine_at(m.start + word, start + region + 4 * i)] : 0.0f;
        HA_UNROLL
        for (int i = 0; i < kAhead; ++i) {
          const float rectified = fmaxf(x[i], slope * x[i]);
          squares += rectified * rectified;
        }
      }
      squares = quad_sum(squares);
      if (t == 0) m.scales[(image - m.first) * m.pitch + word] = logit_scale(p.norm, squares);
    }
  }
}

// Cosines and logits of 16 queries from `first`, the last query in the place of those behind it. `plain`: a lane's two
// regions can be read at once, and all contexts but some of the last eight may be weighed.
template <int groups, bool i2t, bool plain>
__device__ __forceinline__ void read_block(const FocalTileParameters& p, const Batch& m, const uint8_t* item_of_query,
                                           const float* cosines, int first, Elements<groups>& c,
                                           Elements<groups>& logits) {
  const int lane = threadIdx.x % kLanes, g = lane / 4, t = lane % 4;
  const float slope = p.slope;
  HA_UNROLL
  for (int row = 0; row < 2; ++row) {
    const int next = first + row * 8 + g, last = m.query + m.queries - 1, query = next < last ? next : last;
    const float* scales = m.scales + (item_of_query[query] - m.first) * m.pitch;
    const int skew = (query & 2) << 2, column = m.start + 2 * t;
    const float* of_query = cosines + query * kTileRegions;
    const float* even = of_query + (column ^ skew);  // with q even: 8 q does not touch the bit that changes
    const float* odd = of_query + ((column + 8) ^ skew) - 8;
    HA_UNROLL
    for (int q = 0; q < groups; ++q) {
      float2 cosine, scale;
      if (i2t) {
        int words[2];
        HA_UNROLL
        for (int i = 0; i < 2; ++i) {
          const int word = Roles<i2t>::context(q, t, i);
          words[i] = word < m.contexts ? word : m.contexts - 1;
        }
        cosine = {cosines[cosine_at(m.start + words[0], query)], cosines[cosine_at(m.start + words[1], query)]};
        scale = {scales[words[0]], scales[words[1]]};
      } else {
        const int at = column + 8 * q;
        cosine = plain ? two_at((q % 2 == 0 ? even : odd) + 8 * q)
                       : float2{of_query[at ^ skew], of_query[(at + 1) ^ skew]};
        scale = two_at(scales + 8 * q + 2 * t);
      }
      c[q][2 * row] = cosine.x;
      c[q][2 * row + 1] = cosine.y;
      logits[q][2 * row] = scale.x * fmaxf(cosine.x, slope * cosine.x);
      logits[q][2 * row + 1] = scale.y * fmaxf(cosine.y, slope * cosine.y);
    }
  }
  HA_UNROLL
  for (int q = plain ? groups - 1 : 0; q < groups; ++q)
    HA_UNROLL
    for (int i = 0; i < 4; ++i)
      if ((m.kept >> Roles<i2t>::context(q, t, i % 2) & 1) == 0) {
        logits[q][i] = -INFINITY;
        c[q][i] = 0.0f;  // behind the item: perhaps not a number
      }
}

// Step 2 for the queries of a batch.
template <int groups, bool i2t, class LengthOf>
__device__ __forceinline__ void attend_queries(const FocalTileParameters& p, const Batch& m,
                                               const FactorOfTriangle<groups, i2t>& factor,
                                               const uint8_t* item_of_query, const float* cosines,
                                               LengthOf length_of) {
  constexpr int kBlocks = 2;
  constexpr uint64_t kFull = ~uint64_t{0} >> (kMostContexts - 8 * (groups - 1));
  const FocalSettings& s = p.focal.settings;
  const bool plain = (i2t || m.start % 2 == 0) && (m.kept & kFull) == kFull;
  HA_NO_UNROLL
  for (int first = 0; first < m.queries; first += kBlocks * kBlockQueries) {
    const int own = first + query_of_lane();
    const float length = own < m.queries ? length_of(m.query + own) : 0.0f;
    Sums<kBlocks> sums{};
    HA_UNROLL
    for (int b = 0; b < kBlocks; ++b) {
      if (first + b * kBlockQueries >= m.queries) break;
      Elements<groups> c, logits;
      const int block = m.query + first + b * kBlockQueries;
      if (plain) {
        read_block<groups, i2t, true>(p, m, item_of_query, cosines, block, c, logits);
      } else {
        read_block<groups, i2t, false>(p, m, item_of_query, cosines, block, c, logits);
      }
      Operands<groups> operands;
      const float count = static_cast<float>(m.contexts);
      if (s.focal != Focal::none) {
        weigh<groups, true>(s, count, c, logits, operands, sums.dot[b], sums.total[b]);
      } else {
        weigh<groups, false>(s, count, c, logits, operands, sums.dot[b], sums.total[b]);
      }
      squared_lengths<groups>(factor, operands, sums.squares[b]);
    }
    const float dot = quad_sums(sums.dot), total = quad_sums(sums.total);
    const float attended = quick_sqrt(quad_sums(sums.squares)) * factor.unscale;
    if (own < m.queries) m.results[own] = cosine_of(dot, attended * length, total);
  }
}

// Step 3: a quad a query item; write(item, score).
template <class Write>
__device__ __forceinline__ void aggregate_items(const FocalSettings& s, const int* start, const Batch& m, Write write) {
  const int lane = threadIdx.x % kLanes, t = lane % 4;
  const float lse_scale = s.lse_scale * kLog2E;
  for (int first = m.first; first < m.last; first += kLanes / 4) {
    const int item = first + lane / 4 < m.last ? first + lane / 4 : m.last - 1;
    const int from = start[item] - m.query, count = start[item + 1] - start[item];
    float top = -3.0e38f, sum = 0.0f;
    if (s.aggregate == Aggregate::max || s.aggregate == Aggregate::lse) {
      for (int j = t; j < count; j += 4) top = fmaxf(top, m.results[from + j]);
      __syncwarp();
      top = quad_larger(top);
    }
    for (int j = t; j < count; j += 4) {
      const float x = m.results[from + j];
      sum += s.aggregate == Aggregate::lse ? power_of_two((x - top) * lse_scale) : x;
    }
    __syncwarp();
    sum = quad_sum(sum);
    const float score = s.aggregate == Aggregate::max    ? top
                        : s.aggregate == Aggregate::lse  ? top + quick_log2(sum) * quick_reciprocal(lse_scale)
                        : s.aggregate == Aggregate::mean ? sum * quick_reciprocal(static_cast<float>(count))
                                                         : sum;
    if (t == 0 && first + lane / 4 < m.last && count > 0) write(item, score);
  }
}

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
      switch (context_groups(contexts)) {
        case 2:
          score_item<2>(item, contexts, first, last);
          break;
        case 3:
          score_item<3>(item, contexts, first, last);
          break;
        case 5:
          score_item<5>(item, contexts, first, last);
          break;
        default:
          score_item<8>(item, contexts, first, last);
      }
    }
  }

 private:
  __device__ __forceinline__ const WideTile& tile() const { return lists_.tile; }
  __device__ __forceinline__ const int* query_start() const { return i2t ? tile().region_start : tile().word_start; }
  __device__ __forceinline__ const int* context_start() const { return i2t ? tile().word_start : tile().region_start; }

  __device__ __forceinline__ uint64_t kept_contexts(int start, int contexts) const {
    const uint64_t all = ~uint64_t{0} >> (kMostContexts - contexts);
    if (i2t || p_.focal.keep == nullptr) return all;
    const uint8_t* keep = p_.focal.keep + tile().first_region + start;
    const int lane = threadIdx.x % kLanes;
    const uint64_t low = __ballot_sync(kAllLanes, lane < contexts && keep[lane] != 0);
    const uint64_t high = __ballot_sync(kAllLanes, lane + kLanes < contexts && keep[lane + kLanes] != 0);
    const uint64_t kept = low | high << kLanes;
    return kept == 0 ? all : kept;  // an item that would keep nothing keeps all
  }

  // Query items first .. last attend to one item, as many at a time as find room.
  template <int groups>
  __device__ __forceinline__ void score_item(int item, int contexts, int first, int last) const {
    const FocalParameters& p = p_.focal;
    const Factors& factors = i2t ? p.text_factors : p.image_factors;
    const int64_t number = i2t ? int64_t{tile().text[item]} : tile().first_image + item;
    const int rank = contexts < p.regions.dim ? contexts : static_cast<int>(p.regions.dim);
    const FactorOfTriangle<groups, i2t> factor(factors.values + factors.offsets[number], contexts, rank);
    const int start = context_start()[item];
    const uint64_t kept = kept_contexts(start, contexts);
    const int pitch = (contexts + 1) / 2 * 2;
    const auto room = [&](int end) {  // for results, to an even number
      return (query_start()[end] - query_start()[first] + 1) / 2 * 2;
    };
    for (int end; first < last; first = end) {
      end = first + 1;
      while (end < last && room(end + 1) + (end + 1 - first) * pitch <= kScratch) ++end;
      const int query = query_start()[first];
      const Batch batch{first,    end,  query,    query_start()[end] - query, start,
                        contexts, kept, scratch_, scratch_ + room(end),       pitch};
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

template <class P>
__global__ void __launch_bounds__(kThreads, 2) focal_tile_kernel(FocalTileParameters parameters) {
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
      if (p.direction != Direction::i2t) Scorer<false>(parameters, lists, cosines, scratch, lengths).score();
      if (p.direction == Direction::both) __syncthreads();  // i2t adds to the scores of t2i
      if (p.direction != Direction::t2i) Scorer<true>(parameters, lists, cosines, scratch, lengths).score();
    }
  }
}

}  // namespace heritage_align
