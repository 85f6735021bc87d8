"""Models and helpers of the tests of contrastive training."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch

SCRIPT = Path(__file__).with_name("tiny.py")


def _load() -> ModuleType:
    # Tests are imported by path (--import-mode=importlib), so that siblings do not find each other.
    spec = importlib.util.spec_from_file_location("contrastive_tiny", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["contrastive_tiny"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    return _load()


@pytest.fixture(scope="session")
def script() -> Path:
    return SCRIPT


@pytest.fixture(scope="session")
def model(tiny: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ViT with dropout in its BERT."""
    return tiny.write_model(tmp_path_factory.mktemp("model") / "tiny.safetensors")


@pytest.fixture(scope="session")
def exact_model(tiny: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ViT without dropout, so that a step does not depend on how a batch is cut."""
    architecture = replace(tiny.VIT, text_hidden_dropout_prob=0.0, text_attention_probs_dropout_prob=0.0)
    return tiny.write_model(tmp_path_factory.mktemp("model") / "exact.safetensors", architecture)


@pytest.fixture(scope="session")
def resnet(tiny: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_model(tmp_path_factory.mktemp("model") / "resnet.safetensors", tiny.RESNET)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Let sums be taken in the order of a process with one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
