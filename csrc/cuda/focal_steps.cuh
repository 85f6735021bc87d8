// The three steps of epilogue/focal_attention.h by a warp, for one context item of a tile and a batch of query items.
#pragma once

#include "focal_tile.cuh"

namespace heritage_align {

// Step 1: scales[query item][context]. t2i: a lane walks down two regions, the words of all texts of the batch one
// after the other, four read ahead.
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
    if (i2t)
      return {cosines_[cosine_at(m_.start + word(q, 0), query_)],
              cosines_[cosine_at(m_.start + word(q, 1), query_)]};
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
template <int groups, bool i2t, Weighing weighing, class Factor>
__device__ __forceinline__ void attend_block(const FocalTileParameters& p, const Batch& m, bool plain,
                                             const Factor& factor, const uint8_t* item_of_query, const float* cosines,
                                             int first, float (&dot)[2], float (&total)[2], float (&squares)[2]) {
  const float count = static_cast<float>(m.contexts);
  Elements<groups> logits;
  Weights<groups, kWeightParts> weights;
  if constexpr (8 * groups <= kMostHeld) {
    Elements<groups> c;
    if (plain) {
      read_block<groups, i2t, true>(p, m, item_of_query, cosines, first, c, logits);
    } else {
      read_block<groups, i2t, false>(p, m, item_of_query, cosines, first, c, logits);
    }
    weigh<groups, weighing, kWeightParts>(p.focal.settings, count, logits, weights, dot,
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
    weigh<groups, weighing, kWeightParts>(
        p.focal.settings, count, logits, weights, dot,
        [&](int q, int row) { return kept(q, from[row].template cosines<false>(q), 0.0f); });
  }
  if constexpr (8 * groups <= kMostHeld) {
    attended_lengths<groups, kWeightParts>(factor, weights, squares, total);
  } else {
    factor.template add_lengths<kWeightParts>(weights, squares, total);
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
        attend_block<groups, i2t, Weighing::focal>(p, m, plain, factor, item_of_query, cosines, m.query + block, sums.dot[b],
                                        sums.total[b], sums.squares[b]);
      } else {
        attend_block<groups, i2t, Weighing::by_largest>(p, m, plain, factor, item_of_query, cosines, m.query + block, sums.dot[b],
                                         sums.total[b], sums.squares[b]);
      }
    }
    const float dot = quad_sums(sums.dot), total = of_lane(sums.total);
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

}  // namespace heritage_align
