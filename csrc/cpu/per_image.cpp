// The ops that look at one item at a time, on the CPU: fold_patches and triangular_factor.
#include "tiling.h"

namespace heritage_align {
namespace {

Tensor fold_patches(Tensor global_features, Tensor patches, Maybe patch_scales, Tensor patch_offsets,
                    double temperature, bool renormalise, int64_t /*max_patches*/) {
  const Level& cpu = level();
  const Rows images = rows_of(patches, patch_scales, patch_offsets);
  std::vector<int64_t> offsets;
  std::unique_ptr<Memory> memory;
  const ListWords whole = list_words(cpu, WordForm::f32, single_rows(global_features, offsets), memory);
  const int64_t width = cpu.word_size(WordForm::f32, images.dim);
  const Tensor folded = new_floats(patches, {images.items, images.dim});
  float* out = static_cast<float*>(folded.mutable_data_ptr());
  const Extent extent{0, 0, 0, 0, 0, longest_of(images)};
  for_each_task(images.items, cpu.scratch_bytes(extent, Arithmetic::f32, images.dim), [&](int64_t i, char* scratch) {
    cpu.fold(images, i, whole.values + i * width, static_cast<float>(temperature), renormalise, extent, scratch,
             out + i * images.dim);
  });
  return folded;
}

Tensor triangular_factor(Tensor values, Maybe scales, Tensor offsets, Tensor factor_offsets, int64_t packed_size) {
  const Level& cpu = level();
  const Rows rows = rows_of(values, scales, offsets);
  const Tensor packed = new_floats(values, {packed_size});
  float* out = static_cast<float*>(packed.mutable_data_ptr());
  const auto* start = static_cast<const int64_t*>(factor_offsets.const_data_ptr());
  STD_TORCH_CHECK(start[rows.items] == packed_size, "packed_size must be the end of factor_offsets");
  const Extent extent{0, 0, 0, 0, 0, longest_of(rows)};
  for_each_task(rows.items, cpu.scratch_bytes(extent, Arithmetic::f32, rows.dim), [&](int64_t i, char* scratch) {
    cpu.triangular_factor(rows, rows.offsets[i], rows.length(i), out + start[i], scratch);
  });
  return packed;
}

}  // namespace
}  // namespace heritage_align

STABLE_TORCH_LIBRARY_IMPL(heritage_align, CPU, m) {
  m.impl("fold_patches", TORCH_BOX(&heritage_align::fold_patches));
  m.impl("triangular_factor", TORCH_BOX(&heritage_align::triangular_factor));
}
