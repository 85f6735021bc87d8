"""A small collection, and pipelines over it with a tiny random encoder."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from heritage_align_plugins.cn_clip.architecture import Architecture, build_model
from heritage_align_plugins.cn_clip.checkpoint import save_checkpoint
from hypothesis import settings
from PIL import Image

from heritage_align.pipeline import Pipeline
from heritage_align.store import Store
from heritage_align.store.files import write_json
from heritage_align.store.finish import finish
from heritage_align.store.layout import BUILD, Build, shard_name, sources_digest
from heritage_align.store.shard import write_shard
from heritage_align.testing import samples
from heritage_align.types import ImageFeatures

# A time limit for an example would fail on a busy machine.
settings.register_profile("heritage_align", deadline=None)
settings.load_profile("heritage_align")


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    architecture = Architecture(
        name="tiny",
        embed_dim=16,
        image_resolution=32,
        vision_layers=1,
        vision_width=64,
        vision_patch_size=16,
        text_hidden_size=32,
        text_num_hidden_layers=1,
        text_num_attention_heads=2,
        text_intermediate_size=32,
        text_max_position_embeddings=64,
    )
    path = tmp_path_factory.mktemp("encoder") / "tiny.safetensors"
    save_checkpoint(build_model(architecture), architecture, path)
    return path


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eleven pictures, one of which cannot be read."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for number in range(10):
        Image.fromarray(rng.integers(0, 255, (40, 48, 3), dtype=np.uint8)).save(folder / f"p{number}.png")
    (folder / "p3x.png").write_bytes(b"\x89PNG\r\n\x1a\n truncated")
    return folder


def document(checkpoint: Path, pictures: Path, similarity: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "version": 1,
        "name": "tiny",
        "encoder": {"name": "cn_clip", "model": str(checkpoint)},
        "proposer": {"name": "random_crops", "count": 3},
        "fragmenter": {"name": "punctuation"},
        "similarity": similarity,
        "store": {"dtype": "fp16", "shard_images": 4},
        "data": {"name": "folder", "folder": str(pictures)},
        "runtime": {"device": "cpu", "batch_size": 3},
        **more,
    }


@pytest.fixture(scope="session")
def scan(tiny_checkpoint: Path, pictures: Path) -> Pipeline:
    return Pipeline.from_config(document(tiny_checkpoint, pictures, {"name": "scan"}))


@pytest.fixture(scope="session")
def laclip(tiny_checkpoint: Path, pictures: Path) -> Pipeline:
    return Pipeline.from_config(document(tiny_checkpoint, pictures, {"name": "laclip"}))


def write_store(images: ImageFeatures, folder: Path, dtype: str = "fp16", shard_images: int = 2) -> Store:
    """Write features as a build would, and open the store."""
    folder.mkdir()
    identity = {"encoder": "e", "image_config": "i", "config": "c"}
    build = Build(identity, "test", dtype, shard_images, len(images), sources_digest(images.ids))
    write_json(folder / BUILD, build.asdict())
    for number in range(build.shards):
        rows = range(number * shard_images, min(len(images), (number + 1) * shard_images))
        write_shard(folder / shard_name(number), samples.images_at(images, rows), [], dtype)
    assert finish(folder, build) is not None
    return Store.open(folder)


@pytest.fixture(scope="session")
def stored() -> Callable[..., Store]:
    """`write_store`, for tests that make features of their own."""
    return write_store


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """A disk of so many bytes, in memory; called again it becomes smaller or larger, with what is on it."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root may mount a disk of a few pages")
    disk = tmp_path / "disk"
    disk.mkdir()

    def of(size: int) -> Path:
        again = ["-o", f"remount,size={size}", str(disk)] if os.path.ismount(disk) else None
        command = again or ["-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)]
        done = subprocess.run(["mount", *command], capture_output=True, text=True, check=False)
        if done.returncode and again is None:
            pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
        assert done.returncode == 0, done.stderr
        return disk

    yield of
    if os.path.ismount(disk):
        subprocess.run(["umount", str(disk)], check=True)
