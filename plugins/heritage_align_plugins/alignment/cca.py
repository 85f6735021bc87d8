"""Regularised canonical correlation analysis: the linear baseline, and a start for the projections.

Maximise ``a^T C_xy b`` with ``a^T (C_xx + r_x I) a = b^T (C_yy + r_y I) b = 1`` (Hotelling 1936; the ridge as in
Vinod 1976): ``a = L_x^-T u``, ``b = L_y^-T v`` with ``u, v`` the singular vectors of ``L_x^-1 C_xy L_y^-T``,
``C + r I = L L^T``. Covariances are divided by n; a ridge is given as a share of the mean variance.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Cca(NamedTuple):
    """A fit.

    Attributes:
        x_mean: ``(dim_x,)``.
        y_mean: ``(dim_y,)``.
        a: ``(dim_x, dim)``, columns by falling correlation.
        b: ``(dim_y, dim)``.
        correlations: ``(dim,)``, the singular values, 0..1.
    """

    x_mean: Tensor
    y_mean: Tensor
    a: Tensor
    b: Tensor
    correlations: Tensor


def fit_cca(x: Tensor, y: Tensor, dim: int, ridge_x: float = 0.1, ridge_y: float = 0.1) -> Cca:
    """Fit paired rows; the wide side is reduced to the span of its rows first, which changes nothing.

    Args:
        x: ``(n, dim_x)``.
        y: ``(n, dim_y)``, dense; a TF-IDF matrix has thousands of columns.
        dim: directions to keep, at most ``min(n - 1, dim_x, dim_y)`` are there.
        ridge_x: added to the variances of x, as a share of their mean over the directions in which x varies.
        ridge_y: likewise.

    Raises:
        ValueError: fewer than two rows, rows that are not paired, values that are not finite, or no variance.
    """
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y) or len(x) < 2:
        raise ValueError(
            f"cca: expected two matrices of as many rows, 2 at least; got {tuple(x.shape)}, {tuple(y.shape)}"
        )
    if not (x.isfinite().all() and y.isfinite().all()):
        raise ValueError("cca: there are values that are not finite")
    x_mean, y_mean = x.double().mean(0), y.double().mean(0)
    x_basis, x_rows = _span(x.double() - x_mean)
    y_basis, y_rows = _span(y.double() - y_mean)
    x_white, y_white = _whitening(x_rows, ridge_x), _whitening(y_rows, ridge_y)
    # The covariance of a span's coordinates is diagonal, so whitening is a division.
    cross = (x_rows * x_white).T @ (y_rows * y_white) / len(x)
    left, values, right = torch.linalg.svd(cross, full_matrices=False)
    keep = min(dim, len(values))
    a = x_basis @ (x_white.unsqueeze(1) * left[:, :keep])
    b = y_basis @ (y_white.unsqueeze(1) * right[:keep].T)
    return Cca(*(part.float() for part in (x_mean, y_mean, a, b, values[:keep].clamp(0, 1))))


def _span(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return an orthonormal basis ``(dim, rank)`` of the rows' span and the rows' coordinates in it ``(n, rank)``."""
    n, dim = rows.shape
    gram = rows @ rows.T if n <= dim else rows.T @ rows
    values, vectors = torch.linalg.eigh(gram)
    # An eigenvalue of the Gram matrix is a squared singular value: below 1e-10 of the largest it is rounding.
    large = values > values[-1] * 1e-10
    if values[-1] <= 0 or not bool(large.any()):
        raise ValueError("cca: the rows do not vary")
    scales, vectors = values[large].sqrt(), vectors[:, large]
    basis = rows.T @ vectors / scales if n <= dim else vectors
    return basis, rows @ basis


def _whitening(coordinates: Tensor, ridge: float) -> Tensor:
    variances = coordinates.square().mean(0)
    return (variances + ridge * variances.mean()).rsqrt()
