// The twin of csrc/cuda/tensor_map.h: a rectangle's description is what was said of it.
#pragma once

#include <cstdint>

struct CUtensorMap {
  const uint16_t* values;
  int64_t dim, rows, stride;
  int box_rows;
};

namespace heritage_align::hopper {

constexpr int kBoxColumns = 64;

inline bool describe_rows(CUtensorMap& map, Storage, const void* values, int64_t dim, int64_t rows, int64_t stride,
                          int box_rows) {
  map = {static_cast<const uint16_t*>(values), dim, rows, stride, box_rows};
  return dim > 0 && rows > 0 && dim < int64_t{1} << 32 && rows < int64_t{1} << 32 && box_rows <= 256 &&
         stride * 2 % 16 == 0 && stride * 2 < int64_t{1} << 40 && reinterpret_cast<uintptr_t>(values) % 16 == 0;
}

}  // namespace heritage_align::hopper
