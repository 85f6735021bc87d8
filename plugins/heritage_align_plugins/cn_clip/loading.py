"""The model that a configuration names, with its weights: where inference and training both begin."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from heritage_align_plugins.cn_clip.architecture import Architecture, build_model
from heritage_align_plugins.cn_clip.checkpoint import Weights, load_model, read_weights
from heritage_align_plugins.cn_clip.config import CnClipConfig
from heritage_align_plugins.cn_clip.preprocess import Characters, reader_of

if TYPE_CHECKING:
    from cn_clip.clip.model import CLIP


class LoadedModel(NamedTuple):
    """A model, what it is of, and the name of its weights in a fingerprint.

    Attributes:
        model: fp32, on the CPU, in evaluation mode.
        architecture: at the configured input size and context length.
        weights_name: ``sha256:<the file's digest>`` or ``random:<seed>``, then ``@<px>px`` at another input size.
        characters: makes a text of the characters that the model reads (``encoder.characters``).
    """

    model: CLIP
    architecture: Architecture
    weights_name: str
    characters: Characters


def load_configured(config: CnClipConfig, seed: int) -> LoadedModel:
    """Load a model.

    Args:
        config: names the model, its weights, and what is changed of it.
        seed: of random weights.

    Raises:
        CheckpointError: the weights are missing, refused, or not of this model.
        ValueError: `image_size` or `context_length` does not suit the model.
    """
    architecture = config.architecture()
    if config.context_length is not None:
        architecture = architecture.reading(config.context_length)
    file, size = config.weights_file(), config.image_size
    suffix = f"@{size}px" if size not in (None, architecture.image_resolution) else ""
    if file is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            weights = Weights(build_model(architecture).state_dict(), "")
        model, name = load_model(architecture, weights, "random weights", size), f"random:{seed}{suffix}"
    else:
        weights = read_weights(file)
        model, name = load_model(architecture, weights, str(file), size), f"sha256:{weights.sha256}{suffix}"
    if size is not None:
        architecture = architecture.at(size)
    return LoadedModel(model, architecture, name, reader_of(config.characters))
