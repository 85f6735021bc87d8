"""Canonical correlations against other ways to them, and where they are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from heritage_align_plugins.alignment.cca import Cca, fit_cca
from numpy.typing import NDArray
from scipy.linalg import eigh


def with_correlations(n: int, correlations: list[float], seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return rows whose sample correlations are exactly these, mixed by random matrices and shifted."""
    rng = np.random.default_rng(seed)
    k = len(correlations)
    noise = rng.normal(size=(n, 2 * k))
    basis = np.linalg.qr(noise - noise.mean(0))[0] * math.sqrt(n)  # white, centred
    rho = np.array(correlations)
    y = rho * basis[:, :k] + np.sqrt(1 - rho**2) * basis[:, k:]
    mixed = basis[:, :k] @ rng.normal(size=(k, k)) + 3, y @ rng.normal(size=(k, k)) - 5
    return torch.tensor(mixed[0]), torch.tensor(mixed[1])


def slow(x: NDArray[np.float64], y: NDArray[np.float64], ridge_x: float, ridge_y: float) -> NDArray[np.float64]:
    """Return the correlations as roots of the generalised eigenproblem of both sides (Hotelling 1936)."""
    x, y = x - x.mean(0), y - y.mean(0)
    cxx, cyy, cxy = x.T @ x / len(x), y.T @ y / len(y), x.T @ y / len(x)
    cxx += ridge_x * np.trace(cxx) / len(cxx) * np.eye(len(cxx))
    cyy += ridge_y * np.trace(cyy) / len(cyy) * np.eye(len(cyy))
    zero_x, zero_y = np.zeros_like(cxx), np.zeros_like(cyy)
    left = np.block([[zero_x, cxy], [cxy.T, zero_y]])
    right = np.block([[cxx, np.zeros_like(cxy)], [np.zeros_like(cxy.T), cyy]])
    found: NDArray[np.float64] = eigh(left, right, eigvals_only=True)[::-1]
    return found


def correlations_of(fit: Cca, x: torch.Tensor, y: torch.Tensor) -> list[float]:
    one, other = (x.float() - fit.x_mean) @ fit.a, (y.float() - fit.y_mean) @ fit.b
    return [float(np.corrcoef(one[:, i], other[:, i])[0, 1]) for i in range(one.shape[1])]


def test_correlations_that_are_known() -> None:
    wanted = [0.95, 0.7, 0.4, 0.1]
    x, y = with_correlations(60, wanted)
    fit = fit_cca(x, y, 4, 1e-9, 1e-9)
    assert fit.correlations.tolist() == pytest.approx(wanted, abs=1e-5)
    assert correlations_of(fit, x, y) == pytest.approx(wanted, abs=1e-4)


def test_one_dimension_by_hand() -> None:
    """x = (1, 2, 3), y = (1, 1, 4): covariance 1, variances 2/3 and 2, ridges 1/2 and 1/4 of them."""
    x, y = torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([[1.0], [1.0], [4.0]])
    fit = fit_cca(x, y, 1, 0.5, 0.25)
    assert fit.x_mean.item() == 2
    assert fit.y_mean.item() == 2
    assert fit.a.abs().item() == pytest.approx(1.0)  # (2/3 + 1/3) a^2 = 1
    assert fit.b.abs().item() == pytest.approx(1 / math.sqrt(2.5))
    assert fit.correlations.item() == pytest.approx(1 / math.sqrt(2.5))
    assert fit.a.item() * fit.b.item() > 0


@pytest.mark.parametrize(("ridge_x", "ridge_y"), [(1e-9, 1e-9), (0.1, 0.1), (0.3, 2.0)])
def test_the_generalised_eigenproblem_has_the_same_roots(ridge_x: float, ridge_y: float) -> None:
    x, y = with_correlations(40, [0.9, 0.5, 0.2], seed=3)
    y = torch.cat([y, torch.randn(40, 2, generator=torch.Generator().manual_seed(0))], dim=1)
    fit = fit_cca(x, y, 3, ridge_x, ridge_y)
    assert fit.correlations.tolist() == pytest.approx(slow(x.numpy(), y.numpy(), ridge_x, ridge_y)[:3], abs=1e-5)
    # a^T (C_xx + r I) a = 1, and directions do not mix.
    centred = x - x.mean(0)
    cxx = centred.T @ centred / len(x)
    cxx += ridge_x * cxx.trace() / len(cxx) * torch.eye(len(cxx))
    torch.testing.assert_close(fit.a.double().T @ cxx @ fit.a.double(), torch.eye(3).double(), atol=1e-5, rtol=0)


def test_more_columns_than_rows() -> None:
    """A bag of words: the wide side is reduced to the span of its rows, which changes nothing."""
    x, y = with_correlations(30, [0.8, 0.3], seed=1)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(200, 2)))[0].T
    wide = y @ torch.tensor(turn)
    narrow, same = fit_cca(x, y, 2), fit_cca(x, wide, 2)
    torch.testing.assert_close(same.correlations, narrow.correlations)
    assert same.b.shape == (200, 2)
    scores = [((x.float() - f.x_mean) @ f.a) @ ((r.float() - f.y_mean) @ f.b).T for f, r in ((narrow, y), (same, wide))]
    torch.testing.assert_close(scores[1], scores[0], atol=1e-4, rtol=1e-3)


def test_constant_columns_and_fewer_directions_than_asked_for() -> None:
    x, y = with_correlations(20, [0.9, 0.6])
    fit = fit_cca(torch.cat([x, torch.full((20, 3), 7.0)], dim=1), y, 50, 1e-9, 1e-9)
    assert fit.correlations.tolist() == pytest.approx([0.9, 0.6], abs=1e-5)
    assert fit.a.shape == (5, 2)
    assert fit.a[2:].abs().max().item() < 1e-6


@pytest.mark.parametrize(
    ("x", "y", "reason"),
    [
        (torch.ones(4, 2), torch.ones(3, 2), "as many rows"),
        (torch.ones(1, 2), torch.ones(1, 2), "2 at least"),
        (torch.ones(4), torch.ones(4, 2), "two matrices"),
        (torch.eye(4), torch.eye(4) * float("nan"), "not finite"),
        (torch.eye(4), torch.ones(4, 3), "do not vary"),
    ],
)
def test_what_cannot_be_fitted(x: torch.Tensor, y: torch.Tensor, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        fit_cca(x, y, 2)
