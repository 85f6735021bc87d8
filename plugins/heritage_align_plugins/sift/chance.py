"""How often keypoints would agree so well if all their matches were accidents."""

from __future__ import annotations

import math


def significance(agree: int, pairs: int, share: float) -> float:
    """Return minus the decimal logarithm of the number of accidents that one expects: 2 is one in a hundred pictures.

    Two of the pairs make a similarity transform. If the points of the picture lay anywhere, each of the others would
    agree with it with probability `share`, whatever the rest, so that of all transforms

        accidents = pairs (pairs - 1) / 2 * P[Binomial(pairs - 2, share) >= agree - 2]

    are agreed with by as many. Source: the number of false alarms of Desolneux, Moisan and Morel 2000, as Moisan and
    Stival 2004 count it for points of two images; here for four degrees of freedom, which two pairs fix.

    Args:
        agree: pairs that agree with the transform, its own two among them; at least 2.
        pairs: in all, at least `agree`.
        share: of the picture's area in which a point would agree, above 0; 1 or more is all of it.

    Example:
        >>> round(significance(3, 4, 0.5), 4)    # of 6 transforms 3/4: 4.5 accidents
        -0.6532
    """
    tests, others, more = math.log(pairs * (pairs - 1) / 2), pairs - 2, agree - 2
    if share >= 1:
        return -tests / math.log(10)
    # In logarithms: of a hundred points that agree the probability is below the smallest number.
    inside, outside = math.log(share), math.log1p(-share)
    terms = [_log_choose(others, count) + count * inside + (others - count) * outside
             for count in range(more, others + 1)]  # fmt: skip
    largest = max(terms)
    tail = min(largest + math.log(math.fsum(math.exp(term - largest) for term in terms)), 0.0)
    return -(tests + tail) / math.log(10)


def _log_choose(total: int, count: int) -> float:
    return math.lgamma(total + 1) - math.lgamma(count + 1) - math.lgamma(total - count + 1)
