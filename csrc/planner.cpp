// Host-side planning for the GPU drivers, and facts about this build. Python: heritage_align/ops/planner.py.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <numeric>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace {

using Ids = std::vector<int64_t>;

// First fit, longest first: order of the items and start of each bin. A segment tree over the bins' free room finds the
// first bin with enough of it in O(log bins).
std::pair<Ids, Ids> first_fit_decreasing(const Ids& lengths, int64_t capacity) {
  if (capacity < 1) throw std::invalid_argument("capacity must be 1 or greater");
  Ids by_length(lengths.size());
  std::iota(by_length.begin(), by_length.end(), 0);
  std::stable_sort(by_length.begin(), by_length.end(), [&](int64_t a, int64_t b) { return lengths[a] > lengths[b]; });
  size_t leaves = 1;
  while (leaves < lengths.size()) leaves *= 2;
  Ids room(2 * leaves, capacity);
  std::vector<Ids> bins;
  for (const int64_t item : by_length) {
    size_t node = 1;
    if (lengths[item] <= capacity) {
      while (node < leaves) node = room[2 * node] >= lengths[item] ? 2 * node : 2 * node + 1;
    } else {
      node = leaves + bins.size();  // longer than a bin: alone in a new one
    }
    const size_t bin = node - leaves;
    if (bin >= bins.size()) bins.resize(bin + 1);
    bins[bin].push_back(item);
    room[node] = std::max<int64_t>(0, room[node] - lengths[item]);
    if (lengths[item] > capacity) room[node] = -1;
    while (node > 1) {
      node /= 2;
      room[node] = std::max(room[2 * node], room[2 * node + 1]);
    }
  }
  Ids order, starts{0};
  for (const Ids& bin : bins) {
    order.insert(order.end(), bin.begin(), bin.end());
    starts.push_back(static_cast<int64_t>(order.size()));
  }
  return {order, starts};
}

// Positions of the flattened candidates sorted by image, -1 left out, and where each image's positions start.
std::pair<Ids, Ids> pairs_by_image(const Ids& candidates, int64_t n_images) {
  Ids starts(n_images + 1, 0);
  for (const int64_t image : candidates) {
    if (image >= n_images) throw std::invalid_argument("candidate " + std::to_string(image) + " is out of range");
    if (image >= 0) ++starts[image + 1];
  }
  std::partial_sum(starts.begin(), starts.end(), starts.begin());
  Ids order(starts.back()), next(starts.begin(), starts.end() - 1);
  for (size_t p = 0; p < candidates.size(); ++p)
    if (candidates[p] >= 0) order[next[candidates[p]]++] = static_cast<int64_t>(p);
  return {order, starts};
}

std::map<std::string, std::string> build_facts() {
  return {{"compiler", __VERSION__}, {"standard", std::to_string(__cplusplus)}};
}

}  // namespace

PYBIND11_MODULE(_planner, m) {
  m.doc() = "Host-side planning for the GPU kernels.";
  m.def("first_fit_decreasing", &first_fit_decreasing, pybind11::arg("lengths"), pybind11::arg("capacity"));
  m.def("pairs_by_image", &pairs_by_image, pybind11::arg("candidates"), pybind11::arg("n_images"));
  m.def("build_facts", &build_facts);
}
