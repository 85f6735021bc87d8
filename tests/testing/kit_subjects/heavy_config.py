"""Fault: describing the component imports torch."""

from __future__ import annotations

import torch  # noqa: F401
from kit_subjects.config import Plain

__all__ = ["Plain"]
