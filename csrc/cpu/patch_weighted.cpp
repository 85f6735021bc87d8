// The ops patch_weighted and maxsim on the CPU: one driver, two ways to pool.
#include "tiling.h"

namespace heritage_align {
namespace {

Tensor pool_scores(const Level& cpu, const PatchProblem& problem, const Rows& texts, const Rows* global,
                   const Maybe& candidates, const Tensor& like) {
  std::unique_ptr<Memory> wide_memory;
  const float* wide =
      global == nullptr ? nullptr : list_words(cpu, WordForm::f32, texts, wide_memory).values;
  if (candidates.has_value()) {
    std::unique_ptr<Memory> memory;
    const WordForm form = word_form(cpu, problem.patches, texts, !problem.maximum_sum);
    const ListWords listed = list_words(cpu, form, texts, memory);
    const Tensor scores = new_floats(like, {candidates->size(0), candidates->size(1)});
    for_candidates(cpu, problem.patches, texts, *candidates, false, static_cast<float*>(scores.mutable_data_ptr()),
                   [&](const CandidateList& list, const Extent& extent, char* scratch) {
                     cpu.patch_candidates(problem, texts, list, listed, global, wide, extent, scratch);
                   });
    return scores;
  }
  const Tensor scores = new_floats(like, {problem.patches.items, texts.items});
  float* out = static_cast<float*>(scores.mutable_data_ptr());
  for_all_pairs(cpu, problem.patches, texts, false,
                [&](Arithmetic arithmetic, const RegionBlock& block, const WordBlock* blocks, int64_t count,
                    const Extent& extent, char* scratch) {
                  cpu.patch_block(problem, arithmetic, texts, block, blocks, count, global, wide, out, texts.items,
                                  extent, scratch);
                });
  return scores;
}

Tensor patch_weighted(Tensor queries, Tensor patches, Maybe patch_scales, Tensor patch_offsets, Maybe weights,
                      Maybe global_features, Maybe candidates, int64_t pooling, double temperature, double global_mix,
                      int64_t /*max_patches*/) {
  std::vector<int64_t> query_offsets, image_offsets;
  const Rows texts = single_rows(queries, query_offsets);
  const PatchSettings settings{static_cast<Pooling>(pooling), static_cast<float>(1.0 / temperature),
                               static_cast<float>(global_mix)};
  const PatchProblem problem{rows_of(patches, patch_scales, patch_offsets), settings, data_of<float>(weights), false};
  Rows global{};
  if (global_features.has_value()) global = single_rows(*global_features, image_offsets);
  return pool_scores(level(), problem, texts, global_features.has_value() ? &global : nullptr, candidates, patches);
}

Tensor maxsim(Tensor queries, Maybe query_scales, Tensor query_offsets, Tensor documents, Maybe document_scales,
              Tensor document_offsets, Maybe candidates, Maybe /*bin_order*/, Maybe /*bin_starts*/,
              int64_t /*max_query*/, int64_t /*max_document*/) {
  const Rows texts = rows_of(queries, query_scales, query_offsets);
  const PatchProblem problem{rows_of(documents, document_scales, document_offsets),
                             PatchSettings{Pooling::max, 1.0f, 0.0f}, nullptr, true};
  return pool_scores(level(), problem, texts, nullptr, candidates, documents);
}

}  // namespace
}  // namespace heritage_align

STABLE_TORCH_LIBRARY_IMPL(heritage_align, CPU, m) {
  m.impl("patch_weighted", TORCH_BOX(&heritage_align::patch_weighted));
  m.impl("maxsim", TORCH_BOX(&heritage_align::maxsim));
}
