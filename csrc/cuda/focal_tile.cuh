// Focal attention on a tile of cosines in shared memory: the three steps of epilogue/focal_attention.h by warps that need
// nothing of each other. A warp takes a context item, finds its factor's operands once (of up to 64 contexts; those of
// more are made whenever they are needed), and scores its query items a few at a time.
#pragma once

#include "attend.cuh"
#include "focal_attention.cuh"

namespace heritage_align {

constexpr int kMostHeld = 64;                // contexts of which a warp holds the factor
constexpr int kMostRegions = kTileRegions;   // contexts of t2i
constexpr int kMostWords = kMostHeld;        // contexts of i2t
constexpr int kKeptWords = (kMostRegions + 63) / 64;

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
static_assert(kScratch >= kTileRegions + kMostWords && kScratch >= kProductWords + kMostRegions && kScratch % 2 == 0,
              "room for one query item");

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

// What brings the largest entry of a factor, of which each lane has seen a part, to [2^7, 2^8), and what undoes it:
// powers of two.
__device__ __forceinline__ float scale_of_factor(float top, float& unscale) {
  for (int step = kLanes / 2; step > 0; step /= 2) top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, step));
  int exponent = 0;
  if (top > 0.0f && top < INFINITY) frexpf(top, &exponent);
  exponent = exponent < -100 ? -100 : exponent;
  unscale = ldexpf(1.0f, exponent - 8);
  return ldexpf(1.0f, 8 - exponent);
}

// Two entries of the scaled factor as a pair of halves, and what that pair leaves.
__device__ __forceinline__ uint2 operand_of(float first, float second) {
  const uint32_t high = halves_of_floats(first, second);
  return {high, halves_of_floats(first - float_of_f16(static_cast<uint16_t>(high)),
                                 second - float_of_f16(static_cast<uint16_t>(high >> 16)))};
}

// The factor of an item as operands of mma.sync, see squared_lengths.
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
    const float scale = scale_of_factor(top, unscale);
    HA_UNROLL
    for (int b = 0; b < factor_blocks(groups); ++b) held[b] = operand_of(x[b][0] * scale, x[b][1] * scale);
  }

  static __host__ __device__ constexpr int number_of(int j, int q) { return j * groups - j * (j - 1) / 2 + q - j; }
  __device__ __forceinline__ uint2 block(int j, int q) const { return held[number_of(j, q)]; }
};

// The same for more contexts than registers hold: an operand is made each time that it is needed.
template <int groups>
struct FactorInMemory {
  const float* R;
  int m, rank;
  float scale, unscale;

  __device__ __forceinline__ FactorInMemory(const float* triangle, int contexts, int rows)
      : R(triangle), m(contexts), rank(rows) {
    float top = 0.0f;
#pragma unroll 4
    for (int i = threadIdx.x % kLanes; i < m * (m + 1) / 2; i += kLanes) top = fmaxf(top, fabsf(R[i]));
    __syncwarp();
    scale = scale_of_factor(top, unscale);
  }

  __device__ __forceinline__ uint2 block(int j, int q) const {
    const int lane = threadIdx.x % kLanes, row = 8 * j + lane / 4, first = 8 * q + 2 * (lane % 4);
    const float* at = R + row * m - row * (row + 1) / 2 + first;
    return operand_of(row < rank && row <= first && first < m ? at[0] * scale : 0.0f,
                      row < rank && row <= first + 1 && first + 1 < m ? at[1] * scale : 0.0f);
  }

  // As squared_lengths of attend.cuh, but a loop over the rows of R: unrolled, it takes the compiler minutes.
  __device__ __forceinline__ void add_squares(const Operands<groups>& e, float (&squares)[2]) const {
    static_assert(groups % 2 == 0, "two groups at once");
    HA_NO_UNROLL
    for (int j = 0; 8 * j < rank; ++j) {
      float y[4] = {};
      HA_UNROLL
      for (int p = 0; p < groups; p += 2) {
        if (p + 1 < j || 8 * p >= m) continue;  // the same for all lanes; R has zeros there
        const uint2 r[2] = {block(j, p), block(j, p + 1)};
        const uint32_t high[2] = {r[0].x, r[1].x}, low[2] = {r[0].y, r[1].y};
        const uint32_t e_high[4] = {e.high[p][0], e.high[p][1], e.high[p + 1][0], e.high[p + 1][1]};
        const uint32_t e_low[4] = {e.low[p][0], e.low[p][1], e.low[p + 1][0], e.low[p + 1][1]};
        __syncwarp();
        mma_f16(y, e_high, high);
        mma_f16(y, e_low, high);
        mma_f16(y, e_high, low);
      }
      HA_UNROLL
      for (int i = 0; i < 4; ++i) squares[i / 2] += y[i] * y[i];
    }
  }
};

template <int groups, bool i2t, bool held>
struct FactorOf {
  using Type = FactorOfTriangle<groups, i2t>;
};
template <int groups>
struct FactorOf<groups, false, false> {
  using Type = FactorInMemory<groups>;
};

// Query items first .. last, whose queries are the tile's from `query` on, and one context item.
struct Batch {
  int first, last;
  int query, queries;
  int start, contexts;
  uint64_t kept[kKeptWords];  // a bit for each context that may be weighed
  float* results;             // of the queries
  float* scales;              // of the logits, by query item and context
  int pitch;                  // of the scales, even

  __device__ __forceinline__ bool keeps(int context) const {
    return (kept[context / 64] >> context % 64 & 1) != 0;
  }
};

// Step 1: scales[query item][context]. t2i: a lane walks down two regions, the words of all texts of the batch one after
// the other, four read ahead.
__device__ __forceinline__ void scale_regions(const FocalTileParameters& p, const int* text_start,
                                              const float* cosines, const Batch& m) {
  constexpr int kAhead = 4, kColumns = 2;
  const float slope = p.slope;
  for (int first = threadIdx.x % kLanes; first < m.contexts; first += kColumns * kLanes) {
    const bool both = first + kLanes < m.contexts;
    const float* from[kColumns][kAhead];
    HA_UNROLL
    for (int k = 0; k < kColumns; ++k)
      HA_UNROLL
      for (int i = 0; i < kAhead; ++i) from[k][i] = cosines + cosine_at(m.query + i, m.start + first + k * kLanes);
    int text = m.first, end = text_start[text + 1] - m.query;
    float squares[kColumns] = {0.0f, 0.0f};
    for (int word = 0; word < m.queries; word += kAhead) {
      float x[kAhead][kColumns];
      HA_UNROLL
      for (int i = 0; i < kAhead; ++i) {
        x[i][0] = from[0][i][word * kTileRegions];
        x[i][1] = both ? from[1][i][word * kTileRegions] : 0.0f;
      }
      HA_UNROLL
      for (int i = 0; i < kAhead; ++i) {
        HA_UNROLL
        for (int k = 0; k < kColumns; ++k) {
          const float rectified = fmaxf(x[i][k], slope * x[i][k]);
          squares[k] += rectified * rectified;
        }
        if (word + i + 1 != end) continue;  // the same for all lanes
        float* to = m.scales + (text - m.first) * m.pitch + first;
        to[0] = logit_scale(p.norm, squares[0]);
        if (both) to[kLanes] = logit_scale(p.norm, squares[1]);
        squares[0] = squares[1] = 0.0f;
        ++text;
        end = text < m.last ? text_start[text + 1] - m.query : 0;
      }
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

// Where the cosines of a query are, and the scales of their logits, for a lane of 16 queries.
template <bool i2t>
class QueryRow {
 public:
  // Row `row` of the block of queries from `first`; the last query takes the place of those behind it.
  __device__ __forceinline__ QueryRow(const Batch& m, const uint8_t* item_of_query, const float* cosines, int first,
                                      int row)
      : m_(m), cosines_(cosines) {
    const int lane = threadIdx.x % kLanes, next = first + row * 8 + lane / 4, last = m.query + m.queries - 1;
    query_ = next < last ? next : last;
    scales_ = m.scales + (item_of_query[query_] - m.first) * m.pitch;
    const int skew = (query_ & 2) << 2, column = m.start + 2 * (lane % 4);
    HA_UNROLL
    for (int i = 0; i < 2; ++i) {
      const float* of_query = cosines + query_ * kTileRegions;
      even_[i] = of_query + ((column + i) ^ skew);  // with q even, 8 q does not touch the bit that changes
      odd_[i] = of_query + ((column + i + 8) ^ skew) - 8;
    }
  }

  // Of the lane's contexts of group q. `pairs`: two regions can be read at once.
  template <bool pairs>
  __device__ __forceinline__ float2 cosines(int q) const {
    if (i2t) return {cosines_[cosine_at(m_.start + word(q, 0), query_)], cosines_[cosine_at(m_.start + word(q, 1), query_)]};
    const float* const* from = q % 2 == 0 ? even_ : odd_;
    return pairs ? two_at(from[0] + 8 * q) : float2{from[0][8 * q], from[1][8 * q]};
  }
  __device__ __forceinline__ float2 scales(int q) const {
    return i2t ? float2{scales_[word(q, 0)], scales_[word(q, 1)]} : two_at(scales_ + 8 * q + 2 * (threadIdx.x % 4));
  }

 private:
  __device__ __forceinline__ int word(int q, int i) const {
    const int context = Roles<true>::context(q, threadIdx.x % 4, i);
    return context < m_.contexts ? context : m_.contexts - 1;
  }

  const Batch& m_;
  const float* cosines_;
  const float* scales_;
  const float* even_[2];
  const float* odd_[2];
  int query_;
};

__device__ __forceinline__ float2 logits_of(const float2& cosines, const float2& scales, float slope) {
  return {scales.x * fmaxf(cosines.x, slope * cosines.x), scales.y * fmaxf(cosines.y, slope * cosines.y)};
}

// Cosines and logits of 16 queries from `first`. `plain`: two regions can be read at once, and all contexts but some of
// the last eight may be weighed.
template <int groups, bool i2t, bool plain>
__device__ __forceinline__ void read_block(const FocalTileParameters& p, const Batch& m, const uint8_t* item_of_query,
                                           const float* cosines, int first, Elements<groups>& c,
                                           Elements<groups>& logits) {
  HA_UNROLL
  for (int row = 0; row < 2; ++row) {
    const QueryRow<i2t> from(m, item_of_query, cosines, first, row);
    HA_UNROLL
    for (int q = 0; q < groups; ++q) {
      const float2 cosine = from.template cosines<plain>(q), logit = logits_of(cosine, from.scales(q), p.slope);
      c[q][2 * row] = cosine.x;
      c[q][2 * row + 1] = cosine.y;
      logits[q][2 * row] = logit.x;
      logits[q][2 * row + 1] = logit.y;
    }
  }
  HA_UNROLL
  for (int q = plain ? groups - 1 : 0; q < groups; ++q)
    HA_UNROLL
    for (int i = 0; i < 4; ++i)
      if (!m.keeps(Roles<i2t>::context(q, threadIdx.x % 4, i % 2))) {
        logits[q][i] = -INFINITY;
        c[q][i] = 0.0f;  // behind the item: perhaps not a number
      }
}

// The sums of 16 queries over their contexts. Of more contexts than registers hold cosines are read twice.
template <int groups, bool i2t, bool focal, class Factor>
__device__ __forceinline__ void attend_block(const FocalTileParameters& p, const Batch& m, bool plain,
                                             const Factor& factor, const uint8_t* item_of_query, const float* cosines,
                                             int first, float (&dot)[2], float (&total)[2], float (&squares)[2]) {
  const float count = static_cast<float>(m.contexts);
  Elements<groups> logits;
  Operands<groups> operands;
  if constexpr (8 * groups <= kMostHeld) {
    Elements<groups> c;
    if (plain) {
      read_block<groups, i2t, true>(p, m, item_of_query, cosines, first, c, logits);
    } else {
      read_block<groups, i2t, false>(p, m, item_of_query, cosines, first, c, logits);
    }
    weigh<groups, focal>(p.focal.settings, count, logits, operands, dot, total,
                         [&](int q, int row) { return two_of<groups>(c, q, row); });
  } else {
    const QueryRow<i2t> from[2] = {{m, item_of_query, cosines, first, 0}, {m, item_of_query, cosines, first, 1}};
    const auto kept = [&](int q, float2 two, float otherwise) {
      const int context = Roles<i2t>::context(q, threadIdx.x % 4, 0);
      return float2{m.keeps(context) ? two.x : otherwise, m.keeps(context + 1) ? two.y : otherwise};
    };
    HA_UNROLL
    for (int row = 0; row < 2; ++row)
      HA_UNROLL
      for (int q = 0; q < groups; ++q) {
        const float2 all = logits_of(from[row].template cosines<false>(q), from[row].scales(q), p.slope);
        const float2 logit = kept(q, all, -INFINITY);
        logits[q][2 * row] = logit.x;
        logits[q][2 * row + 1] = logit.y;
      }
    weigh<groups, focal>(p.focal.settings, count, logits, operands, dot, total, [&](int q, int row) {
      return kept(q, from[row].template cosines<false>(q), 0.0f);
    });
  }
  if constexpr (8 * groups <= kMostHeld) {
    squared_lengths<groups>(factor, operands, squares);
  } else {
    factor.add_squares(operands, squares);
  }
}

// Step 2 for the queries of a batch.
template <int groups, bool i2t, class Factor, class LengthOf>
__device__ __forceinline__ void attend_queries(const FocalTileParameters& p, const Batch& m, const Factor& factor,
                                               const uint8_t* item_of_query, const float* cosines,
                                               LengthOf length_of) {
  constexpr bool kHeld = 8 * groups <= kMostHeld;
  constexpr int kBlocks = kHeld ? 2 : 1;  // at a time; one of more contexts is long enough
  constexpr uint64_t kFull = ~uint64_t{0} >> (kHeld ? 64 - 8 * (groups - 1) : 0);
  const bool plain = (i2t || m.start % 2 == 0) && (m.kept[0] & kFull) == kFull;
  const bool focal = p.focal.settings.focal != Focal::none;
  HA_NO_UNROLL
  for (int first = 0; first < m.queries; first += kBlocks * kBlockQueries) {
    const int own = query_of_lane() < kBlocks * kBlockQueries ? first + query_of_lane() : m.queries;
    const float length = own < m.queries ? length_of(m.query + own) : 0.0f;
    Sums<2> sums{};
    HA_UNROLL
    for (int b = 0; b < kBlocks; ++b) {
      const int block = first + b * kBlockQueries;
      if (block >= m.queries) break;
      if (focal || !kHeld) {
        attend_block<groups, i2t, true>(p, m, plain, factor, item_of_query, cosines, m.query + block, sums.dot[b],
                                        sums.total[b], sums.squares[b]);
      } else {
        attend_block<groups, i2t, false>(p, m, plain, factor, item_of_query, cosines, m.query + block, sums.dot[b],
                                         sums.total[b], sums.squares[b]);
      }
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
      if constexpr (!i2t) {
        if (contexts > kMostHeld) {
          score_item<kMostRegions / 8>(item, contexts, first, last);
          continue;
        }
      }
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
