// Cuts ragged items into tiles of whole items, packs the words, and runs all pairs or candidate lists.
#pragma once

#include <algorithm>
#include <vector>

#include "tensors.h"

namespace heritage_align {

// 288 regions (8 images of 36) and 128 words: the packed regions stream from L2, and the four tiles fit it beside them.
constexpr int64_t kTileRegions = 288;
constexpr int64_t kTileWords = 128;
constexpr int64_t kTileItems = 64;
constexpr int64_t kPackedBytes = int64_t{256} << 20;  // of packed words at a time

// Consecutive items first .. first + items.
struct Span {
  int64_t first;
  int64_t items;
};

// Consecutive whole items of at most `rows` rows and kTileItems items together; a longer item is alone.
inline std::vector<Span> spans_of(const Rows& ragged, int64_t rows, int64_t from, int64_t to) {
  std::vector<Span> spans;
  for (int64_t item = from; item < to;) {
    int64_t end = item + 1;
    while (end < to && end - item < kTileItems && ragged.offsets[end + 1] - ragged.offsets[item] <= rows) ++end;
    spans.push_back({item, end - item});
    item = end;
  }
  return spans;
}

// Fills tiles as full as the columns allow: of the numbers of images that fit, the one that wastes least of the last vector.
inline int64_t region_target(const Rows& images, int64_t lanes) {
  const int64_t mean = images.items == 0 ? 1 : std::max<int64_t>(1, images.offsets[images.items] / images.items);
  int64_t best = kTileRegions;
  double least = 1.0;
  for (int64_t n = std::max<int64_t>(1, kTileRegions * 3 / 4 / mean); n * mean <= kTileRegions * 3 / 2; ++n) {
    const int64_t rows = n * mean, padded = (rows + lanes - 1) / lanes * lanes;
    const double waste = static_cast<double>(padded - rows) / static_cast<double>(padded);
    if (waste < least - 0.01) {
      least = waste;
      best = rows;
    }
  }
  return best;
}

// An edge of consecutive items that owns its arrays.
struct OwnedEdge {
  std::vector<int64_t> ids, start;

  OwnedEdge(const Rows& ragged, const Span& span) {
    for (int64_t i = 0; i < span.items; ++i) {
      ids.push_back(span.first + i);
      start.push_back(ragged.offsets[span.first + i] - ragged.offsets[span.first]);
    }
    start.push_back(ragged.offsets[span.first + span.items] - ragged.offsets[span.first]);
  }
  Edge view() const { return Edge{ids.data(), start.data(), static_cast<int64_t>(ids.size())}; }
};

inline int64_t longest_of(const Rows& ragged) {
  int64_t longest = 0;
  for (int64_t i = 0; i < ragged.items; ++i) longest = std::max(longest, ragged.length(i));
  return longest;
}

inline Arithmetic arithmetic_of(const Level& level, const Rows& images, const Rows& texts) {
  const auto both = [&](Storage storage) { return images.storage == storage && texts.storage == storage; };
  // 255 * 127 * dim must fit int32.
  if (both(Storage::i8) && images.dim <= 65536 && level.can_multiply(Arithmetic::i8)) return Arithmetic::i8;
  if (both(Storage::bf16) && level.can_multiply(Arithmetic::bf16)) return Arithmetic::bf16;
  return Arithmetic::f32;
}

// Calls run(region block, word blocks, count, extent, scratch) for tasks that cover all pairs.
template <class Run>
void for_all_pairs(const Level& level, const Rows& images, const Rows& texts, bool factors_here, const Run& run) {
  const Arithmetic arithmetic = arithmetic_of(level, images, texts);
  const int64_t units = level.units(arithmetic, texts.dim);
  const auto image_spans = spans_of(images, region_target(images, level.lanes), 0, images.items);
  Extent extent{0, 0, 0, 0, 0, longest_of(images)};
  std::vector<OwnedEdge> image_edges;
  for (const Span& span : image_spans) {
    image_edges.emplace_back(images, span);
    extent.regions = std::max(extent.regions, image_edges.back().view().rows());
    extent.images = std::max(extent.images, span.items);
    int64_t triangles = 0;
    for (int64_t i = 0; i < span.items; ++i) triangles += triangle_size(images.length(span.first + i));
    if (factors_here) extent.triangles = std::max(extent.triangles, triangles);
  }
  // Words are packed some hundred megabytes at a time; each time all images pass by.
  const int64_t words_at_once = std::max<int64_t>(kTileWords, kPackedBytes / (4 * std::max<int64_t>(units, 1)));
  for (const Span& chunk : [&] {
         std::vector<Span> chunks;
         for (int64_t first = 0; first < texts.items;) {
           int64_t end = first + 1;
           while (end < texts.items && texts.offsets[end + 1] - texts.offsets[first] <= words_at_once) ++end;
           chunks.push_back({first, end - first});
           first = end;
         }
         return chunks;
       }()) {
    const auto spans = spans_of(texts, kTileWords, chunk.first, chunk.first + chunk.items);
    std::vector<OwnedEdge> edges;
    std::vector<int64_t> packed_at;
    int64_t packed_rows = 0;
    for (const Span& span : spans) {
      edges.emplace_back(texts, span);
      const int64_t rows = edges.back().view().rows();
      packed_at.push_back(packed_rows);
      packed_rows += (rows + level.word_panel - 1) / level.word_panel * level.word_panel;
      extent.words = std::max(extent.words, rows);
      extent.texts = std::max(extent.texts, span.items);
    }
    const Memory packed(4 * packed_rows * units), sums(4 * packed_rows);
    std::vector<WordBlock> blocks;
    for (size_t k = 0; k < spans.size(); ++k) {
      blocks.push_back({edges[k].view(), texts.offsets[spans[k].first], packed.floats() + packed_at[k] * units,
                        reinterpret_cast<const int32_t*>(sums.floats()) + packed_at[k], edges[k].ids.data()});
    }
    for_each_task(static_cast<int64_t>(spans.size()), 64, [&](int64_t k, char*) {
      level.pack_words(arithmetic, texts, blocks[k].first_word, blocks[k].texts.rows(),
                       packed.floats() + packed_at[k] * units,
                       reinterpret_cast<int32_t*>(sums.floats()) + packed_at[k]);
    });
    // A block of images is packed once a task, so a task takes many word blocks, but not so many that threads idle.
    const int64_t threads = torch::stable::get_num_threads();
    const int64_t image_blocks = static_cast<int64_t>(image_edges.size()), word_blocks = static_cast<int64_t>(blocks.size());
    if (image_blocks == 0 || word_blocks == 0) continue;
    const int64_t splits = std::min(word_blocks, std::max<int64_t>(1, (4 * threads + image_blocks - 1) / image_blocks));
    const int64_t per_task = (word_blocks + splits - 1) / splits;
    const int64_t tasks_a_block = (word_blocks + per_task - 1) / per_task;
    for_each_task(image_blocks * tasks_a_block, level.scratch_bytes(extent, arithmetic, texts.dim),
                  [&](int64_t task, char* scratch) {
                    const int64_t i = task / tasks_a_block, first = task % tasks_a_block * per_task;
                    const RegionBlock block{image_edges[i].view(), images.offsets[image_spans[i].first]};
                    run(arithmetic, block, blocks.data() + first, std::min(per_task, word_blocks - first), extent,
                        scratch);
                  });
  }
}

// Calls run(list, extent, scratch) for each image that is a candidate, with all the texts that ask for it; the scores of
// what is no candidate are -inf.
template <class Run>
void for_candidates(const Level& level, const Rows& images, const Rows& texts, const Tensor& candidates,
                    bool factors_here, float* scores, const Run& run) {
  const int64_t k = candidates.size(1), total = candidates.numel();
  const int64_t* ids = static_cast<const int64_t*>(candidates.const_data_ptr());
  std::vector<int64_t> count(images.items + 1, 0), order(total);
  const auto wanted = [&](int64_t position) { return ids[position] >= 0 && ids[position] < images.items; };
  for (int64_t p = 0; p < total; ++p) {
    scores[p] = -INFINITY;
    if (wanted(p)) ++count[ids[p] + 1];
  }
  std::vector<int64_t> asked;
  Extent extent{0, 0, 0, 1, 0, 0};
  for (int64_t i = 0; i < images.items; ++i) {
    if (count[i + 1] > 0) {
      asked.push_back(i);
      extent.longest = std::max(extent.longest, images.length(i));
    }
    count[i + 1] += count[i];
  }
  std::vector<int64_t> fill(count.begin(), count.end() - 1);
  for (int64_t p = 0; p < total; ++p)
    if (wanted(p)) order[fill[ids[p]]++] = p;
  extent.regions = extent.longest;
  extent.words = std::max(kTileWords, longest_of(texts));
  extent.texts = kTileItems;
  if (factors_here) extent.triangles = triangle_size(extent.longest);
  for_each_task(static_cast<int64_t>(asked.size()), level.scratch_bytes(extent, Arithmetic::f32, texts.dim),
                [&](int64_t task, char* scratch) {
                  const int64_t image = asked[task];
                  run(CandidateList{image, order.data() + count[image], count[image + 1] - count[image], k, scores},
                      extent, scratch);
                });
}

// How the words of candidate lists are kept. Floating words may be rounded to two digits where that moves a score by about
// 1e-6 (direct_int8.h; not where many cosines add up, as in late interaction).
inline WordForm word_form(const Level& level, const Rows& images, const Rows& texts, bool may_round) {
  if (images.storage != Storage::i8 || !level.can_multiply(Arithmetic::i8)) return WordForm::f32;
  if (texts.storage == Storage::i8 && images.dim <= 65536) return WordForm::one_digit;  // 128 * 128 * dim fits int32
  // 128 * 32639 * dim / 16 must fit int32.
  const bool round = may_round && texts.storage != Storage::i8 && images.dim >= 256 && images.dim <= 8192;
  return round ? WordForm::two_digits : WordForm::f32;
}

// All words in a form: the store itself where it is that already, else a copy in `memory`.
inline ListWords list_words(const Level& level, WordForm form, const Rows& texts, std::unique_ptr<Memory>& memory) {
  const int64_t size = level.word_size(form, texts.dim);
  if (form == WordForm::f32 && texts.storage == Storage::f32 && texts.stride == size && texts.dim == size)
    return {form, static_cast<const float*>(texts.values)};
  const int64_t total = texts.offsets[texts.items];
  memory = std::make_unique<Memory>(4 * total * size);
  constexpr int64_t rows = 64;
  for_each_task((total + rows - 1) / rows, 64, [&](int64_t task, char*) {
    const int64_t first = task * rows;
    level.write_words(form, texts, first, std::min(rows, total - first), memory->floats() + first * size);
  });
  return {form, memory->floats()};
}

}  // namespace heritage_align
