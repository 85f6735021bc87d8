// The op focal_attention_backward on the CPU: the pairs whose score has a gradient, and no others.
//
// One task an image makes C' of its pairs and sums the gradient of its rows; then one task a text sums that of its own.
// Each sum runs in one order, so gradients do not depend on the number of threads.
#include <tuple>

#include "focal_inputs.h"

namespace heritage_align {
namespace {

constexpr int64_t kRecordFloats = int64_t{4} << 20;  // of records at a time: 16 MB

// Pairs of scores that have a gradient, text after text; empty items have none.
std::vector<PairGradient> pairs_with_gradient(const Rows& images, const Rows& texts, const float* grad,
                                              const Maybe& candidates) {
  std::vector<PairGradient> pairs;
  const int64_t* ids = data_of<int64_t>(candidates);
  const int64_t per_text = candidates.has_value() ? candidates->size(1) : images.items;
  for (int64_t t = 0; t < texts.items; ++t) {
    if (texts.length(t) == 0) continue;
    for (int64_t k = 0; k < per_text; ++k) {
      const int64_t image = ids == nullptr ? k : ids[t * per_text + k];
      const float slope = ids == nullptr ? grad[k * texts.items + t] : grad[t * per_text + k];
      if (slope != 0.0f && image >= 0 && image < images.items && images.length(image) > 0)
        pairs.push_back({image, t, slope, nullptr});
    }
  }
  return pairs;
}

// Calls run(first, last) for the runs of equal items, in parallel.
template <class Item, class Run>
void for_each_item(const std::vector<PairGradient>& pairs, size_t scratch_bytes, const Item& item_of, const Run& run) {
  std::vector<size_t> starts;
  for (size_t k = 0; k < pairs.size(); ++k)
    if (k == 0 || item_of(pairs[k]) != item_of(pairs[k - 1])) starts.push_back(k);
  starts.push_back(pairs.size());
  for_each_task(static_cast<int64_t>(starts.size()) - 1, scratch_bytes, [&](int64_t task, char* scratch) {
    run(pairs.data() + starts[task], static_cast<int64_t>(starts[task + 1] - starts[task]), scratch);
  });
}

// Rows are padded to whole vectors while their gradient is summed.
Tensor without_padding(Tensor padded, int64_t dim) {
  if (padded.size(1) == dim) return padded;
  return torch::stable::contiguous(torch::stable::narrow(padded, 1, 0, dim));
}

std::tuple<Tensor, Tensor> focal_attention_backward(const Tensor& grad, const FocalArguments& a) {
  const Level& cpu = level();
  const Rows images = rows_of(a.regions, a.region_scales, a.region_offsets);
  const Rows texts = rows_of(a.words, a.word_scales, a.word_offsets);
  std::optional<OwnedFactors> image_factors, text_factors;
  if (a.t2i()) image_factors.emplace(cpu, images, a.image_factor, a.image_factor_offsets);
  if (a.i2t()) text_factors.emplace(cpu, texts, a.text_factor, a.text_factor_offsets);
  std::vector<uint8_t> kept;
  if (a.keep.has_value() && a.t2i()) kept = usable_keep(images, data_of<uint8_t>(a.keep));
  const Memory word_lengths = lengths_of(cpu, texts), region_lengths = lengths_of(cpu, images);
  const FocalProblem problem{images,
                             texts,
                             a.direction(),
                             a.settings(),
                             kept.empty() ? nullptr : kept.data(),
                             image_factors.has_value() ? image_factors->view() : Factors{},
                             text_factors.has_value() ? text_factors->view() : Factors{},
                             word_lengths.floats()};
  const auto padded = [&](int64_t n) { return (n + cpu.lanes - 1) / cpu.lanes * cpu.lanes; };
  const int64_t ld = padded(images.dim);
  const auto zeros = [&](const Tensor& like) {
    Tensor rows = new_floats(like, {like.size(0), ld});
    return torch::stable::zero_(rows);
  };
  const Tensor region_gradient = zeros(a.regions), word_gradient = zeros(a.words);
  float* of_regions = static_cast<float*>(region_gradient.mutable_data_ptr());
  float* of_words = static_cast<float*>(word_gradient.mutable_data_ptr());
  const size_t scratch_bytes = cpu.gradient_scratch_bytes(longest_of(images), longest_of(texts), images.dim);
  const auto all = pairs_with_gradient(images, texts, static_cast<const float*>(grad.const_data_ptr()), a.candidates);
  const auto record_size = [&](const PairGradient& pair) {
    const int64_t n = texts.length(pair.text);
    return (images.length(pair.image) + n) * padded(n);
  };
  for (size_t first = 0; first < all.size();) {
    int64_t room = 0;
    size_t last = first;
    for (; last < all.size() && (last == first || room + record_size(all[last]) <= kRecordFloats); ++last)
      room += record_size(all[last]);
    const Memory records(4 * room);
    std::vector<PairGradient> pairs(all.begin() + first, all.begin() + last);
    float* record = records.floats();
    for (PairGradient& pair : pairs) {
      pair.record = record;
      record += record_size(pair);
    }
    const std::vector<PairGradient> by_text = pairs;
    std::stable_sort(pairs.begin(), pairs.end(),
                     [](const PairGradient& one, const PairGradient& other) { return one.image < other.image; });
    for_each_item(pairs, scratch_bytes, [](const PairGradient& pair) { return pair.image; },
                  [&](const PairGradient* mine, int64_t count, char* scratch) {
                    const int64_t row = images.offsets[mine->image];
                    cpu.focal_image_gradient(problem, region_lengths.floats() + row, mine, count, of_regions + row * ld,
                                             ld, scratch);
                  });
    for_each_item(by_text, scratch_bytes, [](const PairGradient& pair) { return pair.text; },
                  [&](const PairGradient* mine, int64_t count, char* scratch) {
                    cpu.focal_text_gradient(problem, mine, count, of_words + texts.offsets[mine->text] * ld, ld,
                                            scratch);
                  });
    first = last;
  }
  return {without_padding(region_gradient, images.dim), without_padding(word_gradient, images.dim)};
}

}  // namespace
}  // namespace heritage_align

STABLE_TORCH_LIBRARY_IMPL(heritage_align, CPU, m) {
  m.impl("focal_attention_backward", TORCH_BOX(&heritage_align::FocalOp::backward<&heritage_align::focal_attention_backward>));
}
