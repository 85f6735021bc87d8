// The ops patch_weighted and maxsim on CUDA: one kernel for tiles, one for single pairs.
#include "pooled.cuh"

#include "hopper.h"
#include "ops.h"
#include "tensors.cuh"

namespace heritage_align::cuda {
namespace {

void launch_tiles(const Device& device, const PooledParameters& p) {
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

void launch_pairs(const Device& device, const RerankParameters& p) {
  if (hopper::score_pairs(device, p)) return;
  const int64_t blocks = blocks_for(p.tasks.count);
  const size_t bytes = rerank_bytes(p.patches.dim);
  switch (p.patches.storage) {
    case Storage::f32:
      return device.launch(rerank_kernel<Storage::f32>, blocks, kRerankThreads, bytes, p);
    case Storage::f16:
      return device.launch(rerank_kernel<Storage::f16>, blocks, kRerankThreads, bytes, p);
    case Storage::bf16:
      return device.launch(rerank_kernel<Storage::bf16>, blocks, kRerankThreads, bytes, p);
    case Storage::i8:
      return device.launch(rerank_kernel<Storage::i8>, blocks, kRerankThreads, bytes, p);
  }
}

// Below four texts an image the patches' bytes are the whole cost, and a tile of 64 texts would be mostly empty.
bool few_texts_an_image(const Tasks& tasks, int64_t pairs, int64_t n_images) {
  return tasks.plan != Plan::all_pairs && pairs < 4 * n_images;
}

}  // namespace

Tensor patch_weighted(Tensor queries, Tensor patches, Maybe patch_scales, Tensor patch_offsets, Maybe weights,
                      Maybe global_features, Maybe candidates, Maybe pair_order, Maybe pair_starts, int64_t pooling,
                      double temperature, double global_mix, int64_t max_patches) {
  const Device device(patches);
  const Rows rows = rows_of(patches, patch_scales, patch_offsets);
  const Rows texts = rows_of(queries, std::nullopt, std::nullopt);
  const PatchSettings settings{static_cast<Pooling>(pooling), static_cast<float>(1.0 / temperature),
                               static_cast<float>(global_mix)};
  Tensor scores = new_scores(patches, rows.items, texts.items, candidates);
  float* to = static_cast<float*>(scores.mutable_data_ptr());
  const int64_t pairs = candidates.has_value() ? candidates->size(0) * candidates->size(1) : 0;
  const auto score = [&](const Rows& of_images, int64_t longest, const PatchSettings& how, bool mix,
                         const float* patch_weights) {
    Tasks tasks = plan_tasks(rows.items, texts.items, candidates, pair_order, pair_starts, std::nullopt, std::nullopt,
                             longest, 1);
    if (few_texts_an_image(tasks, pairs, rows.items)) {
      tasks.count = pairs;
      launch_pairs(device, RerankParameters{tasks, texts, of_images, how, mix, patch_weights, to});
      return;
    }
    Maybe memory;
    const Rows converted = words_for(device, of_images.storage, queries, texts, memory);
    launch_tiles(device, PooledParameters{tasks, converted, of_images, how, false, mix, patch_weights, to});
  };
  if (global_features.has_value()) {
    // The global similarities first, in float32, as those of images with one patch; the second pass mixes them in.
    const Device on_device(*global_features);
    Maybe memory;
    const Rows global = words_for(device, Storage::f32, *global_features,
                                  rows_of(*global_features, std::nullopt, std::nullopt), memory);
    score(global, 1, PatchSettings{Pooling::mean, 1.0f, 0.0f}, false, nullptr);
    score(rows, max_patches, settings, true, data_of<float>(weights));
  } else {
    score(rows, max_patches, settings, false, data_of<float>(weights));
  }
  return scores;
}

Tensor maxsim(Tensor queries, Maybe query_scales, Tensor query_offsets, Tensor documents, Maybe document_scales,
              Tensor document_offsets, Maybe candidates, Maybe pair_order, Maybe pair_starts, Maybe bin_order,
              Maybe bin_starts, int64_t max_query, int64_t max_document) {
  const Device device(documents);
  const Rows rows = rows_of(documents, document_scales, document_offsets);
  Maybe memory;
  const Rows texts =
      words_for(device, rows.storage, queries, rows_of(queries, query_scales, query_offsets), memory);
  Tensor scores = new_scores(documents, rows.items, texts.items, candidates);
  const Tasks tasks = plan_tasks(rows.items, texts.items, candidates, pair_order, pair_starts, bin_order, bin_starts,
                                 max_document, max_query);
  launch_tiles(device, PooledParameters{tasks, texts, rows, PatchSettings{Pooling::max, 1.0f, 0.0f}, true, false,
                                        nullptr, static_cast<float*>(scores.mutable_data_ptr())});
  return scores;
}

}  // namespace heritage_align::cuda
