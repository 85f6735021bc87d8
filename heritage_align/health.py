"""What is installed, built and found on this machine, and how to get what is missing: the facts behind ``doctor``."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Literal, NamedTuple, cast

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from heritage_align import __version__
from heritage_align.errors import PluginError
from heritage_align.hookspecs import CommandSpec, ComponentSpec, HealthCheck
from heritage_align.plugins import Registry, missing_requirements

State = Literal["ok", "missing", "broken"]

LIBRARIES = ("torch", "torchvision", "cn_clip", "opencv-contrib-python", "numpy", "pillow", "safetensors", "pluggy")
OPTIONAL = {  # library: the extra that brings it, what it is for
    "transformers": ("transformers", "encoders of models of that library, a reranker"),
    "sentence-transformers": ("sentence-transformers", "encoders and a reranker of that library"),
    "open_clip_torch": ("open-clip", "the encoder of that library's zoo"),
    "jieba": ("chinese", "noun phrases and words of Chinese texts"),
    "opencc": ("chinese", "traditional characters read as simplified ones"),
    "nltk": ("english", "noun phrases of English texts"),
    "spacy": ("english", "noun phrases of English texts"),
    "pillow-heif": ("heif", "HEIC pictures"),
    "sacrebleu": ("evaluation", "BLEU"),
    "scipy": ("evaluation", "the test of variances"),
    "mteb": ("mteb", "systems as models of mteb's tasks"),
    "fastapi": ("serve", "heritage-align serve"),
    "uvicorn": ("serve", "heritage-align serve"),
    "httptools": ("serve", "heritage-align serve"),
    "prometheus_client": ("serve", "heritage-align serve"),
    "matplotlib": ("plots", "plots of training and of the benchmark"),
    "faiss-cpu": ("faiss", "index faiss"),
    "qdrant-client": ("qdrant", "index qdrant"),
    "ray": ("ray", "executor ray: a collection on several machines"),
}


class Finding(NamedTuple):
    """One line: what was looked at, its state, and what was found or how to get it."""

    name: str
    state: State
    detail: str


def examine(registry: Registry) -> Iterator[Finding]:
    """Yield findings: machine, libraries, kernels, plugins, and the plugins' own health checks."""
    yield Finding("heritage-align", "ok", f"{__version__}, Python {platform.python_version()} at {sys.prefix}")
    yield Finding("machine", "ok", f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}")
    bounds = _bounds()
    for name in LIBRARIES:
        yield _library(name, bounds.get(canonicalize_name(name), name), "broken", "")
    for name, (extra, purpose) in OPTIONAL.items():
        wanted = bounds.get(canonicalize_name(name), name)
        yield _library(name, wanted, "missing", f"optional: pip install 'heritage-align[{extra}]' ({purpose})")
    try:
        yield from _devices()
        yield from _kernels()
    except (ImportError, OSError) as error:  # of a torch that is not there or does not load
        yield Finding("GPU and kernels", "broken", f"torch does not load: {error}")
    yield from _plugins(registry)


def _bounds() -> dict[str, str]:
    """Return what the installed heritage-align asks of each library, e.g. ``torch>=2.10,<3``."""
    try:
        lines = requires("heritage-align") or []
    except PackageNotFoundError:  # a source tree that is not installed
        lines = []
    # The core's before those of the extras, which may ask for more: heif needs a newer Pillow than the core.
    asked = sorted(map(Requirement, lines), key=lambda one: "extra" in str(one.marker))
    bounds: dict[str, str] = {}
    for one in asked:
        if one.specifier:
            bounds.setdefault(canonicalize_name(one.name), f"{one.name}{one.specifier}")
    return bounds


def _library(name: str, wanted: str, without: State, how: str) -> Finding:
    """Say which version of a library is installed, and where that is none or a wrong one, how to get a right one."""
    try:
        found = version(name)
    except PackageNotFoundError:
        return Finding(name, without, how or f"pip install '{wanted}'")
    if not Requirement(wanted).specifier.contains(found, prereleases=True):
        return Finding(name, "broken", f"{found} is installed: pip install '{wanted}'")
    return Finding(name, "ok", found)


def _devices() -> Iterator[Finding]:
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        yield Finding("GPU", "ok", f"{', '.join(names)}; torch {torch.__version__} with CUDA {torch.version.cuda}")
    else:
        yield Finding("GPU", "missing", f"torch {torch.__version__} finds none; everything runs on the CPU")
    nvcc = shutil.which("nvcc")
    yield Finding("nvcc", "ok" if nvcc else "missing", nvcc or "needed to build the CUDA kernels, not to run")


def _kernels() -> Iterator[Finding]:
    from heritage_align.ops import build_info
    from heritage_align.ops.backend import MISSING

    facts = build_info()
    for device, built, why in (("CPU", facts.cpu, facts.reason), ("CUDA", facts.cuda, facts.cuda_reason)):
        if built and MISSING[device.lower()] is None:
            targets = f" for {', '.join(facts.cuda_targets)}" if device == "CUDA" else ""
            yield Finding(f"{device} kernels", "ok", f"built{targets} against torch {facts.torch}, {facts.compiler}")
            if device == "CUDA":
                yield from _architectures(facts.cuda_targets)
        else:
            reason = why or facts.reason or MISSING[device.lower()] or "not built"
            yield Finding(f"{device} kernels", "missing", f"the reference runs instead: {reason}")


def _architectures(targets: tuple[str, ...]) -> Iterator[Finding]:
    """What runs on the GPUs that are here; where there is none, on those that there are."""
    import torch

    from heritage_align.ops.architectures import GENERATIONS, architecture

    for index in range(torch.cuda.device_count()):
        found = architecture(torch.cuda.get_device_capability(index), targets)
        detail = f"{torch.cuda.get_device_name(index)}: {found}"
        if found.target is None:
            detail += "; the reference runs instead"
        yield Finding(f"kernels on GPU {index}", "missing" if found.target is None else "ok", detail)
    if torch.cuda.device_count() == 0:
        for capability, examples in GENERATIONS.items():
            found = architecture(capability, targets)
            name = f"kernels on a GPU of {capability[0]}.{capability[1]}"
            yield Finding(name, "missing" if found.target is None else "ok", f"{examples}: {found}")


def _plugins(registry: Registry) -> Iterator[Finding]:
    for plugin in registry.plugins:
        if plugin.state != "ok":
            state: State = "missing" if plugin.state == "disabled" else "broken"
            yield Finding(f"plugin {plugin.name}", state, f"{plugin.state}: {plugin.reason}")
    working = [plugin for plugin in registry.plugins if plugin.state == "ok"]
    count = sum(len(plugin.components) for plugin in working)
    commands = registry.commands()
    added = f" and {len(commands)} commands" if commands else ""
    yield Finding("plugins", "ok", f"{len(working)} with {count} components{added}")
    offered: list[ComponentSpec | CommandSpec] = [*registry.components(), *commands.values()]
    for spec in offered:
        missing = missing_requirements(spec)
        if missing:
            yield Finding(f"{spec.kind}.{spec.name}", "missing", f"needs {', '.join(missing)}: {spec.install}")
    for name, command in commands.items():
        if not missing_requirements(command):
            try:
                registry.command(name)
            except PluginError as error:
                yield Finding(f"command.{name}", "broken", str(error))
    yield from _plugin_checks(registry)


def _plugin_checks(registry: Registry) -> Iterator[Finding]:
    # Each hook on its own: `doctor` is for the day on which something is broken, and must get to the last line.
    for hook in registry.manager.hook.heritage_align_health_checks.get_hookimpls():
        try:
            checks: list[HealthCheck] = list(cast(Iterable[HealthCheck], hook.function()))
        except Exception as error:
            yield Finding(f"plugin {hook.plugin_name}", "broken", f"its health checks fail: {error!r}")
            continue
        for check in checks:
            try:
                healthy, detail = check.run()
            except Exception as error:
                yield Finding(check.name, "broken", f"the check of plugin {hook.plugin_name!r} fails: {error!r}")
            else:
                yield Finding(check.name, "ok" if healthy else "missing", detail)
