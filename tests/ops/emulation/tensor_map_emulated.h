// The twin of csrc/cuda/tensor_map.h: a rectangle's description is what was said of it.
#pragma once

#include <cstdint>

struct CUtensorMap {
  const unsigned char* values;
  int64_t dim, rows, stride;
  int box_rows, element_bytes;  // two: the box is swizzled; one: it is not
};

namespace heritage_align::hopper {

constexpr int kBoxColumns = 64;

inline bool describe_rows(CUtensorMap& map, Storage storage, const void* values, int64_t dim, int64_t rows,
                          int64_t stride, int box_rows) {
  const int bytes = storage == Storage::i8 ? 1 : 2;
  map = {static_cast<const unsigned char*>(values), dim, rows, stride, box_rows, bytes};
  return dim > 0 && rows > 0 && dim < int64_t{1} << 32 && rows < int64_t{1} << 32 && box_rows <= 256 &&
         stride * bytes % 16 == 0 && stride * bytes < int64_t{1} << 40 && reinterpret_cast<uintptr_t>(values) % 16 == 0;
}

}  // namespace heritage_align::hopper
