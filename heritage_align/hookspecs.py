"""What a plugin may register: the pluggy hook specifications, the description of one component and of one command."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import pluggy

Kind = Literal[
    "encoder",
    "proposer",
    "filter",
    "fragmenter",
    "similarity",
    "index",
    "reranker",
    "dataset",
    "trainer",
    "executor",
]
"""The kinds of components: the slots of a pipeline, what looks at its best answers, data sets, trainers, and where the
work is done."""
KINDS: tuple[Kind, ...] = get_args(Kind)

ROLES: dict[str, tuple[str, ...]] = {
    "index": ("default",),
    "executor": ("default",),
    "dataset": ("pairs", "pictures", "precomputed", "manifest", "part"),
    "proposer": ("features",),
    "encoder": ("features",),
    "reranker": ("details",),
}
"""Kind -> what the core asks of its components without knowing their names; see `ComponentSpec.role`."""

PROJECT = "heritage_align"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a function of a plugin's module as a hook, for example ``heritage_align_components``."""


@dataclass(frozen=True)
class ComponentSpec:
    """One named component; describing it imports nothing, its target is imported on first use.

    Attributes:
        kind: the slot of the pipeline that it fills.
        name: the name that configs use, unique within its kind.
        target: ``"package.module:Class"``; built as ``Class(config, context)``.
        config: ``"package.module:Model"``, a subclass of `heritage_align.component.ComponentConfig`.
        summary: one line for ``plugins list``.
        inputs: features that it needs, for example ``("image.global", "text.global")``; a name that ends in ``?`` is
            used where it is there.
        outputs: features that it gives, for example ``("global", "patches", "texts")``; of an encoder ``"boxes"`` where
            its settings let it pool them (`RegionEncoder`); of a similarity ``"folds"``
            (`Similarity.fold` gives vectors) and ``"in_place"`` (given candidates it reads their regions alone, so that
            it may be handed a whole shard or store; `features.candidate_images` helps); of a reranker what it looks for
            in pictures, ``"texts"`` (`Reranker`) and ``"details"`` (`DetailReranker`), texts where it says nothing.
        requires: top-level modules that must be importable before the target is.
        install: how to get them, shown when one is missing.
        role: what the core takes this component for where a user names none; of two plugins with the same role the
            one that registered first is taken. Index and executor: ``"default"``, of a config without one. A data set:
            what ``--data`` means, ``"pairs"`` for a table (settings `file`, `image`, `text`, `group`, `split`,
            `require_pictures`), ``"pictures"`` for a folder without one (`folder`), ``"precomputed"`` for one of
            ``{split}_ims.npy`` and ``{split}_caps.txt`` (`folder`, `split`) and ``"manifest"`` for a manifest of IIIF
            (`manifest`, `allow_network`); what ``--fold`` means, ``"part"`` (`of`, `folds`, `fold`, `part`). With
            ``--features``, ``"features"``: a proposer that reads them (`path`, and what `Facts.stored` of filters
            names), and an encoder that takes them as they are (`dim`). A reranker: ``"details"``, with its own defaults
            the last look of ``search --image`` where the configuration has none that looks for details.
    """

    kind: Kind
    name: str
    target: str
    config: str
    summary: str = ""
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    install: str = ""
    role: str = ""


@dataclass(frozen=True)
class CommandSpec:
    """One command of ``heritage-align``; as with a component, its target is imported when it is called and not before.

    Attributes:
        name: as it is typed: small letters and digits in words joined by ``-``, unique among all commands.
        target: ``"package.module:command"``, a `click.Command` (a `click.Group` is one).
        summary: one line for ``heritage-align --help``.
        requires: top-level modules that must be importable before the target is.
        install: how to get them, shown when one is missing.
    """

    kind: ClassVar[str] = "command"
    name: str
    target: str
    summary: str
    requires: tuple[str, ...] = ()
    install: str = ""


@dataclass(frozen=True)
class HealthCheck:
    """One line of ``heritage-align doctor``: ``run()`` returns ``(ok, sentence)`` and must not raise."""

    name: str
    run: Callable[[], tuple[bool, str]]


@hookspec
def heritage_align_components() -> list[ComponentSpec]:  # type: ignore[empty-body]
    """Return the components that this plugin offers."""


@hookspec
def heritage_align_commands() -> list[CommandSpec]:  # type: ignore[empty-body]
    """Return the commands that this plugin adds to ``heritage-align``."""


@hookspec
def heritage_align_health_checks() -> list[HealthCheck]:  # type: ignore[empty-body]
    """Return checks that ``heritage-align doctor`` runs and prints."""


@hookspec
def heritage_align_stage_finished(stage: str, items: int, seconds: float) -> None:
    """Observe a finished stage (``encode``, ``search``, ``rerank``): for logs and run trackers."""
