// Step 1: the maths of one pair, over T. Late interaction with a smooth maximum: log(sum_r exp(b s_r)) / b for each word.
#pragma once

#include "../pair_score.h"

namespace heritage_align {
inline namespace HA_LEVEL {

// `similarities[i]` is the similarity of the word with region i of m (m >= 1). The largest is taken out first, so that the
// exponentials cannot overflow.
template <class T, class Similarities>
HA_HD T soft_maximum(float sharpness, int64_t m, const Similarities& similarities) {
  T top = similarities[0];
  for (int64_t i = 1; i < m; ++i) top = larger(top, T(similarities[i]));
  T mass = top * 0.0f;
  for (int64_t i = 0; i < m; ++i) mass = mass + exp_of((similarities[i] - top) * sharpness);
  return top + log_of(mass) * (1.0f / sharpness);
}

}  // namespace HA_LEVEL
}  // namespace heritage_align
