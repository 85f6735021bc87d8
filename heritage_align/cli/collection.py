"""What --data, --features and --fold put into a configuration, after the names that --set changes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import click

from heritage_align.cli.network import network_allowed
from heritage_align.config import Config, resolve, resolve_component
from heritage_align.data.discover import Discovered, discover
from heritage_align.data.iiif.reader import is_iiif
from heritage_align.data.iiif.resources import is_remote
from heritage_align.data.region_features import feature_dim, read_region_features
from heritage_align.document import apply_overrides
from heritage_align.errors import ConfigError, DataError, HeritageAlignError
from heritage_align.plugins import default_registry
from heritage_align.recipes import read_document
from heritage_align.renaming import change_names


def rename(document: dict[str, Any], overrides: tuple[str, ...]) -> None:
    """Let components whose name ``--set`` changes begin with their own defaults; what that leaves out goes to stderr.

    To be called before a collection is put into the document: what the command line names stays.
    """
    for sentence in change_names(document, overrides, default_registry()):
        click.echo(f"note: {sentence}", err=True)


def evaluation(document: dict[str, Any], data: str | None, features: str | None) -> None:
    """Put a collection into a configuration's document: its test rows, or all where it has no splits.

    Where the configuration reads region features from a file and the collection has one of its own beside it, that is
    read instead.
    """
    manifest = None if data is None else _manifest(data)
    found = discover(Path(data)) if data is not None and manifest is None else None
    if found is not None and found.role == "precomputed" and not _reads_features(document):
        raise DataError(
            f"{data}: has features of its pictures, no pictures, and this configuration reads none; train on them, "
            f"for example heritage-align train scan --data {data} --out RUN, and evaluate RUN/config.yaml"
        )
    if features is None and found is not None and _reads_features(document) and found.features is not None:
        features = str(found.features)
    if features is not None:
        document["proposer"] = _reader(document, features)
    if data is None:
        return
    if manifest is not None:
        document["data"] = manifest
    elif found is None:
        document["data"] = {"name": default_registry().of_role("dataset", "pictures"), "folder": data}
    else:
        part = "test" if "test" in found.splits else None
        if part is not None:
            which = f"the rows of split {found.splits[part]!r} are taken; --set data.split=null takes all"
            click.echo(f"note: {found.table}: {which}", err=True)
        elif found.splits:
            click.echo(f"note: {found.table}: has splits {', '.join(found.splits.values())}, all are taken", err=True)
        document["data"] = _table(found, part, not _reads_features(document))


def _manifest(data: str) -> dict[str, Any] | None:
    """Return the data set of a IIIF manifest or collection; None for what is neither."""
    if not is_remote(data) and not is_iiif(Path(data)):
        return None
    allowed = {"allow_network": True} if network_allowed() else {}
    return {"name": default_registry().of_role("dataset", "manifest"), "manifest": data, **allowed}


def canvas_sizes(config: Config) -> Mapping[str, tuple[int, int]]:
    """Return the sizes of the canvases that the configuration's data set has; none where it is of other pictures."""
    from heritage_align.pipeline import build_dataset
    from heritage_align.protocols import CanvasDataset

    if config.data is None:
        return {}
    dataset = build_dataset(config)
    return dataset.canvas_sizes if isinstance(dataset, CanvasDataset) else {}


def read_training_config(
    name: str, overrides: tuple[str, ...], data: str | None, features: str | None, fold: str | None
) -> Config:
    """Load a configuration to train, with the collection of the command line in all its places.

    Args:
        name: path of a YAML file, or the name of a recipe.
        overrides: ``key=value`` settings; one of ``train.data`` holds for all parts of `data` that have none of
            their own.
        data: a table, or a folder with one; its splits become training, validation and test data. Or a IIIF manifest
            or collection, which has none.
        features: a file of region features; without it the one beside the table, if the trainer takes features.
        fold: ``I/K``: train and test on folds instead of the table's splits.

    Raises:
        ConfigError: the configuration, or ``--fold``, is at fault.
        DataError: the collection is.
    """
    source, document = read_document(name)
    rename(document, overrides)
    trainer = document.get("train")
    if not isinstance(trainer, dict):
        fault = "train: is missing; name a trainer, or take a recipe of one: scan, bfan, deepfrag, ce-clip ..."
        raise ConfigError([fault], source)
    manifest = None if data is None else _manifest(data)
    if manifest is not None and fold is not None:
        _place_folds(document, trainer, manifest, fold)
    elif manifest is not None:
        trainer["data"] = document["data"] = manifest
        trainer.pop("validation", None)
    elif data is not None:
        found = discover(Path(data))
        if found is None:
            raise DataError(
                f"{data}: holds no table of pictures and texts (.jsonl, .csv, .tsv) to train on, and is no "
                "IIIF manifest"
            )
        if features is None and found.features is not None:
            features = str(found.features)
        _place(document, trainer, found, features is None, fold)
        overrides = _of_every_part(overrides, trainer)
    elif fold is not None:
        whole = trainer.get("data") or document.get("data")
        if whole is None:
            raise ConfigError(["--fold: there is no data to fold; give --data PATH"], source)
        _place_folds(document, trainer, whole, fold)
    if features is not None:
        document["proposer"] = _reader(document, features)
        _leave_to_the_reader(document, Path(features))
        encoder = default_registry().of_role("encoder", "features")
        document["encoder"] = {"name": encoder, "dim": feature_dim(Path(features))}
        document.pop("text_encoder", None)
    apply_overrides(document, overrides, source)
    return resolve(document, default_registry(), source)


def _place(
    document: dict[str, Any], trainer: dict[str, Any], found: Discovered, require: bool, fold: str | None
) -> None:
    if fold is not None:
        _place_folds(document, trainer, _table(found, None, require), fold)
        return
    if found.splits and "train" not in found.splits:
        raise DataError(f"{found.table}: has splits {', '.join(found.splits.values())}, and no train")
    trainer["data"] = _table(found, "train", require)
    trainer.pop("validation", None)
    if "val" in found.splits:
        trainer["validation"] = _table(found, "val", require)
    document["data"] = _table(found, "test" if "test" in found.splits else "train", require)


def _table(found: Discovered, part: str | None, require_pictures: bool) -> dict[str, Any]:
    return {"name": default_registry().of_role("dataset", found.role), **found.settings(part, require_pictures)}


def _place_folds(document: dict[str, Any], trainer: dict[str, Any], whole: dict[str, Any], fold: str) -> None:
    number, separator, folds = fold.partition("/")
    if not separator or not number.isdecimal() or not folds.isdecimal() or not 1 <= int(number) <= int(folds):
        raise ConfigError([f"--fold: expected I/K with 1 <= I <= K, for example 1/4; got {fold!r}"], "train")
    name = default_registry().of_role("dataset", "part")
    common = {"name": name, "of": whole, "folds": int(folds), "fold": int(number)}
    trainer["data"] = {**common, "part": "train"}
    trainer["validation"] = {**common, "part": "val"}
    document["data"] = {**common, "part": "test"}


def _of_every_part(overrides: tuple[str, ...], trainer: dict[str, Any]) -> tuple[str, ...]:
    """Let ``train.data.text=title`` name the column of validation and test data too: they are of one table."""
    others = ["data", *(["train.validation"] if "validation" in trainer else [])]
    named = {override.partition("=")[0] for override in overrides}
    every: list[str] = []
    for override in overrides:
        key, separator, value = override.partition("=")
        every.append(override)
        if separator and key.startswith("train.data."):
            places = [place + key.removeprefix("train.data") for place in others]
            every += [f"{place}={value}" for place in places if place not in named]
    return tuple(every)


def _leave_to_the_reader(document: dict[str, Any], features: Path) -> None:
    """Drop filters whose work the file has done already (`Facts.stored`): then no picture has to be opened."""
    kept = []
    for step in document.get("filters") or ():
        stored = [(array, instead) for array, instead in _stored(step).items()]
        found = stored and read_region_features(features)
        if found and all(getattr(found, array) is not None for array, _ in stored):
            for _, instead in stored:
                document["proposer"].update(instead)
        else:
            kept.append(step)
    if "filters" in document:
        document["filters"] = kept


def _stored(step: Any) -> dict[Literal["keypoints"], dict[str, Any]]:
    if not isinstance(step, dict):
        return {}
    try:
        return resolve_component("filter", step, default_registry()).settings.facts().stored
    except (HeritageAlignError, ValueError):  # its faults are said with those of the whole configuration
        return {}


def _reads_features(document: dict[str, Any]) -> bool:
    proposer = document.get("proposer")
    readers = [spec.name for spec in default_registry().components("proposer") if spec.role == "features"]
    return isinstance(proposer, dict) and proposer.get("name") in readers


def _reader(document: dict[str, Any], features: str) -> dict[str, Any]:
    """Return the proposer that reads `features`, with the settings that the configuration has for it already."""
    if _reads_features(document):
        return {**document["proposer"], "path": features}
    return {"name": default_registry().of_role("proposer", "features"), "path": features}
