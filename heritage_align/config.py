"""Configuration: strict, versioned data. Components are named, never imported by path; every fault is reported at once.

A config is YAML with one mapping a component::

    version: 1
    name: laclip
    encoder: {name: cn_clip, model: ViT-B-16, checkpoint: clip_cn_vit-b-16.pt}
    proposer: {name: random_crops, count: 20}
    similarity: {name: laclip}

Relative paths are relative to the working directory, as on the command line.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import reprlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from heritage_align.component import LAST, SLOTS, ComponentConfig, RerankerConfig
from heritage_align.document import apply_overrides, read_yaml, set_at
from heritage_align.errors import ConfigError, HeritageAlignError, PluginError, did_you_mean
from heritage_align.hookspecs import ComponentSpec, Kind
from heritage_align.memory import checked_amount
from heritage_align.model_source import ModelSource
from heritage_align.plugins import Registry, default_registry
from heritage_align.renaming import change_names

CONFIG_VERSION = 1
DEFAULTED = ("index", "executor")
"""Sections that are always there: where one is not given, with the component of role "default"."""
NAME_PATTERN = r"[^\s./\\][^/\\\x00-\x1f\x7f]*"
"""Of a configuration's name: results are written to ``<name>.trec`` and ``<name>.yaml``."""


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StoreSettings(_Settings):
    """How features are kept on disk."""

    dtype: Literal["fp32", "fp16", "bf16", "int8"] = Field("fp16", description="storage of features; scores are fp32")
    shard_images: int = Field(512, ge=1, description="images in one shard; a killed run loses at most one shard")


class SearchSettings(_Settings):
    """First stage and rerank."""

    candidates: int = Field(100, ge=1, description="images that the first stage hands to the full similarity")
    top_k: int = Field(10, ge=1, description="answers that are returned")


class _SearchSection(SearchSettings):
    last: dict[str, Any] | None = Field(None, description="reranker that looks at the best answers, the last stage")


class RuntimeSettings(_Settings):
    """Where and how fast; nothing here changes a score beyond rounding."""

    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:[0-9]+)?)$", description="auto, cpu, cuda or cuda:N")
    precision: Literal["fp32", "fp16", "bf16"] = Field("fp32", description="of the models")
    batch_size: int = Field(32, ge=1, description="images encoded at once")
    workers: int | None = Field(None, ge=1, description="threads that decode and prepare images; by default one a core")
    preprocess: Literal["auto", "exact", "fast"] = Field(
        "auto",
        description="exact: as the model's own code prepares images, one by one on the CPU; fast: resized, cropped and "
        "normalised in batches on the device; auto: fast on a GPU where the encoder has a recipe for it, else exact",
    )
    host_memory: float | str = Field(
        0.5,
        description="of a store's mapped files that may stay in memory between queries: a share of the machine's "
        "memory, or a size such as 8GiB; the system takes it back where others need it",
    )
    device_memory: float | str = Field(
        0.8,
        description="of a GPU that a searcher may keep a store in: a share of what is free when it opens, or a size "
        "such as 20GiB; what does not fit passes through the GPU at every query",
    )
    seed: int = Field(0, ge=0, description="seed of everything random, crops among it")

    @field_validator("host_memory", "device_memory", mode="before")  # before: pydantic takes True for 1.0
    @classmethod
    def _is_an_amount(cls, value: object) -> float | str:
        return checked_amount(value)

    def threads(self) -> int:
        """Return `workers`, or the cores that this process may use, divided by torchrun's processes on this machine."""
        if self.workers is not None:
            return self.workers
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


class _Document(_Settings):
    version: Literal[1]
    name: str = Field(min_length=1, description="name of the system; the tag of its runs")
    encoder: dict[str, Any]
    text_encoder: dict[str, Any] | None = None
    proposer: dict[str, Any] | None = None
    filters: list[dict[str, Any]] = []
    fragmenter: dict[str, Any] | None = None
    similarity: dict[str, Any]
    index: dict[str, Any] = {}  # where it is not named, that of role "default"
    data: dict[str, Any] | None = None
    train: dict[str, Any] | None = None
    executor: dict[str, Any] = {}  # as the index
    store: StoreSettings = StoreSettings()
    search: _SearchSection = _SearchSection()
    runtime: RuntimeSettings = RuntimeSettings()

    @field_validator("name")
    @classmethod
    def _names_a_file(cls, name: str) -> str:
        if not re.fullmatch(NAME_PATTERN, name):
            raise ValueError("names files, so it must not begin with a dot or space, or hold a slash or line break")
        return name


@dataclass(frozen=True)
class Component:
    """A component's name resolved: its spec, its validated settings, and the components that these name."""

    place: str
    spec: ComponentSpec
    settings: ComponentConfig
    nested: Mapping[str, Component] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return ``{"name": ..., **settings}`` with every default filled in, ready for YAML or JSON."""
        settings = self.settings.model_dump(mode="json")
        for place, component in self.nested.items():
            set_at(settings, place, component.as_dict())
        return {"name": self.spec.name, **settings}


@dataclass(frozen=True)
class Config:
    """A configuration that validated: nothing is loaded yet, nothing is missing from it."""

    name: str
    encoder: Component
    similarity: Component
    index: Component
    executor: Component
    text_encoder: Component | None = None
    proposer: Component | None = None
    filters: tuple[Component, ...] = ()
    fragmenter: Component | None = None
    data: Component | None = None
    train: Component | None = None
    last: Component | None = None
    store: StoreSettings = field(default_factory=StoreSettings)
    search: SearchSettings = field(default_factory=SearchSettings)
    runtime: RuntimeSettings = field(default_factory=RuntimeSettings)
    source: str = field(default="config", compare=False)

    def components(self) -> list[Component]:
        """Return every component of the pipeline that is set, in its order; trainer and executor are none of them."""
        slots = [self.encoder, self.text_encoder, self.proposer, *self.filters, self.fragmenter]
        return [c for c in [*slots, self.similarity, self.index, self.last, self.data] if c is not None]

    def as_dict(self) -> dict[str, Any]:
        """Return the resolved configuration with every default; loading it again gives the same Config."""
        document: dict[str, Any] = {"version": CONFIG_VERSION, "name": self.name}
        for slot in SLOTS:
            value = getattr(self, slot)
            if value is not None and value != ():
                document[slot] = [c.as_dict() for c in value] if slot == "filters" else value.as_dict()
        for section in ("store", "search", "runtime"):
            document[section] = getattr(self, section).model_dump()
        if self.last is not None:
            document["search"]["last"] = self.last.as_dict()
        return document

    def without_revisions(self) -> dict[str, Any]:
        """Return `as_dict` with no revision of a model of the hub.

        For identities that know the weights besides: a configuration and what `to_yaml` writes of it give the same.
        """
        document = self.as_dict()
        for place, _ in self._pinned():
            set_at(document, place, None)
        return document

    def _pinned(self) -> Iterator[tuple[str, ModelSource]]:
        """Yield the places of revisions, with the models that they are of."""
        for component in with_nested([*self.components(), *([self.train] if self.train else [])]):
            for source in component.settings.models():
                if source.pin is not None:
                    yield f"{component.place}.{source.pin}", source

    def to_yaml(self, absolute: Sequence[Component] = ()) -> str:
        """Return `as_dict` as YAML, Chinese text unescaped; models of the hub are pinned to the commit that is here.

        Args:
            absolute: components whose files, and those of the components that they name, get absolute paths, so that
                the configuration can be used from anywhere.
        """
        document = self.as_dict()
        for component in with_nested(absolute):
            for key, path in component.settings.facts().files.items():
                if str(getattr(component.settings, key, None)) == str(path):  # no file that a name stands for
                    set_at(document, f"{component.place}.{key}", str(path.absolute()))
        for place, source in self._pinned():
            commit = source.commit()
            if commit is not None:
                set_at(document, place, commit)
        return str(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=110))

    def digest(self) -> str:
        """Return sha256 of the resolved configuration but for its executor, which changes nothing that is made."""
        document = {section: value for section, value in self.as_dict().items() if section != "executor"}
        return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def with_nested(components: Sequence[Component]) -> Iterator[Component]:
    """Yield components, each before the ones that it names."""
    for component in components:
        yield component
        yield from with_nested(list(component.nested.values()))


def load_config(
    source: str | Path | Mapping[str, Any],
    overrides: Sequence[str] = (),
    registry: Registry | None = None,
    label: str = "config",
) -> Config:
    """Read and validate a configuration.

    Args:
        source: a YAML file, or the document itself as a mapping.
        overrides: ``"similarity.temperature=9"`` and the like, applied before validation; values are YAML. A component
            whose name one changes begins with its own defaults (`change_names`); what was set for the one before is
            named in a warning.
        registry: where names are looked up; the process's registry by default.
        label: how errors call a document that was given as a mapping.

    Raises:
        ConfigError: names every fault with its place.
    """
    if isinstance(source, Mapping):
        document = deepcopy(dict(source))
    else:
        document, label = read_yaml(Path(source)), str(source)
    registry = registry or default_registry()
    for sentence in change_names(document, overrides, registry):
        warnings.warn(sentence, UserWarning, stacklevel=2)
    apply_overrides(document, overrides, label)
    return resolve(document, registry, label)


def resolve(document: Mapping[str, Any], registry: Registry, source: str = "config") -> Config:
    """Validate a document against the component models; raises ConfigError with all faults."""
    problems = _Problems()
    parsed: _Document | None = None
    try:
        parsed = _Document.model_validate(document)
        problems.sentences += _truths(document, parsed, "")
    except ValidationError as error:
        problems.sentences += _located(error, "", _Document)
    slots: dict[str, Any] = {}
    for slot, kind in SLOTS.items():
        raw = document.get(slot, getattr(parsed, slot, None))
        if slot in DEFAULTED and slot not in document:
            try:
                raw = {"name": registry.of_role(kind, "default")}
            except PluginError as error:
                problems.sentences.append(f"{slot}: is missing; {error}")
                continue
        if isinstance(raw, Mapping) and slot != "filters":
            slots[slot] = _component(slot, kind, raw, registry, problems)
        elif isinstance(raw, list) and slot == "filters":
            # Items that are no mappings are among the document's faults already.
            listed = [(f"filters.{i}", r) for i, r in enumerate(raw) if isinstance(r, Mapping)]
            found = [_component(p, kind, r, registry, problems) for p, r in listed]
            slots[slot] = tuple(c for c in found if c is not None)
    search = document.get("search")
    if isinstance(search, Mapping) and isinstance(search.get("last"), Mapping):  # else among the document's faults
        slots["last"] = _component(LAST, "reranker", search["last"], registry, problems)
    if problems.sentences or parsed is None:
        raise ConfigError(problems.sentences, source) from problems.cause
    settings = {s: getattr(parsed, s) for s in ("name", "store", "runtime")}
    two_stages = SearchSettings(candidates=parsed.search.candidates, top_k=parsed.search.top_k)
    return Config(**slots, **settings, search=two_stages, source=source)


@dataclass
class _Problems:
    """Faults found so far; `cause` is the first plugin error among them, for whoever wants its traceback."""

    sentences: list[str] = field(default_factory=list)
    cause: HeritageAlignError | None = None


def resolve_component(kind: Kind, raw: Mapping[str, Any], registry: Registry, place: str = "") -> Component:
    """Validate one component, ``{"name": ..., **settings}``; raises ConfigError with all faults."""
    problems = _Problems()
    component = _component(place or kind, kind, raw, registry, problems)
    if problems.sentences or component is None:
        raise ConfigError(problems.sentences) from problems.cause
    return component


def _component(place: str, kind: Kind, raw: Any, registry: Registry, problems: _Problems) -> Component | None:
    if not isinstance(raw, Mapping) or not isinstance(raw.get("name"), str):
        expected = "expected a mapping with a name, for example {name: ...}"
        problems.sentences.append(f"{place}: {expected}; got {_shown(raw)}")
        return None
    try:
        spec = registry.spec(kind, raw["name"])
        model = registry.config_model(spec)
    except HeritageAlignError as error:
        problems.sentences.append(f"{place}.name: {error}")
        problems.cause = problems.cause or error
        return None
    if kind == "reranker" and not issubclass(model, RerankerConfig):
        problems.sentences.append(
            f"{place}.name: settings of {spec.name!r} are no RerankerConfig: it has no candidates"
        )
        return None
    try:
        settings = model.model_validate({k: v for k, v in raw.items() if k != "name"})
    except ValidationError as error:
        problems.sentences += _located(error, place, model)
        return None
    if truths := _truths(raw, settings, place):
        problems.sentences += truths
        return None
    nested: dict[str, Component] = {}
    for inner, (inner_kind, inner_raw) in settings.nested().items():
        component = _component(f"{place}.{inner}", inner_kind, inner_raw, registry, problems)
        if component is not None:
            nested[inner] = component
    return Component(place, spec, settings, nested)


def _located(error: ValidationError, place: str, model: type[BaseModel]) -> list[str]:
    problems = []
    for fault in error.errors(include_url=False):
        keys = [str(part) for part in fault["loc"]]
        where = ".".join([place, *keys] if place else keys) or "document"
        if fault["type"] == "extra_forbidden":
            problems.append(f"{where}: unknown key.{did_you_mean(keys[-1], _keys_at(model, keys[:-1]))}")
        elif fault["type"] == "missing":
            problems.append(f"{where}: is missing")
        else:
            problems.append(f"{where}: {_expected(fault, keys, model)} (got {_shown(fault['input'])})")
    return problems


def _expected(fault: Mapping[str, Any], keys: Sequence[str], model: type[BaseModel]) -> str:
    """Return what is wrong with a value; in words of YAML where pydantic has those of Python."""
    kind, value = fault["type"], fault["input"]
    if kind in ("dict_type", "model_type", "model_attributes_type"):
        slot = model is _Document and (keys[0] in SLOTS or ".".join(keys) == LAST)
        name = value if isinstance(value, str) and value.strip() else "..."
        return f"expected a mapping with a name, for example {{name: {name}}}" if slot else "expected settings by name"
    if kind in ("list_type", "tuple_type"):
        return f"expected a list, for example [{value if isinstance(value, str) and value.strip() else '...'}]"
    if kind == "string_type":
        return "expected a text" if value is None else "expected a text; put it into quotes"
    if kind == "string_pattern_mismatch":
        named = [
            m.model_fields[keys[-1]].description for m in _models_at(model, keys[:-1]) if keys[-1] in m.model_fields
        ]
        return f"expected {named[0]}" if named and named[0] else fault["msg"]
    return fault["msg"].removeprefix("Value error, ")


def _truths(raw: Mapping[str, Any], settings: BaseModel, place: str) -> list[str]:
    """Return a fault for each true or false in the place of a number: YAML reads yes and no so, pydantic 1 and 0."""
    faults = []
    for key, value in raw.items():
        found = getattr(settings, key, None) if key in type(settings).model_fields else None
        where = f"{place}.{key}" if place else str(key)
        if isinstance(value, bool) and type(found) in (int, float):
            faults.append(f"{where}: expected a number (got {value})")
        elif isinstance(value, Mapping) and isinstance(found, BaseModel):
            faults += _truths(value, found, where)
    return faults


def _shown(value: Any) -> str:
    # repr would not stop early: aliases can make a value that prints without end out of a short file.
    short = reprlib.Repr()
    short.maxlevel, short.maxstring, short.maxother = 3, 80, 80
    text = short.repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _keys_at(model: type[BaseModel], path: Sequence[str]) -> list[str]:
    """Return the keys that are allowed at a place."""
    return [key for m in _models_at(model, path) for key in m.model_fields]


def _models_at(model: type[BaseModel], path: Sequence[str]) -> list[type[BaseModel]]:
    """Return the models of a place; list positions and union tags are passed over."""
    models = [model]
    for key in path:
        fields = [m.model_fields[key] for m in models if key in m.model_fields]
        if fields:
            models = [inner for info in fields for inner in _models_in(info.annotation)]
    return models


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if get_origin(annotation) is None and isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)
