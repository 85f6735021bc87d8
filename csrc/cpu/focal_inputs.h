// What the ops of focal attention, forward and backward, find out about their inputs before any pair.
#pragma once

#include "../focal_arguments.h"
#include "tiling.h"

namespace heritage_align {

// Which regions take part: an image of which `keep` removes all regions keeps all of them.
inline std::vector<uint8_t> usable_keep(const Rows& images, const uint8_t* keep) {
  std::vector<uint8_t> usable(keep, keep + images.offsets[images.items]);
  for (int64_t i = 0; i < images.items; ++i) {
    const auto first = usable.begin() + images.offsets[i], last = usable.begin() + images.offsets[i + 1];
    if (std::find(first, last, uint8_t{1}) == last) std::fill(first, last, uint8_t{1});
  }
  return usable;
}

// |row| of every row.
inline Memory lengths_of(const Level& cpu, const Rows& rows) {
  const int64_t total = rows.offsets[rows.items];
  Memory lengths(4 * total + 4);
  constexpr int64_t at_once = 256;
  for_each_task((total + at_once - 1) / at_once, 64, [&](int64_t task, char*) {
    const int64_t first = task * at_once;
    cpu.row_lengths(rows, first, std::min(at_once, total - first), lengths.floats() + first);
  });
  return lengths;
}

// The packed factors of ragged items: those given, or made here.
class OwnedFactors {
 public:
  OwnedFactors(const Level& cpu, const Rows& rows, const Maybe& given, const Maybe& offsets)
      : factors_{data_of<float>(given), data_of<int64_t>(offsets)} {
    if (given.has_value()) return;
    offsets_.push_back(0);
    for (int64_t i = 0; i < rows.items; ++i) offsets_.push_back(offsets_.back() + triangle_size(rows.length(i)));
    memory_ = std::make_unique<Memory>(4 * offsets_.back() + 4);
    factors_ = {memory_->floats(), offsets_.data()};
    const Extent extent{0, 0, 0, 0, 0, longest_of(rows)};
    for_each_task(rows.items, cpu.scratch_bytes(extent, Arithmetic::f32, rows.dim), [&](int64_t i, char* scratch) {
      cpu.triangular_factor(rows, rows.offsets[i], rows.length(i), memory_->floats() + offsets_[i], scratch);
    });
  }
  const Factors& view() const { return factors_; }

 private:
  std::vector<int64_t> offsets_;
  std::unique_ptr<Memory> memory_;
  Factors factors_;
};

}  // namespace heritage_align
