// Between torch's tensors and the kernels' plain data: what every op here needs on the host.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <initializer_list>
#include <optional>

#include "pairs.cuh"
#include "stream.h"
#include "tasks.cuh"

// Newer headers say what went wrong in torch, such as how much memory was asked for.
#ifdef STABLE_TORCH_ERROR_CODE_CHECK
#define HA_TORCH_CHECK(call) STABLE_TORCH_ERROR_CODE_CHECK(call)
#else
#define HA_TORCH_CHECK(call) TORCH_ERROR_CODE_CHECK(call)
#endif

namespace heritage_align {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using Maybe = std::optional<Tensor>;

inline Storage storage_of(const Tensor& values) {
  switch (values.scalar_type()) {
    case ScalarType::Float:
      return Storage::f32;
    case ScalarType::Half:
      return Storage::f16;
    case ScalarType::BFloat16:
      return Storage::bf16;
    case ScalarType::Char:
      return Storage::i8;
    default:
      STD_TORCH_CHECK(false, "values must be float32, float16, bfloat16 or int8");
  }
}

template <class E>
const E* data_of(const Maybe& tensor) {
  return tensor.has_value() ? static_cast<const E*>(tensor->const_data_ptr()) : nullptr;
}

// Through the shim that allocates: torch::stable::new_empty looks its op up by name and boxes the arguments, which
// takes up to a microsecond more.
inline Tensor new_tensor(const Tensor& like, std::initializer_list<int64_t> shape, ScalarType dtype) {
  constexpr size_t most = 2;
  STD_TORCH_CHECK(shape.size() <= most, "new tensors have a row or a matrix of numbers");
  int64_t strides[most] = {1, 1};
  if (shape.size() == most) strides[0] = std::max<int64_t>(1, shape.begin()[1]);
  int32_t device_type, device_index;
  HA_TORCH_CHECK(aoti_torch_get_device_type(like.get(), &device_type));
  HA_TORCH_CHECK(aoti_torch_get_device_index(like.get(), &device_index));
  AtenTensorHandle made = nullptr;
  HA_TORCH_CHECK(aoti_torch_empty_strided(
      static_cast<int64_t>(shape.size()), shape.begin(), strides,
      torch::stable::detail::to<int32_t>(torch::stable::detail::from(dtype)), device_type, device_index, &made));
  return Tensor(made);
}

inline Rows rows_of(const Tensor& values, const Maybe& scales, const Maybe& offsets) {
  STD_TORCH_CHECK(values.stride(1) == 1 || values.size(1) <= 1, "the elements of a row must lie side by side");
  const Storage storage = storage_of(values);
  const int64_t stride = values.size(0) <= 1 ? values.size(1) : values.stride(0);
  const bool aligned = reinterpret_cast<uintptr_t>(values.const_data_ptr()) % 16 == 0 &&
                       (values.size(0) <= 1 || stride * element_size(storage) % 16 == 0);
  return Rows{values.const_data_ptr(),
              data_of<float>(scales),
              data_of<int64_t>(offsets),
              stride,
              values.size(1),
              offsets.has_value() ? offsets->size(0) - 1 : values.size(0),
              storage,
              aligned};
}

inline int64_t blocks_for(int64_t tasks) { return std::min<int64_t>(tasks, (int64_t{1} << 31) - 1); }

// The words in the dtype that their product with regions of `regions` takes: its own, or float16 beside int8 regions
// (both int8 stay as they are). New rows are padded to 16 bytes; `memory` keeps them alive.
Rows words_for(const Device& device, Storage regions, const Tensor& values, const Rows& words, Maybe& memory);

// The length of every row, (rows,) float32.
Tensor lengths_of(const Device& device, const Tensor& values, const Rows& rows);

// -inf, what an empty item or no candidate scores, everywhere; for kernels that do not write those themselves.
void fill_scores(const Device& device, Tensor& scores);

// Candidates image by image; `memory` keeps the order alive. With `scores`, pairs of no image get -inf there.
PairOrder order_pairs(const Device& device, const Tensor& candidates, int64_t n_images, float* scores, Maybe& memory);

// The same where images are shared by enough pairs that it pays, else none. A single text asks for each image once.
inline PairOrder order_if_worth_it(const Device& device, const Maybe& candidates, int64_t n_images, float* scores,
                                   Maybe& memory) {
  if (!candidates.has_value()) return {};
  const int64_t texts = candidates->size(0), pairs = texts * candidates->size(1);
  if (texts <= 1 || 4 * pairs < n_images) return {};
  return order_pairs(device, *candidates, n_images, scores, memory);
}

// Items of at most `longest` rows that fit `room` rows.
inline int items_that_fit(int64_t room, int64_t longest) {
  static_assert(kTileImages <= kTileWords && kTileImages <= kTileRegions, "so that any group fits the tile's lists");
  return static_cast<int>(std::clamp<int64_t>(room / std::max<int64_t>(longest, 1), 1, kTileImages));
}

// Blocks that share an image with many texts: enough for twice the average.
inline int64_t splits_for(int64_t pairs, int64_t n_images, int texts_per_group) {
  return std::clamp<int64_t>(2 * (n_images > 0 ? pairs / n_images : 0) / texts_per_group, 1, 16);
}

// The plan for all pairs, or for candidates if given. Texts and images of at most max_words and max_regions rows.
inline Tasks plan_tasks(int64_t n_images, int64_t n_texts, const Maybe& candidates, const PairOrder& pairs_by_image,
                        const Maybe& bin_order, const Maybe& bin_starts, int64_t max_regions, int64_t max_words) {
  Tasks tasks{};
  tasks.texts_per_group = items_that_fit(kTileWords, max_words);
  tasks.images_per_group = items_that_fit(kTileRegions, max_regions);
  if (!candidates.has_value()) {
    tasks.plan = Plan::all_pairs;
    tasks.bin_order = data_of<int32_t>(bin_order);
    tasks.bin_starts = data_of<int32_t>(bin_starts);
    tasks.bins = bin_starts.has_value() ? bin_starts->size(0) - 1 : 0;
    tasks.bins_per_group = 1;
    tasks.text_groups = bin_starts.has_value() ? tasks.bins
                                               : (n_texts + tasks.texts_per_group - 1) / tasks.texts_per_group;
    tasks.image_groups = (n_images + tasks.images_per_group - 1) / tasks.images_per_group;
    tasks.count = tasks.text_groups * tasks.image_groups;
    tasks.image_step = n_texts;
    return tasks;
  }
  const int64_t pairs = candidates->size(0) * candidates->size(1);
  tasks.pairs = pairs;
  tasks.candidates = data_of<int64_t>(candidates);
  tasks.pair_order = pairs_by_image.order;
  tasks.pair_starts = pairs_by_image.starts;
  tasks.candidates_per_text = candidates->size(1);
  tasks.image_step = 0;
  tasks.images_per_group = 1;
  // Below two texts an image on average, blocks of images that nobody asks for would cost more than reading one twice.
  tasks.plan =
      tasks.pair_order != nullptr && n_images > 0 && pairs >= 2 * n_images ? Plan::by_image : Plan::by_pair;
  if (tasks.plan == Plan::by_pair) {
    tasks.texts_per_group = 1;
    tasks.pair_order = nullptr;  // which leaves out the pairs of no image
  }
  tasks.splits = splits_for(pairs, n_images, tasks.texts_per_group);
  tasks.count = n_images == 0 ? 0 : tasks.plan == Plan::by_image ? n_images * tasks.splits : pairs;
  return tasks;
}

// The same plan for tiles of twice the words, which the kernels of product.cuh take.
inline Tasks with_wide_tiles(Tasks tasks, int64_t n_images, int64_t n_texts, int64_t max_words) {
  if (tasks.plan == Plan::by_pair) return tasks;
  tasks.texts_per_group = items_that_fit(2 * kTileWords, max_words);
  if (tasks.plan == Plan::by_image) {
    tasks.splits = splits_for(tasks.pairs, n_images, tasks.texts_per_group);
    tasks.count = n_images * tasks.splits;
    return tasks;
  }
  // A text longer than a bin is alone in it, and two such bins need not fit a tile.
  tasks.bins_per_group = max_words <= kTileWords ? 2 : 1;
  tasks.text_groups = tasks.bin_starts != nullptr
                          ? (tasks.bins + tasks.bins_per_group - 1) / tasks.bins_per_group
                          : (n_texts + tasks.texts_per_group - 1) / tasks.texts_per_group;
  tasks.count = tasks.text_groups * tasks.image_groups;
  return tasks;
}

inline Tensor room_for_scores(const Tensor& like, int64_t n_images, int64_t n_texts, const Maybe& candidates) {
  return candidates.has_value() ? new_tensor(like, {candidates->size(0), candidates->size(1)}, ScalarType::Float)
                                : new_tensor(like, {n_images, n_texts}, ScalarType::Float);
}

}  // namespace heritage_align
