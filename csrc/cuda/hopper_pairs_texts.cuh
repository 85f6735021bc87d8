// The texts of a tile of hopper_focal_pairs.cu, and what is found out about them before its product.
#pragma once

#include "hopper_pairs.cuh"

namespace heritage_align::hopper::pairs {

// The texts of a tile, as Tile in tasks.cuh, and what else a team keeps.
struct Texts {
  int64_t next;   // the entry after those of this tile
  int64_t alone;  // the text that is alone in the tile and measured, or -1
  int n_texts, n_words;
  int64_t place[32], number[32];
  int64_t word_row[32];
  int word_start[33];
  float lengths[32], scales[32];  // of words
  float results[32];              // t2i
  float scores[32];               // t2i, when i2t is to be added
  float region_lengths[kRegions], region_scales[kRegions];
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

// Lists the texts of the entries first .. last for which the tile has room; by the first warp of a team.
__device__ __forceinline__ void list_texts(const Parameters& p, int64_t first, int64_t last, Texts& texts) {
  const bool by_pair = p.asked.by_image.order == nullptr;
  const int lane = Team::thread();
  int64_t place = 0, text = 0, row = 0;
  int length = 0;
  if (first + lane < last) {
    place = pair_at(p.asked, first + lane);
    text = text_of_pair(p.asked, place);
    row = p.focal.words.start(text);
    length = static_cast<int>(p.focal.words.start(text + 1) - row);
  }
  int words_to_here = length;
  for (int step = 1; step < kLanes; step *= 2) {
    const int before = __shfl_up_sync(kAllLanes, words_to_here, step);
    if (lane >= step) words_to_here += before;
  }
  const bool taken = first + lane < last && words_to_here <= p.sizes.words;
  const unsigned with_words = __ballot_sync(kAllLanes, taken && length > 0);
  const int count = __popc(__ballot_sync(kAllLanes, taken));
  const int n_words = __shfl_sync(kAllLanes, words_to_here, count - 1);
  if (taken && length == 0) p.focal.scores[place] = -INFINITY;
  if (taken && length > 0) {
    const int slot = __popc(with_words & ((1u << lane) - 1u)), start = words_to_here - length;
    texts.place[slot] = place;
    texts.number[slot] = text;
    texts.word_start[slot] = start;
    for (int w = 0; w < length; ++w) texts.word_row[start + w] = row + w;
  }
  if (lane == 0) {
    texts.next = first + count;
    texts.n_texts = __popc(with_words);
    texts.n_words = n_words;
    texts.alone = by_pair && texts.n_texts == 1 ? text : -1;
    texts.word_start[texts.n_texts] = n_words;
  }
}

// |s| of the tile's words, four words a warp at a time: they may come from device memory, and the first product waits
// for them. Words that were int8 have scales.
template <Storage storage>
__device__ __forceinline__ void find_lengths(const Parameters& p, Texts& texts) {
  constexpr int kAtOnce = 4;
  const Rows& words = p.focal.words;
  const auto scale_of_word = [&](int w) {
    return p.word_scales == nullptr ? 1.0f : p.word_scales[texts.word_row[w]];
  };
  for (int w = Team::thread(); w < texts.n_words; w += Team::kSize) {
    texts.scales[w] = scale_of_word(w);
    if (p.focal.word_lengths != nullptr) texts.lengths[w] = p.focal.word_lengths[texts.word_row[w]];
  }
  if (p.focal.word_lengths != nullptr || p.focal.direction == Direction::i2t) return;
  const int lane = threadIdx.x % kLanes, warp = Team::thread() / kLanes;
  for (int first = warp * kAtOnce; first < texts.n_words; first += kTeamWarps * kAtOnce) {
    float squares[kAtOnce] = {};
    for (int64_t column = lane * 8; column < words.dim; column += 2 * kLanes * 8) {
      Sixteen piece[kAtOnce][2];
      HA_UNROLL
      for (int k = 0; k < kAtOnce; ++k) {
        const auto* row = row_of<storage>(words, texts.word_row[first + k < texts.n_words ? first + k : first]) + column;
        HA_UNROLL
        for (int i = 0; i < 2; ++i)
          piece[k][i] = column + i * kLanes * 8 < words.dim ? *reinterpret_cast<const Sixteen*>(row + i * kLanes * 8)
                                                            : Sixteen{};
      }
      HA_UNROLL
      for (int k = 0; k < kAtOnce; ++k)
        HA_UNROLL
        for (int i = 0; i < 2; ++i) {
          const Wide<storage> wide(piece[k][i]);
          HA_UNROLL
          for (int e = 0; e < 8; ++e) squares[k] += wide.x[e] * wide.x[e];
        }
    }
    warp_sums(squares);
    HA_UNROLL
    for (int k = 0; k < kAtOnce; ++k)
      if (lane == k && first + k < texts.n_words)
        texts.lengths[first + k] = sqrtf(squares[k]) * fabsf(scale_of_word(first + k));
  }
}

// A packed triangle of m rows into the upper triangle of a square in shared memory, in the background. What is below the
// diagonal stays zero.
__device__ __forceinline__ void bring_triangle(const float* packed, int m, float* square, int pitch) {
  const int lane = threadIdx.x % kLanes;
  HA_NO_UNROLL
  for (int r = Team::thread() / kLanes; r < m; r += kTeamWarps) {
    const float* row = packed + r * m - r * (r - 1) / 2;  // of m - r numbers: triangle_row
    float* to = square + r * pitch + r;
    HA_UNROLL
    for (int i = 0; i < kWarpContexts; i += kLanes)
      if (i + lane < m - r) copy_async_word(to + i + lane, row + i + lane);
  }
}

// The texts of the next tile, from `entry` on; returns the entry after them. For i2t their factors come in the
// background, in squares along the diagonal of one. A pair whose text was alone in the tile before finds everything as
// it left it.
template <Storage storage, bool kI2t>
__device__ __forceinline__ int64_t next_texts(const Parameters& p, int64_t entry, int64_t last, Texts& texts,
                                              float* factors) {
  const bool by_pair = p.asked.by_image.order == nullptr;
  if (by_pair && text_of_pair(p.asked, entry) == texts.alone) {
    if (Team::thread() == 0) texts.place[0] = entry;  // which that thread alone reads
    return entry + 1;
  }
  Team::sync();  // the tile before is no longer read
  if (Team::thread() < kLanes) list_texts(p, entry, last, texts);
  Team::sync();
  if constexpr (kI2t) {
    const int pitch = p.sizes.text_factor_pitch();
    for (int text = 0; text < texts.n_texts; ++text) {
      const int start = texts.word_start[text], n = texts.word_start[text + 1] - start;
      bring_triangle(p.focal.text_factors.values + p.focal.text_factors.offsets[texts.number[text]], n,
                     factors + start * (pitch + 1), pitch);
    }
    copy_commit();
  }
  find_lengths<storage>(p, texts);
  return texts.next;
}

#endif

}  // namespace heritage_align::hopper::pairs
