// The product of a tile: up to 64 words by up to 144 regions, over all of dim, with tensor cores.
//
// Both operands go through shared memory in chunks of 64 bytes a row, four chunks deep, by background copies
// (cp.async). A row takes 80 bytes there: the rows of a fragment then start in different banks. Four warps, two by
// two, each make 32 words by 72 regions in 72 accumulators a thread. float32 rows are multiplied in float32, not
// TF32, by the same threads in the same layout: correct before fast.
#pragma once

#include "tasks.cuh"

namespace heritage_align {

constexpr int kThreads = 128;
using Block = WholeBlock<kThreads>;
constexpr int kWarpWords = 32, kWarpRegions = 72;
constexpr int kWordFragments = kWarpWords / 16, kRegionFragments = kWarpRegions / 8;
constexpr int kStages = 4;
constexpr int kChunkBytes = 64;
constexpr int kRowPitch = 80;
constexpr int kStageBytes = (kTileWords + kTileRegions) * kRowPitch;
constexpr int kProductBytes = kStages * kStageBytes;

struct Fragment {
  const unsigned char* words;    // of this lane: row g, byte 4t, of the warp's part of the chunk
  const unsigned char* regions;
};

__device__ __forceinline__ uint32_t word_at(const unsigned char* at) { return *reinterpret_cast<const uint32_t*>(at); }

__device__ __forceinline__ void load_a(uint32_t (&a)[4], const unsigned char* at) {
  a[0] = word_at(at);
  a[1] = word_at(at + 8 * kRowPitch);
  a[2] = word_at(at + 16);
  a[3] = word_at(at + 8 * kRowPitch + 16);
}

__device__ __forceinline__ void load_b(uint32_t (&b)[2], const unsigned char* at) {
  b[0] = word_at(at);
  b[1] = word_at(at + 16);
}

// How each pair of storages is multiplied. kChunk: elements of a chunk.
template <class Acc, void (*mma)(Acc (&)[4], const uint32_t (&)[4], const uint32_t (&)[2])>
struct TensorCores {
  using Accumulator = Acc;

  static __device__ __forceinline__ void multiply(Acc (&c)[kWordFragments][kRegionFragments][4], const Fragment& from,
                                                  int word_fragments, int region_fragments) {
    HA_UNROLL
    for (int step = 0; step < kChunkBytes; step += 32) {
      uint32_t a[kWordFragments][4];
      HA_UNROLL
      for (int i = 0; i < kWordFragments; ++i) load_a(a[i], from.words + i * 16 * kRowPitch + step);
      HA_UNROLL
      for (int j = 0; j < kRegionFragments; ++j) {
        if (j >= region_fragments) break;
        uint32_t b[2];
        load_b(b, from.regions + j * 8 * kRowPitch + step);
        HA_UNROLL
        for (int i = 0; i < kWordFragments; ++i)
          if (i < word_fragments) mma(c[i][j], a[i], b);
      }
    }
  }
};

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

// float16 words by int8 regions: a chunk of regions is half as wide, and becomes float16 on its way to the registers.
struct MixedProduct {
  using Accumulator = float;
  static constexpr Storage kWords = Storage::f16, kRegions = Storage::i8;
  static constexpr int kChunk = 32;

  static __device__ __forceinline__ uint32_t halves_at(const unsigned char* at) {
    const auto* pair = reinterpret_cast<const int8_t*>(at);
    return uint32_t(f16_of_float(pair[0])) | uint32_t(f16_of_float(pair[1])) << 16;
  }

  static __device__ __forceinline__ void multiply(float (&c)[kWordFragments][kRegionFragments][4],
                                                  const Fragment& from, int word_fragments, int region_fragments) {
    const int t = threadIdx.x % 4;
    HA_UNROLL
    for (int step = 0; step < kChunkBytes; step += 32) {
      uint32_t a[kWordFragments][4];
      HA_UNROLL
      for (int i = 0; i < kWordFragments; ++i) load_a(a[i], from.words + i * 16 * kRowPitch + step);
      HA_UNROLL
      for (int j = 0; j < kRegionFragments; ++j) {
        if (j >= region_fragments) break;
        // from.regions is at byte 4t of the row; the int8 of the same k are at half of that.
        const unsigned char* at = from.regions + j * 8 * kRowPitch + step / 2 - 2 * t;
        const uint32_t b[2] = {halves_at(at), halves_at(at + 8)};
        HA_UNROLL
        for (int i = 0; i < kWordFragments; ++i)
          if (i < word_fragments) mma_f16(c[i][j], a[i], b);
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
  static __device__ __forceinline__ void multiply(float (&c)[kWordFragments][kRegionFragments][4],
                                                  const Fragment& from, int word_fragments, int region_fragments) {
    const int g = threadIdx.x % kLanes / 4, t = threadIdx.x % 4;
    const unsigned char* words = from.words - 4 * t;
    const unsigned char* regions = from.regions - 4 * t - g * kRowPitch + 2 * t * kRowPitch;
    HA_UNROLL
    for (int step = 0; step < kChunkBytes; step += 16) {
      float4 a[kWordFragments][2];
      HA_UNROLL
      for (int i = 0; i < kWordFragments; ++i)
        HA_UNROLL
        for (int half = 0; half < 2; ++half)
          a[i][half] = *reinterpret_cast<const float4*>(words + (i * 16 + half * 8) * kRowPitch + step);
      HA_UNROLL
      for (int j = 0; j < kRegionFragments; ++j) {
        if (j >= region_fragments) break;
        HA_UNROLL
        for (int side = 0; side < 2; ++side) {
          const float4 b = *reinterpret_cast<const float4*>(regions + (j * 8 + side) * kRowPitch + step);
          HA_UNROLL
          for (int i = 0; i < kWordFragments; ++i)
            if (i < word_fragments) {
              add(c[i][j][side], a[i][0], b);
              add(c[i][j][2 + side], a[i][1], b);
            }
        }
      }
    }
  }
};

// Brings elements k .. k + chunk of `count` rows to shared memory, zeros behind the end of a row; rows behind `count`
// keep what they hold, for nothing of them reaches a score. `row_of(i)` is the number of row i.
template <Storage storage, int chunk, class RowOf>
__device__ __forceinline__ void load_chunk(unsigned char* to, const Rows& rows, int count, int64_t k,
                                           RowOf row_number) {
  using Type = typename Element<storage>::Type;
  constexpr int pieces = chunk * static_cast<int>(sizeof(Type)) / 16, piece = 16 / static_cast<int>(sizeof(Type));
  for (int i = threadIdx.x; i < count * pieces; i += kThreads) {
    const int row = i / pieces;
    const int64_t column = k + i % pieces * piece, left = rows.dim - column;
    const int valid = left <= 0 ? 0 : left < piece ? static_cast<int>(left) : piece;
    const Type* from = row_of<storage>(rows, row_number(row)) + (valid > 0 ? column : 0);
    unsigned char* at = to + row * kRowPitch + i % pieces * 16;
    if (rows.aligned) {
      copy_async(at, from, valid * static_cast<int>(sizeof(Type)));
    } else {
      for (int e = 0; e < piece; ++e) reinterpret_cast<Type*>(at)[e] = e < valid ? from[e] : Type{};
    }
  }
}

// cosines[w * pitch + r] = <word first_word + w, region first_region + r> of the tile's lists, for at most 64 words
// and 144 regions. `stages` are kProductBytes of shared memory, which `cosines` may overlap. All threads; ends with a
// barrier.
template <class P>
__device__ __forceinline__ void make_product(const Rows& words, const Rows& regions, const Tile& tile, int first_word,
                                             int first_region, unsigned char* stages, float* cosines, int64_t pitch) {
  const int n_words = tile.n_words - first_word < kTileWords ? tile.n_words - first_word : kTileWords;
  const int n_regions =
      tile.n_regions - first_region < kTileRegions ? tile.n_regions - first_region : kTileRegions;
  const int chunks = static_cast<int>((words.dim + P::kChunk - 1) / P::kChunk);
  const auto load = [&](int chunk) {
    unsigned char* to = stages + chunk % kStages * kStageBytes;
    const int64_t k = static_cast<int64_t>(chunk) * P::kChunk;
    load_chunk<P::kWords, P::kChunk>(to, words, n_words, k,
                                     [&](int i) { return tile.row_of_word(first_word + i); });
    load_chunk<P::kRegions, P::kChunk>(to + kTileWords * kRowPitch, regions, n_regions, k,
                                       [&](int i) { return tile.first_region + first_region + i; });
  };

  const int warp = threadIdx.x / kLanes, g = threadIdx.x % kLanes / 4, t = threadIdx.x % 4;
  const int warp_word = warp % 2 * kWarpWords, warp_region = warp / 2 * kWarpRegions;
  // How many fragments of this warp hold anything: a small pair costs little.
  const int word_fragments = (n_words - warp_word + 15) / 16, region_fragments = (n_regions - warp_region + 7) / 8;
  const bool idle = word_fragments <= 0 || region_fragments <= 0;
  typename P::Accumulator c[kWordFragments][kRegionFragments][4] = {};

  __syncthreads();  // what lay in the stages before is no longer read
  for (int s = 0; s < kStages - 1; ++s) {
    if (s < chunks) load(s);
    copy_commit();
  }
  for (int chunk = 0; chunk < chunks; ++chunk) {
    copy_wait<kStages - 2>();
    __syncthreads();  // the chunk is there for all, and all are done with the one that the next copy overwrites
    if (chunk + kStages - 1 < chunks) load(chunk + kStages - 1);
    copy_commit();
    if (!idle) {
      const unsigned char* from = stages + chunk % kStages * kStageBytes;
      const Fragment fragment{from + (warp_word + g) * kRowPitch + 4 * t,
                              from + (kTileWords + warp_region + g) * kRowPitch + 4 * t};
      P::multiply(c, fragment, word_fragments, region_fragments);
    }
  }
  copy_wait<0>();
  __syncthreads();  // `cosines` may lie where the chunks were

  HA_UNROLL
  for (int i = 0; i < kWordFragments; ++i)
    HA_UNROLL
    for (int j = 0; j < kRegionFragments; ++j)
      HA_UNROLL
      for (int e = 0; e < 4; ++e) {
        const int word = warp_word + i * 16 + g + e / 2 * 8, region = warp_region + j * 8 + 2 * t + e % 2;
        if (word < n_words && region < n_regions) {
          float cosine = static_cast<float>(c[i][j][e]);
          if (P::kWords == Storage::i8) cosine *= words.scales[tile.row_of_word(first_word + word)];
          if (P::kRegions == Storage::i8) cosine *= regions.scales[tile.first_region + first_region + region];
          cosines[word * pitch + region] = cosine;
        }
      }
  __syncthreads();
}

}  // namespace heritage_align
