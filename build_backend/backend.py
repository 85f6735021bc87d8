"""The build backend: setuptools', which asks for torch only where the environment has none.

An isolated build then downloads torch for itself, as it has no other way to its headers. The download is the one that
the installation needs anyway, and pip keeps it; the space on the disk is needed twice while the kernels are built.
"""

from __future__ import annotations

import os
from typing import Any

from installed_torch import installed_torch
from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403 (the other hooks are setuptools')


def _torch() -> list[str]:
    needed = os.environ.get("HERITAGE_ALIGN_BUILD") != "none" and installed_torch() is None
    return ["torch>=2.10,<3"] if needed else []


def get_requires_for_build_wheel(config_settings: Any = None) -> list[str]:
    """What PEP 517 asks for: requirements beyond those of pyproject.toml."""
    return [*build_meta.get_requires_for_build_wheel(config_settings), *_torch()]


def get_requires_for_build_editable(config_settings: Any = None) -> list[str]:
    """What PEP 660 asks for."""
    return [*build_meta.get_requires_for_build_editable(config_settings), *_torch()]
