"""Discover plugins, quarantine the broken ones, and resolve the name of a component or command to what it names.

pluggy itself stops at the first bad entry point and leaves a plugin with an invalid hook registered; here every
plugin is loaded, registered and asked for what it offers on its own, and rolled back if any of that fails.

Nothing here imports pydantic or click before a component or command is asked for: ``heritage-align --help`` lists
what plugins offer.

Environment:
    HERITAGE_ALIGN_PLUGINS: comma-separated allow list of third-party plugins; empty for none.
    HERITAGE_ALIGN_DISABLE_PLUGINS: comma-separated names that are not loaded, built-ins included.
    HERITAGE_ALIGN_STRICT: ``1`` re-raises what would be quarantined.
"""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import import_module
from importlib.metadata import Distribution, EntryPoint, entry_points
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import pluggy

from heritage_align import __version__, hookspecs
from heritage_align.commands import COMMANDS
from heritage_align.errors import MissingDependency, PluginError, did_you_mean
from heritage_align.hookspecs import KINDS, PROJECT, ROLES, CommandSpec, ComponentSpec, Kind
from heritage_align.protocols import API_VERSION, VersionedPlugin

if TYPE_CHECKING:
    import click

    from heritage_align.component import ComponentConfig

BUILTIN = "heritage_align_plugins"
State = Literal["ok", "broken", "incompatible", "disabled"]
_Spec = TypeVar("_Spec", ComponentSpec, CommandSpec)
_COMMAND_NAME = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")


@dataclass
class PluginInfo:
    """A plugin as ``plugins list`` shows it.

    Attributes:
        name: entry point name (or the built-in's module name).
        module: what is imported.
        dist: ``name version`` of its distribution.
        state: ``ok``, ``broken``, ``incompatible`` or ``disabled``.
        reason: one line on why it is not ok.
        trace: the full traceback, empty where it is ok.
        error: the original exception.
        components: what it registered.
        commands: what it adds to the command line.
    """

    name: str
    module: str
    dist: str
    state: State = "ok"
    reason: str = ""
    trace: str = ""
    error: BaseException | None = None
    components: tuple[ComponentSpec, ...] = ()
    commands: tuple[CommandSpec, ...] = ()


@dataclass(frozen=True)
class _Candidate:
    name: str
    module: str
    load: Callable[[], ModuleType]
    dist: Distribution | None = None


@dataclass
class Registry:
    """All components by kind and name, all commands by name, and the plugins that they come from."""

    plugins: list[PluginInfo] = field(default_factory=list)
    _specs: dict[tuple[Kind, str], tuple[ComponentSpec, PluginInfo]] = field(default_factory=dict)
    _commands: dict[str, tuple[CommandSpec, PluginInfo]] = field(default_factory=dict)
    manager: pluggy.PluginManager = field(default_factory=lambda: pluggy.PluginManager(PROJECT))

    def __post_init__(self) -> None:
        self.manager.add_hookspecs(hookspecs)

    def components(self, kind: Kind | None = None) -> list[ComponentSpec]:
        """Return the registered components, of one kind or all, sorted by kind and name."""
        found = [spec for (k, _), (spec, _) in self._specs.items() if kind in (None, k)]
        return sorted(found, key=lambda s: (KINDS.index(s.kind), s.name))

    def names(self, kind: Kind) -> list[str]:
        """Return the names of one kind, sorted."""
        return [spec.name for spec in self.components(kind)]

    def plugin_of(self, kind: Kind, name: str) -> PluginInfo:
        """Return the plugin that registered a component."""
        self.spec(kind, name)
        return self._specs[kind, name][1]

    def spec(self, kind: Kind, name: str) -> ComponentSpec:
        """Return a component's spec.

        Raises:
            PluginError: the name is unknown; the message names the nearest one, and a quarantined plugin of that
                name with its original cause.
        """
        if (kind, name) in self._specs:
            return self._specs[kind, name][0]
        for plugin in self.plugins:
            offered = [s.name for s in plugin.components if s.kind == kind]
            if plugin.state != "ok" and (name in offered or plugin.name == name):
                raise PluginError(
                    f"{kind} {name!r}: plugin {plugin.name!r} is {plugin.state}: {plugin.reason}. "
                    f"See: heritage-align plugins show {plugin.name}"
                ) from plugin.error
        known = self.names(kind)
        message = f"unknown {kind} {name!r}.{did_you_mean(name, known)} Known: {', '.join(known) or 'none'}."
        absent = [p for p in self.plugins if p.state != "ok"]
        if absent:
            # What a plugin would have offered is unknown where its import failed, so every reason is given.
            reasons = "; ".join(f"{p.name} is {p.state}: {p.reason}" for p in absent)
            message += f" Not loaded: {reasons} (heritage-align plugins list)."
        raise PluginError(message)

    def of_role(self, kind: Kind, role: str) -> str:
        """Return the name of the component that the core takes for a role (`ComponentSpec.role`).

        Raises:
            PluginError: no plugin that is loaded has one.
        """
        for (k, name), (spec, _) in self._specs.items():
            if k == kind and spec.role == role:
                return name
        where = f"of kind {kind!r} and role {role!r}"
        raise PluginError(f"no plugin that is loaded offers a component {where} (heritage-align plugins list)")

    def commands(self) -> dict[str, CommandSpec]:
        """Return the commands that plugins add, by name, sorted."""
        return {name: self._commands[name][0] for name in sorted(self._commands)}

    def command(self, name: str) -> click.Command:
        """Import and return a command of a plugin.

        Raises:
            MissingDependency: a module of its `requires` is not installed.
            PluginError: no plugin offers it, or its target does not import or is no click command; names the plugin.
        """
        import click

        if name not in self._commands:
            raise PluginError(f"no plugin offers a command {name!r}.{did_you_mean(name, list(self._commands))}")
        spec, plugin = self._commands[name]
        try:
            found = self.target(spec)
        except PluginError as error:
            raise PluginError(f"plugin {plugin.name!r}: {error}") from error.__cause__
        if not isinstance(found, click.Command):
            raise PluginError(f"plugin {plugin.name!r}: command {name!r}: {spec.target!r} is no click command")
        return found

    def config_model(self, spec: ComponentSpec) -> type[ComponentConfig]:
        """Import and return a component's configuration model."""
        from heritage_align.component import ComponentConfig

        model = _import_target(spec, spec.config)
        if not (isinstance(model, type) and issubclass(model, ComponentConfig)):
            raise PluginError(f"{spec.kind} {spec.name!r}: config {spec.config!r} is not a ComponentConfig")
        return model

    def target(self, spec: ComponentSpec | CommandSpec) -> Callable[..., Any]:
        """Import and return a component's class, or what a command names (`command` checks that it is one).

        Raises:
            MissingDependency: a module of `spec.requires` is not installed.
            PluginError: the target does not import; the original exception is the cause.
        """
        missing = missing_requirements(spec)
        if missing:
            hint = f": {spec.install}" if spec.install else ""
            raise MissingDependency(f"{spec.kind} {spec.name!r} needs {', '.join(missing)}{hint}")
        target: Callable[..., Any] = _import_target(spec, spec.target)
        return target

    def add(self, info: PluginInfo, module: object) -> None:
        """Register one plugin's module; on any failure quarantine it and leave nothing of it registered."""
        if self.manager.has_plugin(info.name):
            # pluggy would refuse too, but rolling back by name would then remove the other plugin.
            self.quarantine(info, "broken", PluginError(f"another plugin is named {info.name!r} already"))
            return
        try:
            self.manager.register(module, name=info.name)
            self.manager.check_pending()  # a misspelt hook would otherwise register nothing and say nothing
            info.components = _checked_components(self._offered(info, "heritage_align_components", ComponentSpec))
            info.commands = _checked_commands(self._offered(info, "heritage_align_commands", CommandSpec))
            self._refuse_clashes(info)
        except (Exception, SystemExit) as error:  # whatever it raises, it must not take the others down
            if self.manager.has_plugin(info.name):
                self.manager.unregister(name=info.name)
            self.quarantine(info, "broken", error)
            return
        for spec in info.components:
            self._specs[spec.kind, spec.name] = (spec, info)
        for command in info.commands:
            self._commands[command.name] = (command, info)

    def quarantine(self, info: PluginInfo, state: State, error: BaseException) -> None:
        """Mark a plugin as unusable and say so once on stderr; re-raise where HERITAGE_ALIGN_STRICT=1."""
        info.state, info.error = state, error
        info.reason = f"{type(error).__name__}: {error}".strip().splitlines()[0]
        info.trace = "".join(traceback.format_exception(error))
        if os.environ.get("HERITAGE_ALIGN_STRICT") == "1":
            raise PluginError(f"plugin {info.name!r} is {state}: {info.reason}") from error
        print(f"heritage-align: plugin {info.name!r} is {state}: {info.reason}", file=sys.stderr)

    def _offered(self, info: PluginInfo, hook: str, kind: type[_Spec]) -> list[_Spec]:
        """Return what a registered plugin's hook gives, and its alone."""
        others = [p for n, p in self.manager.list_name_plugin() if n != info.name and p is not None]
        specs = [spec for listed in self.manager.subset_hook_caller(hook, others)() for spec in listed]
        for spec in specs:
            if not isinstance(spec, kind):
                raise PluginError(f"{hook} returned {spec!r}, expected {kind.__name__}")
        return specs

    def _refuse_clashes(self, info: PluginInfo) -> None:
        taken: list[tuple[ComponentSpec | CommandSpec, PluginInfo]] = [
            *((c, self._specs[c.kind, c.name][1]) for c in info.components if (c.kind, c.name) in self._specs),
            *((c, self._commands[c.name][1]) for c in info.commands if c.name in self._commands),
        ]
        for spec, other in taken:
            raise PluginError(
                f"{spec.kind} {spec.name!r} is already registered by plugin {other.name!r}; disable one of the "
                f"two with HERITAGE_ALIGN_DISABLE_PLUGINS"
            )


def missing_requirements(spec: ComponentSpec | CommandSpec) -> list[str]:
    """Return the modules of `spec.requires` that are not installed, without importing them."""
    return [name for name in spec.requires if not _installed(name)]


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # a dotted name's parent is missing; a stub in sys.modules has no spec
        return False


def discover(extra: Sequence[tuple[str, object]] = ()) -> Registry:
    """Load the built-ins, then the entry points of group ``heritage_align`` in the order of their names.

    Args:
        extra: further ``(name, module)`` pairs, registered last; for tests and notebooks.
    """
    registry = Registry()
    allowed = os.environ.get("HERITAGE_ALIGN_PLUGINS")
    allow = None if allowed is None else _listed(allowed)
    deny = _listed(os.environ.get("HERITAGE_ALIGN_DISABLE_PLUGINS", ""))
    for candidate in [*_builtins(), *_third_party()]:
        dist = candidate.dist
        label = _label(dist) if dist else f"heritage-align {__version__}"
        info = PluginInfo(candidate.name, candidate.module, label)
        registry.plugins.append(info)
        if candidate.name in deny:
            info.state, info.reason = "disabled", "named in HERITAGE_ALIGN_DISABLE_PLUGINS"
        elif dist is not None and allow is not None and candidate.name not in allow:
            info.state, info.reason = "disabled", "not named in HERITAGE_ALIGN_PLUGINS"
        else:
            _load(registry, info, candidate)
    for name, module in extra:
        info = PluginInfo(name, getattr(module, "__name__", type(module).__name__), "given in the process")
        registry.plugins.append(info)
        registry.add(info, module)
    return registry


@lru_cache(maxsize=1)
def default_registry() -> Registry:
    """Return the process's registry, discovered on first use (the entry-point scan takes milliseconds)."""
    return discover()


def _load(registry: Registry, info: PluginInfo, candidate: _Candidate) -> None:
    wanted = _wanted_version(candidate.dist)
    if wanted:
        registry.quarantine(info, "incompatible", PluginError(wanted))
        return
    try:
        module = candidate.load()
        api = module.HERITAGE_ALIGN_API if isinstance(module, VersionedPlugin) else API_VERSION
    except (Exception, SystemExit) as error:  # importing foreign code may raise anything
        registry.quarantine(info, "broken", error)
        return
    if api != API_VERSION:
        message = f"it was written for plugin API {api}, this is API {API_VERSION}"
        registry.quarantine(info, "incompatible", PluginError(message))
        return
    registry.add(info, module)


def _wanted_version(dist: Distribution | None) -> str:
    """Return why a distribution does not want this version of heritage-align, read before anything is imported."""
    if dist is None:
        return ""
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    for line in dist.requires or ():
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        if canonicalize_name(requirement.name) != "heritage-align":
            continue
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue  # asked for by an extra or another platform only
        if not requirement.specifier.contains(__version__, prereleases=True):
            return f"it needs heritage-align{requirement.specifier}, this is {__version__}"
    return ""


def _builtins() -> Iterable[_Candidate]:
    for name in import_module(BUILTIN).PLUGINS:
        module = f"{BUILTIN}.{name}"
        yield _Candidate(name, module, lambda module=module: import_module(module))  # type: ignore[misc]


def _third_party() -> Iterable[_Candidate]:
    points: list[EntryPoint] = sorted(entry_points(group=PROJECT), key=lambda p: (p.name, p.value))
    for point in points:
        yield _Candidate(point.name, point.value, point.load, point.dist)


def _label(dist: Distribution) -> str:
    try:
        name, version = dist.metadata["Name"], dist.version
    except Exception:  # metadata that is missing or not text must not stop the scan
        return "unnamed distribution"
    return f"{name} {version}" if name and version else "unnamed distribution"


def _checked_components(specs: Sequence[ComponentSpec]) -> tuple[ComponentSpec, ...]:
    seen: set[tuple[str, str]] = set()
    for spec in specs:
        if spec.kind not in KINDS:
            raise PluginError(f"component {spec.name!r}: unknown kind {spec.kind!r}.{did_you_mean(spec.kind, KINDS)}")
        if spec.role and spec.role not in ROLES.get(spec.kind, ()):
            raise PluginError(f"{spec.kind} {spec.name!r}: there is no role {spec.role!r} of this kind")
        for label, path in (("target", spec.target), ("config", spec.config)):
            if path.count(":") != 1:
                raise PluginError(f"{spec.kind} {spec.name!r}: {label} {path!r} is not 'package.module:Name'")
        if (spec.kind, spec.name) in seen:
            raise PluginError(f"{spec.kind} {spec.name!r} is registered twice")
        seen.add((spec.kind, spec.name))
    return tuple(specs)


def _checked_commands(specs: Sequence[CommandSpec]) -> tuple[CommandSpec, ...]:
    seen: set[str] = set()
    for spec in specs:
        if not _COMMAND_NAME.fullmatch(spec.name):
            raise PluginError(f"command {spec.name!r}: expected small letters and digits in words joined by -")
        if spec.name in COMMANDS:
            raise PluginError(f"command {spec.name!r} is one of heritage-align's own; choose another name")
        if spec.target.count(":") != 1:
            raise PluginError(f"command {spec.name!r}: target {spec.target!r} is not 'package.module:name'")
        if spec.name in seen:
            raise PluginError(f"command {spec.name!r} is registered twice")
        seen.add(spec.name)
    return tuple(specs)


def _import_target(spec: ComponentSpec | CommandSpec, path: str) -> Any:
    module, _, name = path.partition(":")
    try:
        return getattr(import_module(module), name)
    except (Exception, SystemExit) as error:  # the plugin's own import may raise anything; the cause is kept
        raise PluginError(f"{spec.kind} {spec.name!r}: cannot import {path!r}: {error}") from error


def _listed(text: str) -> set[str]:
    return {name.strip() for name in text.split(",") if name.strip()}
