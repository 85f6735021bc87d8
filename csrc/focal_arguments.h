// The arguments that focal_attention and its backward share: the one place in C++ that has them in their order, as
// heritage_align/ops/focal_arguments.py is in Python. What is in tensors: csrc/ops.cpp.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <tuple>
#include <utility>

#include "epilogue/focal_attention.h"

#define HA_FOCAL_ARGUMENTS                                                                                    \
  "Tensor regions, Tensor? region_scales, Tensor region_offsets, Tensor words, Tensor? word_scales,"          \
  " Tensor word_offsets, Tensor? keep, Tensor? image_factor, Tensor? image_factor_offsets,"                   \
  " Tensor? text_factor, Tensor? text_factor_offsets, Tensor? candidates, int direction, int rectifier,"      \
  " int normalise, int focal, int aggregate, float temperature, float lse_scale, int max_regions, int max_words"

namespace heritage_align {

using torch::stable::Tensor;
using Maybe = std::optional<Tensor>;

struct FocalArguments {
  Tensor regions;
  Maybe region_scales;
  Tensor region_offsets;
  Tensor words;
  Maybe word_scales;
  Tensor word_offsets;
  Maybe keep, image_factor, image_factor_offsets, text_factor, text_factor_offsets, candidates;
  int64_t way, rectifier, normalise, focal, aggregate;
  double temperature, lse_scale;
  int64_t max_regions, max_words;  // -1 on the CPU, which does not need them

  Direction direction() const { return static_cast<Direction>(way); }
  bool t2i() const { return direction() != Direction::i2t; }
  bool i2t() const { return direction() != Direction::t2i; }
  FocalSettings settings() const {
    return focal_settings(rectifier, normalise, focal, aggregate, temperature, lse_scale);
  }
};

// Torch calls an op with one parameter an argument, and these call it with the struct: for TORCH_BOX.
template <class... T>
struct Unpacked {
  template <auto op>  // Tensor(FocalArguments, the plan of text_bins in ops/planner.py, twice)
  static Tensor forward(T... arguments, Maybe bin_order, Maybe bin_starts) {
    return op(FocalArguments{std::move(arguments)...}, bin_order, bin_starts);
  }
  template <auto op>  // (gradient of the regions, of the words)(gradient of the scores, FocalArguments)
  static std::tuple<Tensor, Tensor> backward(Tensor grad, T... arguments) {
    return op(grad, FocalArguments{std::move(arguments)...});
  }
};

using FocalOp = Unpacked<Tensor, Maybe, Tensor, Tensor, Maybe, Tensor, Maybe, Maybe, Maybe, Maybe, Maybe, Maybe, int64_t,
                         int64_t, int64_t, int64_t, int64_t, double, double, int64_t, int64_t>;

}  // namespace heritage_align
