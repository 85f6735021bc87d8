// Pooling of a stream of similarities that lie in the accumulators of wgmma: nothing of them goes to shared memory.
//
// The rows of a store, end to end, are the stream's columns; the words of a block are its rows. A thread holds, of
// every 8 columns, the two at 2t and 2t + 1 (t = lane % 4), of rows lane / 4 and lane / 4 + 8 of its warp's 16. It
// carries the pools of its columns from product to product until an item ends; then the four threads of a row merge
// theirs. The order of a pair's sums does not depend on where its item lies in the stream: columns 0, 8, 16 .. of an
// item make one pool, columns 1, 9, 17 .. the next, and these eight are merged 0 with 4, 1 with 5 .., then with 2,
// then with 1 between them, which is the same tree wherever column 0 falls. The merge is exactly commutative, and where
// a product and a sum are one rounding is written out, so that every copy of the code rounds alike.
#pragma once

#include <limits.h>

#include "hopper_ptx.cuh"
#include "tasks.cuh"

namespace heritage_align::hopper {

constexpr int kColumns = 128;                // rows of the store that one product takes
constexpr int kAccumulators = kColumns / 2;  // of 64 words by these, in each of 128 threads
constexpr int kStripe = 32;                  // columns between two looks at where items end

enum class Pooler { max, softmax, sum };  // sum: with weights, or of which a mean is made

// Where the items of a stream end, in columns. A warp holds the ends of 32 items and of the next 32.
struct Ends {
  int64_t item, last;  // the item that the stream is in, and the first that is not the stream's
  int64_t base;        // row of the store at column 0
  int begin, end;      // columns of the item
  int window, upcoming, at;

  __device__ __forceinline__ int load(const Rows& store, int64_t from) const {
    const int64_t i = from + threadIdx.x % kLanes;
    return i < last ? static_cast<int>(store.start(i + 1) - base) : INT_MAX;
  }

  __device__ __forceinline__ void start(const Rows& store, int64_t first_item, int64_t last_item) {
    item = first_item;
    last = last_item;
    base = store.start(first_item);
    begin = at = 0;
    window = load(store, item);
    upcoming = load(store, item + kLanes);
    end = __shfl_sync(kAllLanes, window, 0);
  }

  __device__ __forceinline__ void next(const Rows& store) {
    begin = end;
    ++item;
    if (++at == kLanes) {
      at = 0;
      window = upcoming;
      upcoming = load(store, item + kLanes);
    }
    end = __shfl_sync(kAllLanes, window, at);
  }
};

// What a similarity is of accumulator i: the accumulator itself, or (hopper_widen.cuh) that and a scale.
struct AsMultiplied {
  __device__ __forceinline__ float operator()(float accumulator, int) const { return accumulator; }
};

// What a thread knows of two rows of the item that the stream is in. kNothing is a similarity that changes nothing.
// `value(half)` is the pooled similarity, in all four threads of a row; all lanes of a warp must call.
template <Pooler pooler>
struct State;

template <>
struct State<Pooler::max> {
  static constexpr float kNothing = -3.4e38f;
  float top[2];

  __device__ __forceinline__ void clear() { top[0] = top[1] = kNothing; }
  __device__ __forceinline__ void add(int half, int, float similarity, float, float) {
    top[half] = fmaxf(top[half], similarity);
  }
  template <int half, class Similarity>
  __device__ __forceinline__ void add_half(const float (&c)[kAccumulators], Similarity of, float) {
    constexpr int first = half * kAccumulators / 2;
    // Four chains, so that none waits for itself.
    float best[2][2] = {{top[0], of(c[first + 1], first + 1)}, {top[1], of(c[first + 3], first + 3)}};
    HA_UNROLL
    for (int i = 0; i < kAccumulators / 2; ++i)
      if (i != 1 && i != 3) best[i / 2 % 2][i % 2] = fmaxf(best[i / 2 % 2][i % 2], of(c[first + i], first + i));
    top[0] = fmaxf(best[0][0], best[0][1]);
    top[1] = fmaxf(best[1][0], best[1][1]);
  }
  __device__ __forceinline__ float value(int half, float, int) const {
    const float both = fmaxf(top[half], __shfl_xor_sync(kAllLanes, top[half], 2));
    return fmaxf(both, __shfl_xor_sync(kAllLanes, both, 1));
  }
};

// As pool_add and pool_merge of csrc/epilogue/patch_weighted.h; `rate` is -log2(e) / temperature.
template <>
struct State<Pooler::softmax> {
  static constexpr float kNothing = -3.4e38f;
  Pool<float> pool[2][2];

  __device__ __forceinline__ void clear() {
    HA_UNROLL
    for (int i = 0; i < 4; ++i) pool[i / 2][i % 2] = {-3.0e38f, 0.0f, 0.0f};
  }
  __device__ __forceinline__ void add(int half, int side, float similarity, float, float rate) {
    Pool<float>& at = pool[half][side];
    const float gap = similarity - at.top, shrunk = power_of_two(fabsf(gap) * rate);
    const float keep_old = gap > 0.0f ? shrunk : 1.0f, take_new = gap > 0.0f ? 1.0f : shrunk;
    at.mass = __fmaf_rn(at.mass, keep_old, take_new);
    at.acc = __fmaf_rn(at.acc, keep_old, __fmul_rn(take_new, similarity));
    at.top = fmaxf(at.top, similarity);
  }
  template <int half, class Similarity>
  __device__ __forceinline__ void add_half(const float (&c)[kAccumulators], Similarity of, float rate) {
    constexpr int first = half * kAccumulators / 2;
    HA_UNROLL
    for (int i = 0; i < kAccumulators / 2; ++i) add(i / 2 % 2, i % 2, of(c[first + i], first + i), 1.0f, rate);
  }
  static __device__ __forceinline__ Pool<float> merge(const Pool<float>& a, const Pool<float>& b, float rate) {
    const float top = fmaxf(a.top, b.top);
    const float from_a = power_of_two((top - a.top) * rate), from_b = power_of_two((top - b.top) * rate);
    return {top, __fadd_rn(__fmul_rn(a.mass, from_a), __fmul_rn(b.mass, from_b)),
            __fadd_rn(__fmul_rn(a.acc, from_a), __fmul_rn(b.acc, from_b))};
  }
  static __device__ __forceinline__ Pool<float> of_lane(const Pool<float>& a, int other) {
    return {__shfl_xor_sync(kAllLanes, a.top, other), __shfl_xor_sync(kAllLanes, a.mass, other),
            __shfl_xor_sync(kAllLanes, a.acc, other)};
  }
  __device__ __forceinline__ float value(int half, float rate, int) const {
    Pool<float> side[2];
    HA_UNROLL
    for (int s = 0; s < 2; ++s) {
      side[s] = merge(pool[half][s], of_lane(pool[half][s], 2), rate);
      side[s] = merge(side[s], of_lane(side[s], 1), rate);
    }
    const Pool<float> all = merge(side[0], side[1], rate);
    return all.acc / all.mass;
  }
};

template <>
struct State<Pooler::sum> {
  static constexpr float kNothing = 0.0f;
  float sum[2][2];

  __device__ __forceinline__ void clear() { sum[0][0] = sum[0][1] = sum[1][0] = sum[1][1] = 0.0f; }
  __device__ __forceinline__ void add(int half, int side, float similarity, float weight, float) {
    sum[half][side] = __fmaf_rn(similarity, weight, sum[half][side]);
  }
  template <int half, class Similarity>
  __device__ __forceinline__ void add_half(const float (&c)[kAccumulators], Similarity of, float rate) {
    constexpr int first = half * kAccumulators / 2;
    HA_UNROLL
    for (int i = 0; i < kAccumulators / 2; ++i) add(i / 2 % 2, i % 2, of(c[first + i], first + i), 1.0f, rate);
  }
  __device__ __forceinline__ float value(int half, float, int divisor) const {
    float side[2];
    HA_UNROLL
    for (int s = 0; s < 2; ++s) {
      side[s] = sum[half][s] + __shfl_xor_sync(kAllLanes, sum[half][s], 2);
      side[s] += __shfl_xor_sync(kAllLanes, side[s], 1);
    }
    return (side[0] + side[1]) / static_cast<float>(divisor);
  }
};

// Pools 32 columns of the stream from `first` on; c[4 j + 2 half + side] is the thread's part of 8 columns j.
// `finish` is called when an item has ended, before `ends` goes on. Every branch here is the same for all threads of a
// warpgroup.
template <Pooler pooler, class Finish>
__device__ __forceinline__ void pool_stripe(const float (&c)[kStripe / 2], int first, const Rows& store,
                                            const float* weights, float rate, Ends& ends, State<pooler>& state,
                                            Finish finish) {
  const int own = threadIdx.x % 4 * 2, stop = first + kStripe;
  while (true) {
    const bool whole = ends.begin <= first && ends.end >= stop && (pooler != Pooler::sum || weights == nullptr);
    if (whole) {
      HA_UNROLL
      for (int i = 0; i < kStripe / 2; ++i) state.add(i / 2 % 2, i % 2, c[i], 1.0f, rate);
    } else if (ends.begin < stop && ends.end > ends.begin) {
      // A bit for each column of the item: tests of constant bits set seven predicates in one instruction.
      const int from = ends.begin > first ? ends.begin - first : 0, to = ends.end < stop ? ends.end - first : kStripe;
      const unsigned columns = 0xffffffffu >> (kStripe - (to - from)) << from >> own;
      HA_UNROLL
      for (int i = 0; i < kStripe / 2; ++i) {
        const int column = i / 4 * 8 + i % 2;
        const bool inside = (columns >> column & 1u) != 0;
        float weight = 1.0f;
        if (pooler == Pooler::sum && weights != nullptr && inside)
          weight = weights[ends.base + first + own + column];
        state.add(i / 2 % 2, i % 2, inside ? c[i] : State<pooler>::kNothing, weight, rate);
      }
    }
    if (ends.end > stop) break;
    if (ends.end > ends.begin) {
      finish();
      state.clear();
    }
    ends.next(store);
  }
}

template <int stripe, class Similarity>
__device__ __forceinline__ void take_part(float (&part)[kStripe / 2], const float (&c)[kAccumulators], Similarity of) {
  constexpr int first = stripe * kStripe / 2;
  HA_UNROLL
  for (int i = 0; i < kStripe / 2; ++i) part[i] = of(c[first + i], first + i);
}

// Whether columns first .. first + columns are all of one item that goes on behind them.
__device__ __forceinline__ bool inside_one(const Ends& ends, int first, int columns) {
  return ends.begin <= first && ends.end > first + columns;
}

// The same for half a product, columns first + 64 half .. of it. A warp is alone on its scheduler, or one of two: what
// counts is how few instructions lie between two products, and from how few places they come (on an H200, a copy of
// the code for each stripe took 15 to 25 % longer). So half a product inside one item is pooled straight on unless
// something is `pending`, and for the others there is one stripe, which first takes the accumulators of its columns:
// registers have no index. `stripe_done(last)` follows each of the latter; `last` means the product's last columns.
template <Pooler pooler, class Similarity, class Finish, class Done>
__device__ __forceinline__ void pool_half(const float (&c)[kAccumulators], Similarity of, int half, int first,
                                          const Rows& store, const float* weights, float rate, bool pending,
                                          Ends& ends, State<pooler>& state, Finish finish, Done stripe_done) {
  if (!pending && inside_one(ends, first + half * kColumns / 2, kColumns / 2) &&
      (pooler != Pooler::sum || weights == nullptr)) {
    if (half == 0) {
      state.template add_half<0>(c, of, rate);
    } else {
      state.template add_half<1>(c, of, rate);
    }
    return;
  }
  HA_NO_UNROLL
  for (int stripe = 2 * half; stripe < 2 * half + 2; ++stripe) {
    float part[kStripe / 2];
    switch (stripe) {
      case 0:
        take_part<0>(part, c, of);
        break;
      case 1:
        take_part<1>(part, c, of);
        break;
      case 2:
        take_part<2>(part, c, of);
        break;
      default:
        take_part<3>(part, c, of);
    }
    pool_stripe(part, first + stripe * kStripe, store, weights, rate, ends, state, finish);
    stripe_done(stripe == kColumns / kStripe - 1);
  }
}

}  // namespace heritage_align::hopper
