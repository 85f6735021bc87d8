"""The numbers by which the compiled ops know the settings; csrc/pair_score.h holds the same order."""

from __future__ import annotations

DIRECTIONS = {"t2i": 0, "i2t": 1, "both": 2}
RECTIFIERS = {"leaky_relu": 0, "relu": 1, "none": 2}
NORMALISERS = {"l2": 0, "softmax": 1, "none": 2}
FOCALS = {None: 0, "equal": 1, "prob": 2, "sheng": 3}
AGGREGATES = {"lse": 0, "mean": 1, "max": 2, "sum": 3}
POOLINGS = {"softmax": 0, "max": 1, "mean": 2, "weights": 3}


def name_of(codes: dict[str | None, int] | dict[str, int], code: int) -> str | None:
    """The setting that a number stands for."""
    return next(name for name, number in codes.items() if number == code)
