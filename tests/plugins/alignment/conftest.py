"""Helpers of the tests of the alignment system."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from heritage_align.training.job import TrainingOutcome


@pytest.fixture(scope="session")
def small() -> ModuleType:
    """Tests are imported by path (--import-mode=importlib), so that siblings do not find each other."""
    spec = importlib.util.spec_from_file_location("alignment_small", Path(__file__).with_name("small.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["alignment_small"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def folder(small: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection."""
    written: Path = small.write_collection(tmp_path_factory.mktemp("collection"))
    return written


@pytest.fixture(scope="session")
def trained(small: Any, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainingOutcome:
    """A finished run over it."""
    outcome: TrainingOutcome = small.train(small.document(folder), tmp_path_factory.mktemp("run"))
    return outcome
