"""The kernel benchmark: parity first, then ours and its peers in turn, as ratios within one run."""

from .kernels import run_benchmark

__all__ = ["run_benchmark"]
