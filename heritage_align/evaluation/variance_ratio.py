"""The F-test of Sheng et al. (2021), section 6.1 and Table 5: are the variances over the folds equal?

**What it does not say.** The null hypothesis is that two models have the same *variance* of a recall over the folds.
The paper infers from "not rejected" that the model with the higher mean is significantly better; that does not follow.
An F-test that is not significant is no evidence of equal variances (with four folds it needs a ratio above 9.3), and
equal variances are no evidence about means. It is here so that Table 5 can be made again; whether one model is better
is tested by `cross_validation.compare_folds`, which stands beside it in the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from heritage_align.errors import DataError, MissingDependency


@dataclass(frozen=True)
class VarianceRatio:
    """Result of `variance_ratio_test`.

    Attributes:
        variances: sample variances (n - 1) of baseline and proposed model, percentage points squared.
        df: degrees of freedom of both.
        f: the larger variance over the smaller, at least 1; inf where the smaller is 0.
        p_value: one-sided, ``P(F >= f)``; at most 0.5 for equal numbers of folds.
        p_baseline: one-sided with the baseline's variance over the proposed model's, whichever is larger. It is
            `p_value` where the baseline varies more, and the only reading under which the values above 0.5 in the
            paper's Table 5 (0.70, 0.74, 0.89, 0.63, 0.85) can occur.
    """

    variances: tuple[float, float]
    df: tuple[int, int]
    f: float
    p_value: float
    p_baseline: float

    def asdict(self) -> dict[str, Any]:
        """Return the numbers, JSON-ready: an infinite ratio is None."""
        return {
            "variances": list(self.variances),
            "df": list(self.df),
            "f": self.f if np.isfinite(self.f) else None,
            "p_value": self.p_value,
            "p_baseline": self.p_baseline,
        }


def variance_ratio_test(baseline: Sequence[float], proposed: Sequence[float]) -> VarianceRatio:
    """Test whether a recall varies equally over the folds in two models; says nothing about their means.

    ``F = larger variance / smaller variance`` with (k - 1, k - 1) degrees of freedom, one-sided. The paper's example,
    SCAN against SCAN_GB with variances 8.0 and 0.7 over four folds: F = 11.43, p = 0.038 (reported as 0.03).

    Args:
        baseline: ``(k,)`` recall of every fold, in percent.
        proposed: ``(k,)``, the other model's.

    Raises:
        DataError: fewer than two folds, values that are not finite, or two variances of 0, which have no ratio.
        MissingDependency: scipy is not installed.
    """
    try:
        from scipy.stats import f as f_distribution
    except ImportError as error:
        raise MissingDependency(
            "the variance-ratio test needs scipy: pip install 'heritage-align[evaluation]'"
        ) from error
    samples = [np.asarray(values, dtype=np.float64) for values in (baseline, proposed)]
    for name, values in zip(("baseline", "proposed"), samples):
        if values.ndim != 1 or len(values) < 2:
            raise DataError(f"{name}: a variance needs the values of at least 2 folds, got shape {values.shape}")
        if not np.isfinite(values).all():
            raise DataError(f"{name}: {int((~np.isfinite(values)).sum())} of {len(values)} values are not finite")
    first, second = (float(np.var(values, ddof=1)) for values in samples)
    df_first, df_second = (len(values) - 1 for values in samples)
    if first == second == 0:
        raise DataError("baseline, proposed: neither varies over the folds, so that their variances have no ratio")
    p_baseline = float(f_distribution.sf(_ratio(first, second), df_first, df_second))
    if first >= second:
        return VarianceRatio((first, second), (df_first, df_second), _ratio(first, second), p_baseline, p_baseline)
    p_value = float(f_distribution.sf(_ratio(second, first), df_second, df_first))
    return VarianceRatio((first, second), (df_first, df_second), _ratio(second, first), p_value, p_baseline)


def _ratio(above: float, below: float) -> float:
    return above / below if below else float("inf")
