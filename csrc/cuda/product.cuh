// The product of a tile: up to 128 words by up to 144 regions, over all of dim, with tensor cores.
//
// Both operands go through shared memory in chunks of 64 bytes a row, four chunks deep, by background copies
// (cp.async). The four pieces of a row change places with the row's number (piece_at), so that eight rows of one piece,
// which ldmatrix reads at once, lie in different banks. Four warps, two by two, each make 64 words by 72 regions in 144
// accumulators a thread: a k step of 32 bytes takes 34 reads of 128 bytes from shared memory for 36 products, where two
// warp tiles of 32 x 72 took 52. float32 rows are multiplied in float32, not TF32, by the same threads in the same
// layout: correct before fast.
#pragma once

#include "tasks.cuh"

namespace heritage_align {

constexpr int kThreads = 128;
using Block = WholeBlock<kThreads>;
constexpr int kProductWords = 2 * kTileWords;  // two bins
using WideTile = TileOf<kProductWords>;
constexpr int kWarpWords = kProductWords / 2, kWarpRegions = kTileRegions / 2;
constexpr int kWordFragments = kWarpWords / 16, kRegionFragments = kWarpRegions / 8;
constexpr int kStages = 4;
constexpr int kRowBytes = 64;  // of a chunk
constexpr int kStageBytes = (kProductWords + kTileRegions) * kRowBytes;
constexpr int kProductBytes = kStages * kStageBytes;

// What two blocks of an A100's multiprocessor may have each: 164 KB for both, of which each loses one.
constexpr int kHalfOfShared = 81 * 1024;

// Where 16 bytes of a row lie in a chunk.
__device__ __forceinline__ int piece_at(int row, int piece) {
  return row * kRowBytes + ((piece ^ row >> 1) & 3) * 16;
}

// A warp's part of a chunk, from a row that is a multiple of 8.
struct WarpChunk {
  const unsigned char* words;
  const unsigned char* regions;
  int word_fragments, region_fragments;  // that hold anything; the loops below know the number where all do
};

template <class Accumulator>
using Accumulators = Accumulator[kWordFragments][kRegionFragments][4];

// The fragments of 16 words for a k step, one matrix each of words 0 .. 7 and 8 .. 15, then of the next 16 bytes.
template <bool all>
__device__ __forceinline__ void load_words(uint32_t (&a)[kWordFragments][4], const WarpChunk& from, int step) {
  const int lane = threadIdx.x % kLanes;
  const unsigned char* at = from.words + piece_at(lane % 16, 2 * step + lane / 16);
  HA_UNROLL
  for (int i = 0; i < kWordFragments; ++i)
    if (all || i < from.word_fragments) load_matrices(a[i], at + i * 16 * kRowBytes);
}

template <bool all, class Accumulator, class Multiply>
__device__ __forceinline__ void multiply_column(Accumulators<Accumulator>& c, const uint32_t (&a)[kWordFragments][4],
                                                const uint32_t (&b)[2], int j, int word_fragments, Multiply mma) {
  HA_UNROLL
  for (int i = 0; i < kWordFragments; ++i)
    if (all || i < word_fragments) mma(c[i][j], a[i], b);
}

// How each pair of storages is multiplied. kChunk: elements of a chunk.
template <class Acc, void (*mma)(Acc (&)[4], const uint32_t (&)[4], const uint32_t (&)[2])>
struct TensorCores {
  using Accumulator = Acc;

  template <bool all>
  static __device__ __forceinline__ void multiply(Accumulators<Acc>& c, const WarpChunk& from) {
    const int lane = threadIdx.x % kLanes;
    HA_UNROLL
    for (int step = 0; step < kRowBytes / 32; ++step) {
      uint32_t a[kWordFragments][4];
      load_words<all>(a, from, step);
      // Two fragments of 8 regions at once, each of two matrices; the last is alone.
      const unsigned char* at = from.regions + piece_at(lane % 8 + lane / 16 * 8, 2 * step + lane / 8 % 2);
      HA_UNROLL
      for (int j = 0; j + 1 < kRegionFragments; j += 2) {
        if (!all && j >= from.region_fragments) break;
        uint32_t both[4];
        load_matrices(both, at + j * 8 * kRowBytes);
        const uint32_t b[2][2] = {{both[0], both[1]}, {both[2], both[3]}};
        multiply_column<all>(c, a, b[0], j, from.word_fragments, mma);
        multiply_column<all>(c, a, b[1], j + 1, from.word_fragments, mma);
      }
      if (all || from.region_fragments == kRegionFragments) {
        const unsigned char* last = from.regions + piece_at(lane % 8, 2 * step + lane / 8 % 2);
        uint32_t b[2];
        load_matrices(b, last + (kRegionFragments - 1) * 8 * kRowBytes);
        multiply_column<all>(c, a, b, kRegionFragments - 1, from.word_fragments, mma);
      }
    }
  }
};
static_assert(kRegionFragments % 2 == 1, "the last fragment of regions is alone");

struct HalfProduct : TensorCores<float, mma_f16> {
  static constexpr Storage kWords = Storage::f16, kRegions = Storage::f16;
  static constexpr int kChunk = 32;
};
struct BrainProduct : TensorCores<float, mma_bf16> {
  static constexpr Storage kWords = Storage::bf16, kRegions = Storage::bf16;
  static constexpr int kChunk = 32;
};
struct Int8Product : TensorCores<int32_t, mma_i8> {
  static constexpr Storage kWords = Storage::i8, kRegions = Storage::i8;
  static constexpr int kChunk = 64;
};

// float16 words by int8 regions: a chunk of regions is half as wide, and becomes float16 in the registers. ldmatrix
// gives a lane four int8 that follow each other, where the product takes two and, eight further on, two. Any order of k
// will do if words have the same: a lane takes four halves that follow each other.
struct MixedProduct {
  using Accumulator = float;
  static constexpr Storage kWords = Storage::f16, kRegions = Storage::i8;
  static constexpr int kChunk = 32;

  template <bool all>
  static __device__ __forceinline__ void multiply(Accumulators<float>& c, const WarpChunk& from) {
    const int lane = threadIdx.x % kLanes, g = lane / 4, t = lane % 4;
    HA_UNROLL
    for (int step = 0; step < kRowBytes / 32; ++step) {
      uint32_t a[kWordFragments][4];
      const unsigned char* words = from.words + piece_at(g, 2 * step + t / 2) + t % 2 * 8;
      HA_UNROLL
      for (int i = 0; i < kWordFragments; ++i)
        HA_UNROLL
        for (int half = 0; half < 2; ++half) {
          const auto four = *reinterpret_cast<const uint2*>(words + (i * 16 + half * 8) * kRowBytes);
          a[i][half] = four.x;
          a[i][half + 2] = four.y;
        }
      HA_UNROLL
      for (int j = 0; j < kRegionFragments; j += 2) {
        if (!all && j >= from.region_fragments) break;
        const bool alone = j + 1 == kRegionFragments;  // its matrix twice
        uint32_t bytes[2];
        load_matrices(bytes, from.regions + piece_at(lane % 8 + (alone ? 0 : lane / 8 % 2 * 8), step) +
                                 j * 8 * kRowBytes);
        HA_UNROLL
        for (int k = 0; k < (alone ? 1 : 2); ++k) {
          uint32_t b[2];
          halves_of_bytes(bytes[k], b[0], b[1]);
          multiply_column<all>(c, a, b, j + k, from.word_fragments, mma_f16);
        }
      }
    }
  }
};

struct FloatProduct {
  using Accumulator = float;
  static constexpr Storage kWords = Storage::f32, kRegions = Storage::f32;
  static constexpr int kChunk = 16;

  static __device__ __forceinline__ void add(float& c, const float4& a, const float4& b) {
    c += a.x * b.x;
    c += a.y * b.y;
    c += a.z * b.z;
    c += a.w * b.w;
  }

  // Accumulators as in a fragment of mma.sync: rows g and g + 8, columns 2t and 2t + 1.
  template <bool all>
  static __device__ __forceinline__ void multiply(Accumulators<float>& c, const WarpChunk& from) {
    const int g = threadIdx.x % kLanes / 4, t = threadIdx.x % 4;
    HA_UNROLL
    for (int piece = 0; piece < kRowBytes / 16; ++piece) {
      float4 a[kWordFragments][2];
      HA_UNROLL
      for (int i = 0; i < kWordFragments; ++i)
        HA_UNROLL
        for (int half = 0; half < 2; ++half)
          a[i][half] = *reinterpret_cast<const float4*>(from.words + piece_at(g, piece) +
                                                        (i * 16 + half * 8) * kRowBytes);
      HA_UNROLL
      for (int j = 0; j < kRegionFragments; ++j) {
        if (!all && j >= from.region_fragments) break;
        HA_UNROLL
        for (int side = 0; side < 2; ++side) {
          const float4 b = *reinterpret_cast<const float4*>(from.regions + piece_at(2 * t + side, piece) +
                                                            j * 8 * kRowBytes);
          HA_UNROLL
          for (int i = 0; i < kWordFragments; ++i)
            if (all || i < from.word_fragments) {
              add(c[i][j][side], a[i][0], b);
              add(c[i][j][2 + side], a[i][1], b);
            }
        }
      }
    }
  }
};

// Brings chunks of up to `most` rows to shared memory, zeros behind the end of a row; rows behind the last keep what
// they hold, for nothing of them reaches a score. A thread copies the same piece of every kRows-th row: it finds them
// once for the whole product.
template <Storage storage, int chunk, int most>
class RowCopies {
  using Type = typename Element<storage>::Type;
  static constexpr int kPieces = chunk * static_cast<int>(sizeof(Type)) / 16, kRows = kThreads / kPieces;
  static constexpr int kPiece = 16 / static_cast<int>(sizeof(Type)), kRounds = (most + kRows - 1) / kRows;

 public:
  // `number_of(i)` is the number of row i of `count`.
  template <class NumberOf>
  __device__ __forceinline__ RowCopies(const Rows& rows, int count, NumberOf number_of)
      : rows_(rows), count_(count) {
    HA_UNROLL
    for (int i = 0; i < kRounds; ++i) {
      const int row = threadIdx.x / kPieces + i * kRows;
      from_[i] = row < count ? row_of<storage>(rows, number_of(row)) : nullptr;
    }
  }

  __device__ __forceinline__ void copy(unsigned char* to, int64_t k) const {
    const int first = threadIdx.x / kPieces, piece = threadIdx.x % kPieces;
    const int64_t column = k + piece * kPiece, left = rows_.dim - column;
    const int valid = left <= 0 ? 0 : left < kPiece ? static_cast<int>(left) : kPiece;
    unsigned char* at = to + piece_at(first, piece);  // kRows is a multiple of 8, so pieces keep their places
    if (rows_.aligned) {
      HA_UNROLL
      for (int i = 0; i < kRounds; ++i)
        if (first + i * kRows < count_)
          copy_async(at + i * kRows * kRowBytes, from_[i] + column, valid * static_cast<int>(sizeof(Type)));
      return;
    }
    for (int i = 0; i < kRounds; ++i)
      if (first + i * kRows < count_)
        for (int e = 0; e < kPiece; ++e)
          reinterpret_cast<Type*>(at + i * kRows * kRowBytes)[e] = e < valid ? from_[i][column + e] : Type{};
  }

 private:
  static_assert(kRows % 8 == 0, "");
  const Rows& rows_;
  const Type* from_[kRounds];
  int count_;
};

// Calls store(word, region, x, y) with the cosines x of word first_word + word with region first_region + region of the
// tile's lists and y with the region behind it, for at most 128 words and 144 regions; region is even, and y says
// nothing behind the last. `stages` are kProductBytes of shared memory, which what is stored may overlap. All threads;
// ends with a barrier.
template <class P, class Store>
__device__ __forceinline__ void make_product(const Rows& words, const Rows& regions, const WideTile& tile,
                                             int first_word, int first_region, unsigned char* stages, Store store) {
  const int n_words = tile.n_words - first_word < kProductWords ? tile.n_words - first_word : kProductWords;
  const int n_regions =
      tile.n_regions - first_region < kTileRegions ? tile.n_regions - first_region : kTileRegions;
  const int chunks = static_cast<int>((words.dim + P::kChunk - 1) / P::kChunk);
  const RowCopies<P::kWords, P::kChunk, kProductWords> word_copies(
      words, n_words, [&](int i) { return tile.row_of_word(first_word + i); });
  const RowCopies<P::kRegions, P::kChunk, kTileRegions> region_copies(
      regions, n_regions, [&](int i) { return tile.first_region + first_region + i; });
  const auto load = [&](int chunk) {
    unsigned char* to = stages + chunk % kStages * kStageBytes;
    const int64_t k = static_cast<int64_t>(chunk) * P::kChunk;
    word_copies.copy(to, k);
    region_copies.copy(to + kProductWords * kRowBytes, k);
  };

  // Warps share the fragments that hold anything, so that a small pair costs little.
  const int warp = threadIdx.x / kLanes, g = threadIdx.x % kLanes / 4, t = threadIdx.x % 4;
  const int half_words = (n_words + 31) / 32, half_regions = (n_regions + 15) / 16;  // fragments
  const int warp_word = warp % 2 * half_words * 16, warp_region = warp / 2 * half_regions * 8;
  const int words_left = (n_words - warp_word + 15) / 16, regions_left = (n_regions - warp_region + 7) / 8;
  const int word_fragments = words_left < half_words ? words_left : half_words;
  const int region_fragments = regions_left < half_regions ? regions_left : half_regions;
  const bool idle = word_fragments <= 0 || region_fragments <= 0;
  const bool all = n_words > kProductWords - 16 && n_regions > kTileRegions - 8;  // fragments, of every warp
  Accumulators<typename P::Accumulator> c = {};

  __syncthreads();  // what lay in the stages before is no longer read
  for (int s = 0; s < kStages - 1; ++s) {
    if (s < chunks) load(s);
    copy_commit();
  }
  const auto next_chunk = [&](int chunk) {
    copy_wait<kStages - 2>();
    __syncthreads();  // the chunk is there for all, and all are done with the one that the next copy overwrites
    if (chunk + kStages - 1 < chunks) load(chunk + kStages - 1);
    copy_commit();
    const unsigned char* from = stages + chunk % kStages * kStageBytes;
    return WarpChunk{from + warp_word * kRowBytes, from + (kProductWords + warp_region) * kRowBytes, word_fragments,
                     region_fragments};
  };
  if (all) {  // loops of their own: the compiler keeps the accumulators where the products want them
    for (int chunk = 0; chunk < chunks; ++chunk) P::template multiply<true>(c, next_chunk(chunk));
  } else {
    for (int chunk = 0; chunk < chunks; ++chunk) {
      const WarpChunk part = next_chunk(chunk);
      if (!idle) P::template multiply<false>(c, part);
    }
  }
  copy_wait<0>();
  __syncthreads();  // what is stored may lie where the chunks were

  float word_scales[kWordFragments][2];
  HA_UNROLL
  for (int i = 0; i < kWordFragments; ++i)
    HA_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int word = warp_word + i * 16 + half * 8 + g;
      word_scales[i][half] = P::kWords == Storage::i8 && i < word_fragments && word < n_words
                                 ? words.scales[tile.row_of_word(first_word + word)]
                                 : 1.0f;
    }
  HA_UNROLL
  for (int j = 0; j < kRegionFragments; ++j) {
    const int region = warp_region + j * 8 + 2 * t;
    if (j >= region_fragments || region >= n_regions) break;
    float scales[2] = {1.0f, 1.0f};
    if (P::kRegions == Storage::i8) {
      const float* at = regions.scales + tile.first_region + first_region + region;
      scales[0] = at[0];
      scales[1] = region + 1 < n_regions ? at[1] : 0.0f;
    }
    HA_UNROLL
    for (int i = 0; i < kWordFragments; ++i)
      HA_UNROLL
      for (int half = 0; half < 2; ++half) {
        const int word = warp_word + i * 16 + half * 8 + g;
        if (i < word_fragments && word < n_words)
          store(word, region, static_cast<float>(c[i][j][2 * half]) * (word_scales[i][half] * scales[0]),
                static_cast<float>(c[i][j][2 * half + 1]) * (word_scales[i][half] * scales[1]));
      }
  }
  __syncthreads();
}

}  // namespace heritage_align
