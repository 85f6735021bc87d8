// The ops patch_weighted and maxsim on CUDA: kernels for tiles, and for candidate lists.
#include "pooled.cuh"

#include "hopper.h"
#include "ops.h"
#include "rerank.cuh"
#include "rerank_plain.cuh"
#include "tensors.cuh"

namespace heritage_align::cuda {
namespace {

// `store`: the tensor that p.patches describes; no query has more than max_query rows.
void launch_tiles(const Device& device, PooledParameters p, const Tensor& store, int64_t max_query) {
  if (hopper::score_pooled(device, p, store, max_query)) return;
  p.tasks = with_wide_tiles(p.tasks, p.patches.items, p.queries.items, max_query);
  const int64_t blocks = blocks_for(p.tasks.count);
  switch (p.patches.storage) {
    case Storage::f32:
      return device.launch(pooled_kernel<FloatProduct>, blocks, kThreads, kPooledBytes, p);
    case Storage::f16:
      return device.launch(pooled_kernel<HalfProduct>, blocks, kThreads, kPooledBytes, p);
    case Storage::bf16:
      return device.launch(pooled_kernel<BrainProduct>, blocks, kThreads, kPooledBytes, p);
    case Storage::i8:
      if (p.queries.storage == Storage::i8)
        return device.launch(pooled_kernel<Int8Product>, blocks, kThreads, kPooledBytes, p);
      return device.launch(pooled_kernel<MixedProduct>, blocks, kThreads, kPooledBytes, p);
  }
}

void launch_pairs(const Device& device, const PlainRerankParameters& p) {
  const int64_t blocks = blocks_for(p.tasks.count);
  const size_t bytes = plain_rerank_bytes(p.patches.dim);
  switch (p.patches.storage) {
    case Storage::f32:
      return device.launch(plain_rerank_kernel<Storage::f32>, blocks, kPlainThreads, bytes, p);
    case Storage::f16:
      return device.launch(plain_rerank_kernel<Storage::f16>, blocks, kPlainThreads, bytes, p);
    case Storage::bf16:
      return device.launch(plain_rerank_kernel<Storage::bf16>, blocks, kPlainThreads, bytes, p);
    case Storage::i8:
      return device.launch(plain_rerank_kernel<Storage::i8>, blocks, kPlainThreads, bytes, p);
  }
}

template <Storage storage>
void launch_rerank(const Device& device, RerankParameters p) {
  const Rows& patches = p.patches;
  if (p.asked.by_image.order == nullptr)
    return device.launch(whole_batches(patches, kPairAhead) ? rerank_pair_kernel<storage, true>
                                                            : rerank_pair_kernel<storage, false>,
                         blocks_for(p.asked.pairs), kPairThreads, rerank_pair_bytes(patches), p);
  const int64_t images = std::min(p.asked.pairs, patches.items);
  // One fragment where the average image fills at most half of it, or where two are too long.
  const bool few = 2 * p.asked.pairs * p.columns_of_text <= kTextRows * images;
  p.fragments = few || rerank_image_bytes(patches, kMaxTextFragments) > kSharedBytesOfBlock ? 1 : kMaxTextFragments;
  device.launch(whole_batches(patches, kImageRerankAhead) ? rerank_image_kernel<storage, true>
                                                          : rerank_image_kernel<storage, false>,
                blocks_for(images), kImageRerankThreads, rerank_image_bytes(patches, p.fragments), p);
}

// Candidates of float16, bfloat16 and int8 patches. False, having done nothing, where the rows do not fit.
bool rerank(const Device& device, RerankParameters p, const Tensor& candidates) {
  if (!fits_fragments(p.patches, p.queries) || rerank_image_bytes(p.patches, 1) > kSharedBytesOfBlock) return false;
  Maybe memory;
  p.asked = {static_cast<const int64_t*>(candidates.const_data_ptr()), candidates.size(1),
             candidates.size(0) * candidates.size(1),
             order_if_worth_it(device, candidates, p.patches.items, p.scores, memory)};
  p.columns_of_text = p.queries.storage == operand_of(p.patches.storage) ? 1 : 2;
  switch (p.patches.storage) {
    case Storage::f16:
      launch_rerank<Storage::f16>(device, p);
      break;
    case Storage::bf16:
      launch_rerank<Storage::bf16>(device, p);
      break;
    default:
      launch_rerank<Storage::i8>(device, p);
  }
  return true;
}

// Below four texts an image the patches' bytes are the whole cost, and a tile of 64 texts would be mostly empty.
bool few_texts_an_image(const Tasks& tasks, int64_t pairs, int64_t n_images) {
  return tasks.plan != Plan::all_pairs && pairs < 4 * n_images;
}

}  // namespace

Tensor patch_weighted(Tensor queries, Tensor patches, Maybe patch_scales, Tensor patch_offsets, Maybe weights,
                      Maybe global_features, Maybe candidates, int64_t pooling, double temperature, double global_mix,
                      int64_t max_patches) {
  const Device device(patches);
  const Rows rows = rows_of(patches, patch_scales, patch_offsets);
  const Rows texts = rows_of(queries, std::nullopt, std::nullopt);
  const PatchSettings settings{static_cast<Pooling>(pooling), static_cast<float>(1.0 / temperature),
                               static_cast<float>(global_mix)};
  Tensor scores = room_for_scores(patches, rows.items, texts.items, candidates);
  float* to = static_cast<float*>(scores.mutable_data_ptr());
  if (candidates.has_value()) {
    const Rows global = global_features.has_value() ? rows_of(*global_features, std::nullopt, std::nullopt) : Rows{};
    const RerankParameters p{{}, texts, rows, global, settings, data_of<float>(weights), to, 1, 1};
    if (rerank(device, p, *candidates)) return scores;
  }

  fill_scores(device, scores);
  Maybe order_memory;
  const PairOrder order = order_if_worth_it(device, candidates, rows.items, nullptr, order_memory);
  const int64_t pairs = candidates.has_value() ? candidates->size(0) * candidates->size(1) : 0;
  const auto score = [&](const Tensor& store, const Rows& of_images, int64_t longest, const PatchSettings& how,
                         bool mix, const float* patch_weights) {
    Tasks tasks =
        plan_tasks(rows.items, texts.items, candidates, order, std::nullopt, std::nullopt, longest, 1);
    if (few_texts_an_image(tasks, pairs, rows.items) || tasks.plan == Plan::by_pair) {
      tasks.count = rows.items == 0 ? 0 : pairs;
      tasks.pair_order = nullptr;  // which leaves out the pairs of no image
      launch_pairs(device, PlainRerankParameters{tasks, texts, of_images, how, mix, patch_weights, to});
      return;
    }
    Maybe memory;
    const Rows converted = words_for(device, of_images.storage, queries, texts, memory);
    launch_tiles(device, PooledParameters{tasks, converted, of_images, how, false, mix, patch_weights, to}, store, 1);
  };
  if (global_features.has_value()) {
    // The global similarities first, in float32, as those of images with one patch; the second pass mixes them in.
    Maybe memory;
    const Rows global = words_for(device, Storage::f32, *global_features,
                                  rows_of(*global_features, std::nullopt, std::nullopt), memory);
    const Tensor store = memory.has_value() ? *memory : *global_features;
    score(store, global, 1, PatchSettings{Pooling::mean, 1.0f, 0.0f}, false, nullptr);
    score(patches, rows, max_patches, settings, true, data_of<float>(weights));
  } else {
    score(patches, rows, max_patches, settings, false, data_of<float>(weights));
  }
  return scores;
}

Tensor maxsim(Tensor queries, Maybe query_scales, Tensor query_offsets, Tensor documents, Maybe document_scales,
              Tensor document_offsets, Maybe candidates, Maybe bin_order, Maybe bin_starts, int64_t max_query,
              int64_t max_document) {
  const Device device(documents);
  const Rows rows = rows_of(documents, document_scales, document_offsets);
  Maybe memory;
  const Rows texts =
      words_for(device, rows.storage, queries, rows_of(queries, query_scales, query_offsets), memory);
  Tensor scores = room_for_scores(documents, rows.items, texts.items, candidates);
  fill_scores(device, scores);
  Maybe order_memory;
  const PairOrder order = order_if_worth_it(device, candidates, rows.items, nullptr, order_memory);
  const Tasks tasks = plan_tasks(rows.items, texts.items, candidates, order, bin_order, bin_starts, max_document,
                                 max_query);
  launch_tiles(device,
               PooledParameters{tasks, texts, rows, PatchSettings{Pooling::max, 1.0f, 0.0f}, true, false, nullptr,
                                static_cast<float*>(scores.mutable_data_ptr())},
               documents, max_query);
  return scores;
}

}  // namespace heritage_align::cuda
