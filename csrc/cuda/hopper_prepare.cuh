// What is made once before the tiles of Hopper's focal attention: words side by side, lists of each group's texts, and
// factors as operands of mma.sync.
#pragma once

#include "hopper_tile.cuh"

namespace heritage_align::hopper {

struct WidenParameters {
  Rows rows;  // int8
  int64_t count;
  uint16_t* to;
  int64_t pitch;  // a multiple of 8
};

// int8 rows as float16, which holds them exactly; their scales are for the cosines. A warp a row.
__global__ void __launch_bounds__(kThreads) widen_rows_kernel(WidenParameters p) {
  constexpr int kPiece = 8;
  const int lane = threadIdx.x % kLanes;
  for (int64_t r = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) / kLanes; r < p.count;
       r += static_cast<int64_t>(gridDim.x) * kThreads / kLanes) {
    const int8_t* from = row_of<Storage::i8>(p.rows, r);
    for (int64_t d = lane * kPiece; d < p.pitch; d += kPiece * kLanes) {
      alignas(8) int8_t bytes[kPiece] = {};
      if (p.rows.aligned && d + kPiece <= p.rows.dim) {
        *reinterpret_cast<uint2*>(bytes) = *reinterpret_cast<const uint2*>(from + d);
      } else {
        for (int e = 0; e < kPiece; ++e) bytes[e] = d + e < p.rows.dim ? from[d + e] : int8_t{0};
      }
      const uint2 both = *reinterpret_cast<const uint2*>(bytes);
      uint4 halves;
      halves_of_bytes(both.x, halves.x, halves.y);
      halves_of_bytes(both.y, halves.z, halves.w);
      *reinterpret_cast<uint4*>(p.to + r * p.pitch + d) = halves;
    }
  }
}

struct PackParameters {
  Tasks tasks;
  Rows words;
  uint16_t* packed;  // (128 a block, pitch): the words of a group side by side, then zeros
  int64_t pitch;
  TextList* lists;
  float* scales;     // of the packed words, where they have any; or null
};

// The words of a group lie anywhere in memory; the copy engine takes rectangles. A block copies a half of a group, a
// warp a word, and measures it on the way.
template <Storage storage>
__global__ void __launch_bounds__(kThreads) pack_words_kernel(PackParameters p) {
  constexpr int kPiece = 8;   // elements of 16 bytes
  constexpr int kAhead = 4;   // pieces of a word under way in each lane
  HA_SHARED_MEMORY(shared);
  Tile& tile = *reinterpret_cast<Tile*>(shared);
  const int lane = threadIdx.x % kLanes;
  const int half = blockIdx.x % kGroups, first = half * kTileWords;
  const int64_t block = blockIdx.x / kGroups;
  TextList& list = p.lists[block];
  int texts = 0;  // of the halves before
  for (int h = 0; h <= half; ++h) {
    if (block * kGroups + h >= p.tasks.text_groups) {
      __syncthreads();
      if (threadIdx.x == 0) tile.n_texts = tile.n_words = 0;
      __syncthreads();
    } else {
      start_group<Block>(p.tasks, TextGroups{}, block * kGroups + h, p.words, tile);
    }
    if (h < half) texts += tile.n_texts;
  }
  const int here = tile.n_texts, words = tile.n_words;
  for (int i = threadIdx.x; i < here; i += kThreads) {
    list.text[texts + i] = tile.text[i];
    list.begin[texts + i] = static_cast<uint8_t>(first + tile.word_start[i]);
    list.end[texts + i] = static_cast<uint8_t>(first + tile.word_start[i + 1]);
  }
  if (half == kGroups - 1 && threadIdx.x == 0) list.texts = texts + here;
  for (int w = threadIdx.x; w < kTileWords; w += kThreads) {
    int text = 0;
    while (text + 1 < here && tile.word_start[text + 1] <= w) ++text;
    list.text_of_word[first + w] = static_cast<uint8_t>(here > 0 ? texts + text : 0);
  }
  for (int w = threadIdx.x / kLanes; w < kTileWords; w += kThreads / kLanes) {
    uint16_t* to = p.packed + (blockIdx.x * int64_t{kTileWords} + w) * p.pitch;
    const uint16_t* from = w < words ? row_of<storage>(p.words, tile.row_of_word(w)) : nullptr;
    float squares = 0.0f;
    for (int64_t column = kPiece * lane; column < p.pitch; column += kAhead * kPiece * kLanes) {
      alignas(16) uint16_t piece[kAhead][kPiece] = {};
      HA_UNROLL
      for (int i = 0; i < kAhead; ++i) {
        const int64_t d = column + i * kPiece * kLanes;
        if (from != nullptr && p.words.aligned && d + kPiece <= p.words.dim) {
          *reinterpret_cast<uint4*>(piece[i]) = *reinterpret_cast<const uint4*>(from + d);
        } else if (from != nullptr) {
          for (int e = 0; e < kPiece; ++e) piece[i][e] = d + e < p.words.dim ? from[d + e] : uint16_t{0};
        }
      }
      HA_UNROLL
      for (int i = 0; i < kAhead; ++i) {
        HA_UNROLL
        for (int e = 0; e < kPiece; ++e) {
          const float x = Element<storage>::widen(piece[i][e]);
          squares += x * x;
        }
        const int64_t d = column + i * kPiece * kLanes;
        if (d < p.pitch) *reinterpret_cast<uint4*>(to + d) = *reinterpret_cast<const uint4*>(piece[i]);
      }
    }
    squares = warp_sum(squares);
    const float scale = from == nullptr ? 1.0f : scale_of(p.words, tile.row_of_word(w));
    if (lane == 0) list.length[first + w] = sqrt_of(squares) * scale;
    if (lane == 0 && p.scales != nullptr) p.scales[blockIdx.x * int64_t{kTileWords} + w] = scale;
  }
}

struct ImageListParameters {
  Rows regions;
  const uint8_t* keep;
  int64_t groups;
  int images_per_group;
  ImageList* lists;
};

// A warp a group of images.
__global__ void __launch_bounds__(kThreads) list_images_kernel(ImageListParameters p) {
  const int lane = threadIdx.x % kLanes;
  const int64_t group = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) / kLanes;
  if (group >= p.groups) return;
  const int64_t first = group * p.images_per_group, left = p.regions.items - first;
  const int images = static_cast<int>(left < p.images_per_group ? left : p.images_per_group);
  const int64_t first_region = p.regions.start(first);
  ImageList& list = p.lists[group];
  if (lane == 0) {
    list.images = images;
    list.first_image = static_cast<int32_t>(first);
    list.first_region = static_cast<int32_t>(first_region);
  }
  for (int i = lane; i <= images; i += kLanes)
    list.start[i] = static_cast<int32_t>(p.regions.start(first + i) - first_region);
  for (int i = lane; i < images; i += kLanes) {
    const int start = static_cast<int>(p.regions.start(first + i) - first_region);
    const int count = static_cast<int>(p.regions.start(first + i + 1) - first_region) - start;
    const uint64_t all = count == 0 ? 0 : ~uint64_t{0} >> (64 - count);
    uint64_t kept = 0;
    for (int r = 0; r < count; ++r) {
      kept |= uint64_t{p.keep == nullptr || p.keep[first_region + start + r] != 0} << r;
      list.image_of_region[start + r] = static_cast<uint8_t>(i);
    }
    list.kept[i] = kept == 0 ? all : kept;  // keeps nothing: keeps all
  }
}

struct FactorParameters {
  Factors factors;
  const int64_t* offsets;  // of the items' rows
  int64_t items, dim, stride;
  uint2* values;
  float* unscale;
  bool words;  // contexts in the order of attend_to_text, else of attend_to_image
};

// The blocks of R that hopper_attend.cuh lists, transposed: lane 4 g + t holds row 8 j + g at two contexts of each block,
// as a pair of halves and what that pair leaves. The factor is multiplied by a power of two that brings its largest entry
// to [2^7, 2^8).
__global__ void __launch_bounds__(kThreads) prepare_factors_kernel(FactorParameters p) {
  HA_SHARED_MEMORY(shared);
  float* tops = reinterpret_cast<float*>(shared);
  const int lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes, g = lane / 4, t = lane % 4;
  for (int64_t item = blockIdx.x; item < p.items; item += gridDim.x) {
    const int64_t m = p.offsets[item + 1] - p.offsets[item], rank = m < p.dim ? m : p.dim;
    const float* R = p.factors.values + p.factors.offsets[item];
    float top = 0.0f;
    for (int64_t i = threadIdx.x; i < triangle_size(m); i += kThreads) top = larger(top, fabsf(R[i]));
    for (int step = kLanes / 2; step > 0; step /= 2) top = larger(top, __shfl_xor_sync(kAllLanes, top, step));
    __syncthreads();
    if (lane == 0) tops[warp] = top;
    __syncthreads();
    for (int w = 0; w < kThreads / kLanes; ++w) top = larger(top, tops[w]);
    int exponent = 0;
    if (top > 0.0f && top < INFINITY) frexpf(top, &exponent);
    exponent = exponent < -100 ? -100 : exponent;
    const float scale = ldexpf(1.0f, 8 - exponent);
    if (threadIdx.x == 0) p.unscale[item] = ldexpf(1.0f, exponent - 8);
    const auto halves_of = [&](int j, int q) {  // high, then low
      float x[2];
      for (int i = 0; i < 2; ++i) {
        const int64_t row = 8 * j + g, context = 8 * q + (p.words ? t + 4 * i : 2 * t + i);
        const bool inside = row < rank && row <= context && context < m;
        x[i] = inside ? R[triangle_row(row, m) + context - row] * scale : 0.0f;
      }
      const uint32_t high = halves_of_floats(x[0], x[1]);
      return uint2{high, halves_of_floats(x[0] - float_of_f16(static_cast<uint16_t>(high)),
                                          x[1] - float_of_f16(static_cast<uint16_t>(high >> 16)))};
    };
    const int groups = context_groups(m), pairs = (groups / 2) * (groups / 2);
    uint2* values = p.values + item * p.stride;
    for (int q = warp; q < groups; q += kThreads / kLanes) {
      const bool first_of_pair = q % 2 == 0 && q + 1 < groups;
      for (int j = 0; j <= q; ++j) {
        if (first_of_pair) {
          const uint2 left = halves_of(j, q), right = halves_of(j, q + 1);
          reinterpret_cast<uint4*>(values)[(q / 2 * (q / 2) + j) * kLanes + lane] = {left.x, right.x, left.y, right.y};
        } else if (q % 2 == 0 || j == q) {
          const int single = q % 2 == 1 ? q / 2 : groups / 2 + j;
          values[(2 * pairs + single) * kLanes + lane] = halves_of(j, q);
        }
      }
    }
  }
}

}  // namespace heritage_align::hopper
