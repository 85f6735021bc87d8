"""Checks of a component's description and settings: before anything is built."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from functools import cache
from pathlib import Path
from unittest import SkipTest

from pydantic import ValidationError

from heritage_align.component import Facts
from heritage_align.document import get_at
from heritage_align.hookspecs import KINDS
from heritage_align.testing.case import Case
from heritage_align.testing.checks.base import check, expect

HEAVY = (
    "cn_clip", "cv2", "jax", "jieba", "lmdb", "matplotlib", "nltk", "onnxruntime", "open_clip", "pandas", "scipy",
    "sentence_transformers", "skimage", "sklearn", "spacy", "tensorflow", "timm", "torch", "torchvision",
    "transformers",
)  # fmt: skip
"""Libraries that take from tenths of seconds to seconds to import; the core needs none of them to list
plugins."""

FEATURES = {
    "encoder": ((), ("global", "texts", "patches", "boxes", "features")),
    "proposer": ((), ("crops", "patches", "features")),
    "filter": ((), ("keep", "attention")),
    "fragmenter": ((), ("fragments",)),
    "similarity": (
        (
            "image.global",
            "image.regions",
            "image.factor",
            "text.global",
            "text.fragments",
            "keep",
            "attention",
        ),
        ("folds", "in_place"),
    ),
    "index": ((), ()),
    "reranker": ((), ("texts", "details")),
    "dataset": ((), ()),
    "trainer": ((), ()),
    "executor": ((), ()),
}
"""Kind -> the inputs and outputs that the planner understands (a trailing ``?`` marks an optional input)."""


@check(*KINDS)
def check_description_is_light(case: Case) -> None:
    """Listing plugins must not import what they compute with: one plugin took a host's --help from 1 to 10
    s."""
    spec = case.description
    settings, implementation = spec.config.partition(":")[0], spec.target.partition(":")[0]
    loaded = _imported_by(settings, implementation.rpartition(".")[0])
    heavy = sorted(loaded & {*HEAVY, *(name.partition(".")[0] for name in spec.requires)} - {"numpy"})
    expect(not heavy, f"importing {settings} loads {', '.join(heavy)}; import them in the target")


@cache
def _imported_by(*modules: str) -> frozenset[str]:
    """Return the top-level modules that a fresh interpreter has loaded after importing `modules`."""
    code = (
        "import importlib, sys\n"
        f"for name in {[m for m in modules if m]!r}: importlib.import_module(name)\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    expect(
        done.returncode == 0,
        f"{', '.join(modules)} do not import in a fresh interpreter: {done.stderr[-800:]}",
    )
    return frozenset(done.stdout.split())


@check(*KINDS)
def check_unknown_key_is_refused(case: Case) -> None:
    """A misspelt setting that is silently ignored costs a day: extra keys must be errors."""
    model = type(case.config)
    try:
        model.model_validate({**case.settings, "no_such_setting": 1})
    except ValidationError as error:
        faults = {fault["type"] for fault in error.errors()}
        expect(faults == {"extra_forbidden"}, f"an unknown key gives {faults}, expected extra_forbidden")
    else:
        raise AssertionError(f"{model.__name__} takes the unknown key 'no_such_setting'; keep extra='forbid'")


@check(*KINDS)
def check_settings_are_frozen(case: Case) -> None:
    """A setting changed after the config was saved beside the run makes that copy a lie."""
    settings = case.config
    for key in type(settings).model_fields:
        try:
            setattr(settings, key, getattr(settings, key))
        except ValidationError:
            continue
        raise AssertionError(f"{key} can be set after validation; keep frozen=True")


@check(*KINDS)
def check_settings_are_described(case: Case) -> None:
    """`plugins show` and the JSON schema print descriptions; `name` is the config's own key in that
    mapping."""
    fields = type(case.config).model_fields
    expect("name" not in fields, "a setting is called 'name', which names the component in a config")
    blank = [key for key, info in fields.items() if not (info.description or "").strip()]
    expect(not blank, f"no description for {', '.join(blank)}; give Field(description=...)")


@check(*KINDS)
def check_settings_round_trip(case: Case) -> None:
    """The resolved config is saved as JSON and YAML beside every run and must load to the same thing."""
    settings = case.config
    again = type(settings).model_validate(json.loads(json.dumps(settings.model_dump(mode="json"))))
    expect(again == settings, f"{settings!r} comes back from JSON as {again!r}")


@check(*KINDS)
def check_settings_pickle(case: Case) -> None:
    """Worker processes are spawned with the settings: a class made inside a function does not survive
    that."""
    settings = case.config
    again = pickle.loads(pickle.dumps(settings))  # the process's own bytes
    expect(again == settings, f"{settings!r} comes back from pickle as {again!r}")
    place = f"{type(settings).__module__}:{type(settings).__qualname__}"
    module = sys.modules[type(settings).__module__]
    expect(
        getattr(module, type(settings).__qualname__, None) is type(settings),
        f"{place} is not where its class says, a spawned worker cannot find it",
    )


@check(*KINDS)
def check_facts_are_planned(case: Case) -> None:
    """The planner asks before a model loads; a feature name that it does not know is never checked."""
    spec, facts = case.description, case.config.facts()
    expect(isinstance(facts, Facts), f"facts() returned {facts!r}")
    inputs, outputs = FEATURES[case.kind]
    for label, given, known in (
        ("input", spec.inputs, inputs),
        ("input", facts.inputs or (), inputs),
        ("output", spec.outputs, outputs),
        ("output", facts.outputs or (), outputs),
    ):
        unknown = [name for name in given if name.removesuffix("?") not in known]
        expect(not unknown, f"unknown {label} {', '.join(unknown)}; a {case.kind} may declare {known or 'none'}")
    fields = type(case.config).model_fields
    for key, path in facts.files.items():
        expect(key.partition(".")[0] in fields, f"facts().files names {key!r}, which is no setting")
        expect(isinstance(path, Path), f"facts().files[{key!r}] is {path!r}, expected a Path")


@check(*KINDS)
def check_nested_places(case: Case) -> None:
    """A nested component is shown in the resolved config at its place, so the place must be there."""
    nested = case.config.nested()
    if not nested:
        raise SkipTest("names no other components")
    document = case.config.model_dump(mode="json")
    for place, (kind, raw) in nested.items():
        expect(kind in KINDS, f"nested()[{place!r}] has kind {kind!r}")
        try:
            there = get_at(document, place)
        except KeyError:
            raise AssertionError(f"nested() names the place {place!r}, which the settings do not have") from None
        expect(there == raw, f"nested()[{place!r}] is {raw!r}, the settings have {there!r} there")
