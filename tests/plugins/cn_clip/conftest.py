"""Tiny Chinese-CLIP models with random weights, and the encoder built around them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from heritage_align_plugins.cn_clip.architecture import Architecture, build_model
from heritage_align_plugins.cn_clip.checkpoint import save_checkpoint
from heritage_align_plugins.cn_clip.config import CnClipConfig
from heritage_align_plugins.cn_clip.encoder import CnClipEncoder

from heritage_align.protocols import BuildContext

TINY_TEXT = {
    "text_hidden_size": 32,
    "text_num_hidden_layers": 3,
    "text_num_attention_heads": 4,
    "text_intermediate_size": 64,
}


def perturbed(architecture: Architecture) -> torch.nn.Module:
    """Return a model none of whose weights is at a value, 0 or 1, that could hide a mistake."""
    generator = torch.Generator().manual_seed(7)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = build_model(architecture).eval()
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
        elif tensor.is_floating_point() and tensor.ndim:
            tensor.add_(0.2 * torch.randn(tensor.shape, generator=generator))
    return model


@pytest.fixture(scope="session")
def tiny_vit() -> Architecture:
    return Architecture("tiny-vit", 24, 64, 3, 48, 16, vision_head_width=16, **TINY_TEXT)


@pytest.fixture(scope="session")
def tiny_resnet() -> Architecture:
    return Architecture("tiny-resnet", 24, 64, (1, 2, 1, 1), 8, None, **TINY_TEXT)


@pytest.fixture(scope="session")
def vit_model(tiny_vit: Architecture) -> torch.nn.Module:
    return perturbed(tiny_vit)


@pytest.fixture(scope="session")
def resnet_model(tiny_resnet: Architecture) -> torch.nn.Module:
    return perturbed(tiny_resnet)


@pytest.fixture(scope="session")
def vit_file(vit_model: torch.nn.Module, tiny_vit: Architecture, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vit") / "tiny.safetensors"
    save_checkpoint(vit_model, tiny_vit, path, torch.float32)
    return path


@pytest.fixture(scope="session")
def resnet_file(
    resnet_model: torch.nn.Module, tiny_resnet: Architecture, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    path = tmp_path_factory.mktemp("resnet") / "tiny.safetensors"
    save_checkpoint(resnet_model, tiny_resnet, path, torch.float32)
    return path


@pytest.fixture(scope="session")
def build() -> Callable[..., CnClipEncoder]:
    def encoder(model: str | Path, precision: str = "fp32", seed: int = 0, **settings: Any) -> CnClipEncoder:
        config = CnClipConfig(model=str(model), **settings)
        return CnClipEncoder(config, BuildContext(precision=precision, seed=seed))

    return encoder


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.randn(5, 3, 64, 64, generator=torch.Generator().manual_seed(1))
