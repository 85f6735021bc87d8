"""A component under test: which one, with which settings, and how it is built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from heritage_align.component import ComponentConfig
from heritage_align.config import Component, resolve_component
from heritage_align.hookspecs import ComponentSpec, Kind
from heritage_align.plugins import Registry, default_registry


@dataclass(frozen=True)
class Case:
    """One component with one set of settings.

    Attributes:
        kind: of the component, for example ``"proposer"``.
        name: the name that configs use.
        settings: as in a config, without ``name``; small ones make a fast test.
        spec: the component's description, for one that no registry holds; otherwise it is looked up.
        registry: where names are looked up, those of nested components too; by default the process's.
        attention: what filters hand to the component (`BuildContext.attention`).
        encoder: settings, with ``name``, of the encoder before it (`BuildContext.encoder`); by default the kit's own.
        bad_images: of a data set, id of a picture that does not decode -> the name that the error must give.
        feature_dim: of an encoder that takes region features, their width.
        system: of a trainer, a configuration to train, without its section ``train``; of an executor, one whose data
            it encodes and searches. Small, as that is done several times. Its names are looked up in `registry`.
    """

    kind: Kind
    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    spec: ComponentSpec | None = None
    registry: Registry | None = None
    attention: Mapping[str, Any] = field(default_factory=dict)
    encoder: Mapping[str, Any] = field(default_factory=dict)
    bad_images: Mapping[str, str] = field(default_factory=dict)
    feature_dim: int | None = None
    system: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, spec: ComponentSpec, settings: Mapping[str, Any] | None = None) -> Case:
        """Return a case for a component that is described but need not be installed."""
        return cls(spec.kind, spec.name, settings or {}, spec=spec)

    def __str__(self) -> str:
        return f"{self.kind}.{self.name}"

    @cached_property
    def description(self) -> ComponentSpec:
        """The component's spec; raises PluginError for an unknown name, with the cause where its plugin is
        broken."""
        return self.spec or self._names.spec(self.kind, self.name)

    @cached_property
    def config(self) -> ComponentConfig:
        """The validated settings; raises pydantic's ValidationError where they are not valid."""
        return self._names.config_model(self.description).model_validate(dict(self.settings))

    @cached_property
    def component(self) -> Component:
        """The component with its settings and nested components; raises ConfigError where one is unknown."""
        nested = {
            place: resolve_component(kind, raw, self._names, f"{self}.{place}")
            for place, (kind, raw) in self.config.nested().items()
        }
        return Component(str(self), self.description, self.config, nested)

    def build(self, seed: int = 0) -> Any:
        """Import and build the component on the CPU in fp32, with `Case.encoder` or the kit's small one before it."""
        from heritage_align.pipeline import build_component
        from heritage_align.protocols import BuildContext, Encoder
        from heritage_align.testing.samples import ToyEncoder

        context = BuildContext(seed=seed, attention=self.attention)
        before: Encoder = ToyEncoder()
        if self.encoder:
            before = build_component(resolve_component("encoder", self.encoder, self._names), context, self._names)
        context = replace(context, encoder=before)
        return build_component(self.component, context, self._names)

    @cached_property
    def _names(self) -> Registry:
        if self.registry is not None:
            return self.registry
        # A described component is looked up nowhere, so its test does not depend on what else is installed.
        return Registry() if self.spec is not None else default_registry()
