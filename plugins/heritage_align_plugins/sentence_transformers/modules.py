"""What the modules of a saved model are read from: ``modules.json``, and a folder for each module that needs one.

Classes of modules are told by their names alone: neither the library nor code of the model is imported.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from heritage_align.plugin import CheckpointError, ModelPart, ModelSource, leads_outside, read_settings
from heritage_align_plugins.transformers.config import has_template, read_if_there
from heritage_align_plugins.transformers.files import (
    ADAPTER,
    CHAT,
    PICTURES,
    SETTINGS,
    TOKENIZER,
    TOKENIZER_SETTINGS,
    WEIGHTS,
    other_model,
)

LIBRARY_FILE, MODULES_FILE, MODEL_FILE = "config_sentence_transformers.json", "modules.json", "config.json"
ADAPTER_FILE = "adapter_config.json"
MODULES = ModelPart("settings", ((MODULES_FILE,),))
LIBRARY = ModelPart("settings", ((LIBRARY_FILE,),), needed=False)
_OWN = "sentence_transformers."
_BACKBONES = ("Transformer", "CLIPModel", "MLMTransformer")
_BACKBONE_SETTINGS = ModelPart("settings", (("sentence_bert_config.json",),))
_OF_FAMILIES = ("roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
_OLDER_SETTINGS = ModelPart(
    "settings",
    (*_BACKBONE_SETTINGS.any_of, *((f"sentence_{name}_config.json",) for name in _OF_FAMILIES)),
    needed=False,
)
"""Before modules saw pictures their settings could be left out, or were named after the family."""
_ROUTERS = ("Router", "Asym")
_ROUTES = ModelPart("settings", (("router_config.json",), (MODEL_FILE,)))
_MODULE_WEIGHTS = ModelPart("weights", (("model.safetensors",), ("pytorch_model.bin",)))
_MODULE_TOKENIZER = ModelPart("tokenizer", (("tokenizer.json",),))
_WITH_TOKENIZER = ("StaticEmbedding", "SparseStaticEmbedding")
_SETTINGS_OF_WEIGHTED = {
    "Dense": MODEL_FILE,
    "LayerNorm": MODEL_FILE,
    "WeightedLayerPooling": MODEL_FILE,
    "SparseAutoEncoder": MODEL_FILE,
    "SparseStaticEmbedding": MODEL_FILE,
    "StaticEmbedding": None,
    "CNN": "cnn_config.json",
    "LSTM": "lstm_config.json",
    "WordEmbeddings": "wordembedding_config.json",
}
"""Class of modules with weights of their own -> the file of their settings, None where there is none."""
_SET = ("Pooling", "LogitScore", "BoW", "WordWeights")
"""Classes whose settings have no defaults."""
_DEPTH = 8


def saved_model(folder: Path) -> Iterator[ModelPart | ModelSource]:
    """Yield what a saved model is read from, and other models that it is built on.

    Args:
        folder: with ``modules.json``.

    Raises:
        CheckpointError: settings cannot be read, lead outside of the folder, or name code of the model's own.
    """
    file = folder / MODULES_FILE
    try:
        modules = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{file}: cannot read the model's modules: {error}") from error
    if not isinstance(modules, list) or not modules or not all(isinstance(module, dict) for module in modules):
        raise CheckpointError(f"{file}: expected a list of modules, each with type and path")
    yield MODULES
    yield LIBRARY
    for module in modules:
        yield from _module(folder, file, module.get("type"), module.get("path"))


def backbone(folder: Path, path: str = "", kind: str = "") -> Iterator[ModelPart | ModelSource]:
    """Yield what a model of the transformers library is read from, and the model that it is an adapter of.

    Args:
        folder: of the saved model.
        path: of the module in it.
        kind: class of the module, "" for a model without ``modules.json``.

    Raises:
        CheckpointError: settings cannot be read.
    """
    place = folder / path
    settings = read_if_there(place / MODEL_FILE)
    sees = any(key in settings for key in ("vision_config", "vlm_config"))
    # Without its settings the library takes a module for one of texts.
    own = _BACKBONE_SETTINGS if sees and kind == "Transformer" else _OLDER_SETTINGS
    told = own.found(place)
    ways = read_settings(place / told[0]).get("modality_config") if told else None
    speaks = isinstance(ways, Mapping) and "message" in ways and not has_template(place)
    adapted = (place / ADAPTER_FILE).is_file()
    tokenizer = (TOKENIZER, TOKENIZER_SETTINGS, replace(PICTURES, needed=sees), replace(CHAT, needed=speaks))
    for part in (own, *(ADAPTER if adapted else (SETTINGS, WEIGHTS)), *tokenizer):
        yield _inside(part, path)
    if adapted:
        base = read_settings(place / ADAPTER_FILE).get("base_model_name_or_path")
        if not isinstance(base, str) or not base:
            raise CheckpointError(f"{place / ADAPTER_FILE}: has no base_model_name_or_path")
        yield other_model(base, SETTINGS, WEIGHTS)


def _module(folder: Path, named_in: Path, kind: Any, path: Any, depth: int = 0) -> Iterator[ModelPart | ModelSource]:
    """Yield what one module is read from.

    Args:
        folder: of the model.
        named_in: file that names the module.
        kind: dotted name of its class.
        path: its folder in that of the model.
        depth: of modules in modules.
    """
    if not isinstance(kind, str) or not isinstance(path, str):
        raise CheckpointError(f"{named_in}: expected type and path of each module as texts")
    if not kind.startswith(_OWN):
        raise CheckpointError(f"{named_in}: names {kind}, which is code of the model's own, and no such code is run")
    if (PurePosixPath(path).parts and leads_outside(path)) or depth > _DEPTH:  # without parts: the model's own folder
        raise CheckpointError(f"{named_in}: {path!r} is no folder of the model")
    name = kind.rpartition(".")[2]
    if name in _BACKBONES:
        yield from backbone(folder, path, name)
    elif name in _ROUTERS:
        yield _inside(_ROUTES, path)
        found = _inside(_ROUTES, path).found(folder)
        if found is not None:
            types = read_settings(folder / found[0]).get("types")
            if not isinstance(types, Mapping):
                raise CheckpointError(f"{folder / found[0]}: has no types: it does not say what it chooses from")
            for below, of_class in types.items():
                yield from _module(folder, folder / found[0], of_class, str(PurePosixPath(path, below)), depth + 1)
    elif name in _SETTINGS_OF_WEIGHTED:
        settings = _SETTINGS_OF_WEIGHTED[name]
        parts = (*([ModelPart("settings", ((settings,),))] if settings else []), _MODULE_WEIGHTS)
        for part in (*parts, *([_MODULE_TOKENIZER] if name in _WITH_TOKENIZER else [])):
            yield _inside(part, path)
    else:
        yield _inside(replace(SETTINGS, needed=name in _SET), path)


def _inside(part: ModelPart, path: str) -> ModelPart:
    """Return a part of a module as one of the model."""
    if not path:
        return part
    groups = tuple(tuple(str(PurePosixPath(path, name)) for name in group) for group in part.any_of)
    return replace(part, any_of=groups, get=tuple(str(PurePosixPath(path, name)) for name in part.get))
