"""Which files the models of a configuration need, which are here, and what these are: behind ``models check``."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple

from heritage_align.component import LAST
from heritage_align.config import Component, Config, with_nested
from heritage_align.document import load_plain
from heritage_align.errors import CheckpointError, ConfigError, did_you_mean
from heritage_align.foreign_files import foreign
from heritage_align.hookspecs import Kind
from heritage_align.model_source import CARD, ModelPart, ModelSource
from heritage_align.plugins import Registry, missing_requirements
from heritage_align.recipes import recipe_names
from heritage_align.weight_files import indexed_files, leads_outside, not_weights

_WITHOUT_MODELS = ("dataset", "index", "executor", "trainer")
_NAMED: dict[Kind, str] = {"encoder": "encoder", "reranker": LAST}
"""Kinds of components whose models have names of their own -> the place where one stands."""
_INDEX = ".index.json"
WEIGHTS = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")
"""Endings of files that are refused where they are cut off, or those of another program."""


class ModelFile(NamedTuple):
    """One file of a model.

    Attributes:
        part: what it is to the model.
        name: path in the model's folder.
        state: ``missing``, or ``broken`` where it is something else than its name says (a Git LFS pointer) or cut off.
        bytes, sha256: of a file that is there.
        detail: what is wrong with it.
    """

    part: str
    name: str
    state: Literal["ok", "missing", "broken"]
    bytes: int | None = None
    sha256: str | None = None
    detail: str = ""


class ModelReport(NamedTuple):
    """One model.

    Attributes:
        place: of its component in the configuration.
        component: ``kind.name``.
        model: folder or name on the hub.
        folder: where it is on this machine, None where it is not.
        revision: commit of a model of the hub that is here.
        license: as its card says, None where there is no card or it says nothing.
        files: that are needed or used.
        get: the command that fetches what is missing; None where nothing is, or where nobody knows where to.
    """

    place: str
    component: str
    model: str
    folder: str | None
    revision: str | None
    license: str | None
    files: tuple[ModelFile, ...]
    get: str | None

    @property
    def whole(self) -> bool:
        """Whether every file that is needed is here and is what its name says."""
        return all(file.state == "ok" for file in self.files)


def models_of(config: Config) -> list[ModelReport]:
    """Report every model of a configuration; files are read to their end for their sha256.

    Raises:
        ConfigError: a library is missing.
        CheckpointError: a model that is here is of another family.
    """
    return [report for component in with_nested(config.components()) for report in _reports(component)]


def named_model(name: str, registry: Registry) -> list[ModelReport]:
    """Report a model by its own name, once for each encoder and reranker that reads it (`ComponentConfig.for_model`).

    Raises:
        ConfigError: none knows the name, or one needs more than a name.
        CheckpointError: a model that is here is damaged, or needs code of its own.
    """
    found: list[ModelReport] = []
    reasons: list[str] = []
    for kind, place in _NAMED.items():
        for spec in registry.components(kind):
            if not name.strip() or missing_requirements(spec):
                continue
            try:
                settings = registry.config_model(spec).for_model(name)
            except ConfigError as error:
                reasons += error.problems
                continue
            if settings is not None:
                found += _reports(Component(place, spec, settings))
    if not found:
        hint = did_you_mean(name, recipe_names()) or " A model of the hub is named as OWNER/NAME"
        unknown = ["is no config, no recipe, and no model that an encoder or a reranker knows." + hint]
        raise ConfigError(reasons or unknown, name or "NAME")
    return found


def _reports(component: Component) -> Iterator[ModelReport]:
    sources = component.settings.models() or _files_of_settings(component)
    for source in sources:
        folder = source.here()
        files = tuple(file for part in source.parts for file in _files(part, folder))
        yield ModelReport(
            component.place,
            f"{component.spec.kind}.{component.spec.name}",
            source.name,
            None if folder is None else str(folder),
            source.commit(),
            None if folder is None else card_license(folder / CARD),
            files,
            _command(source, [file for file in files if file.state != "ok"]),
        )


def _files_of_settings(component: Component) -> Iterator[ModelSource]:
    """Yield the files that a component's settings name, where it says no more about its model."""
    if component.spec.kind in _WITHOUT_MODELS or component.spec.role == "features":
        return
    for key, path in component.settings.facts().files.items():
        if path.is_dir():
            names = sorted(file.name for file in path.iterdir() if file.is_file())
            yield ModelSource(str(path), tuple(ModelPart(key, ((name,),)) for name in names), path)
        else:
            yield ModelSource(str(path), (ModelPart(key, ((path.name,),)),), path.parent)


def _files(part: ModelPart, folder: Path | None) -> Iterator[ModelFile]:
    """Yield the files of the first group that is there; without one, what is missing."""
    group = None if folder is None else part.found(folder)
    if folder is not None and group is not None:
        for name in group:
            yield _file(part.what, folder, name)
            if name.endswith(_INDEX):
                yield from _indexed(part.what, folder, name)
    elif part.needed:
        yield ModelFile(part.what, " or ".join(" + ".join(group) for group in part.any_of), "missing")


def _file(what: str, folder: Path, name: str) -> ModelFile:
    path = folder / name
    if leads_outside(name):
        return ModelFile(what, name, "broken", detail="is outside of the model's folder")
    try:
        there = path.is_file()
    except OSError:  # a name that is too long for a file
        there = False
    if not there:
        return ModelFile(what, name, "missing")
    instead = not_weights(path) if path.suffix.lower() in WEIGHTS else foreign(path)
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(2**20):
            digest.update(chunk)
    size = path.stat().st_size
    return ModelFile(what, name, "broken" if instead else "ok", size, digest.hexdigest(), instead or "")


def _indexed(what: str, folder: Path, name: str) -> Iterator[ModelFile]:
    """Yield the files of weights that an index names, which lie beside it."""
    try:
        names = indexed_files(folder / name)
    except CheckpointError:
        yield ModelFile(what, name, "broken", detail="has no weight_map: it does not say which files hold the weights")
        return
    beside = PurePosixPath(name).parent
    yield from (_file(what, folder, str(beside / file)) for file in names)


def card_license(card: Path) -> str | None:
    """Return the field ``license`` of a model card, with the name that stands beside ``other``; None without one."""
    try:
        text = card.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    opening, *rest = text.removeprefix("\ufeff").split("---\n", 2)
    if opening.strip() or len(rest) < 2:
        return None
    try:
        fields: Any = load_plain(rest[0], repeated_keys=True)
    except ValueError:
        return None
    if not isinstance(fields, dict):
        return None
    licenses, name = fields.get("license"), fields.get("license_name")
    # Text alone: a list of lists of aliases, 200 bytes, is gigabytes when written out.
    listed = [one for one in (licenses if isinstance(licenses, list) else [licenses]) if isinstance(one, str) and one]
    said = ", ".join(listed)
    return f"{said} ({name})" if listed and isinstance(name, str) and name else said or None


def _command(source: ModelSource, lacking: Sequence[ModelFile]) -> str | None:
    """Return the command that fetches what is lacking, or the whole of a model whose files may be named in several
    ways."""
    if not lacking:
        return None
    if source.url is not None and source.folder is not None:
        return shlex.join(["curl", "-L", "--create-dirs", "-o", str(source.folder / lacking[0].name), source.url])
    if source.repository is None:
        return None
    words = ["hf", "download", source.repository]
    if all(len(part.any_of) == 1 for part in source.parts):
        words += [name for part in source.parts for name in part.any_of[0]]
    elif all(len(part.any_of) == 1 or part.get for part in source.parts):
        wanted = [name for part in source.parts for name in (part.get or part.any_of[0])]
        words += [word for name in dict.fromkeys(wanted) for word in ("--include", name)]
    if source.revision is not None:
        words += ["--revision", source.revision]
    if source.folder is not None:
        words += ["--local-dir", str(source.folder)]
    return shlex.join(words)
