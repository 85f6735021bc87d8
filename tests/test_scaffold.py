"""A new plugin of every kind conforms as it is written, and nothing is ever overwritten."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module, invalidate_caches
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

from heritage_align import __version__
from heritage_align.errors import PluginError
from heritage_align.hookspecs import KINDS
from heritage_align.plugins import PluginInfo, Registry
from heritage_align.scaffold import create_plugin
from heritage_align.testing import Case, check_component, run_checks


@pytest.fixture(scope="module", params=KINDS)
def plugin(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A package of each kind, importable."""
    root = create_plugin(f"silk-{request.param}", request.param, tmp_path_factory.mktemp("new"))
    sys.path.insert(0, str(root))
    invalidate_caches()
    yield request.param, root
    sys.path.remove(str(root))
    for name in [m for m in sys.modules if m.startswith(f"silk_{request.param}")]:
        del sys.modules[name]


def module_of(kind: str) -> ModuleType:
    return import_module(f"silk_{kind}")


def test_it_conforms(plugin: tuple[str, Path]) -> None:
    (spec,) = module_of(plugin[0]).heritage_align_components()
    failed = [r.detail for r in run_checks(Case.of(spec)) if r.state == "failed"]
    assert failed == []


def test_it_registers(plugin: tuple[str, Path], ha_registry: Registry) -> None:
    kind, _ = plugin
    info = PluginInfo("new", "new", "tests")
    ha_registry.add(info, module_of(kind))
    assert info.state == "ok"
    assert ha_registry.plugin_of(kind, f"silk_{kind}") is info  # type: ignore[arg-type]


def test_its_metadata_name_the_entry_point_and_this_version(plugin: tuple[str, Path]) -> None:
    kind, root = plugin
    project = (root / "pyproject.toml").read_text(encoding="utf-8")
    assert f'[project.entry-points.heritage_align]\nsilk_{kind} = "silk_{kind}"\n' in project
    major, minor, *_ = __version__.split(".")
    assert f'dependencies = ["heritage-align>={major}.{minor},<{major}.{int(minor) + 1}"]\n' in project


def test_a_new_trainer_trains(ha_registry: Registry, plugin: tuple[str, Path]) -> None:
    kind, _ = plugin
    if kind != "trainer":
        pytest.skip("of the trainer alone")
    ha_registry.add(PluginInfo("new", "new", "tests"), module_of(kind))
    motifs = {"name": "motifs", "artworks": 3, "variants": 1, "size": 64}
    settings = {"data": motifs, "values": [1.0, 9.0]}
    system = {
        "version": 1,
        "name": "new",
        "encoder": {"name": "cn_clip", "model": "motif-small"},
        "proposer": {"name": "patch_grid"},
        "fragmenter": {"name": "annotated"},
        "similarity": {"name": "scan"},
        "runtime": {"device": "cpu"},
    }
    results = check_component(Case("trainer", "silk_trainer", settings, registry=ha_registry, system=system))
    assert {r.check: r.state for r in results}["check_outcome_is_a_system"] == "passed"


@pytest.mark.skipif(find_spec("ruff") is None, reason="ruff is not installed (extra 'lint')")
def test_its_code_is_tidy(plugin: tuple[str, Path]) -> None:
    kind, root = plugin
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--line-length", "110", "--select", "E,F,I,B,UP"]
    command += ["--config", f'lint.isort.known-first-party = ["silk_{kind}", "heritage_align"]']
    done = subprocess.run([*command, str(root)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Silk", "no name for a plugin"),
        ("silk colours", "no name for a plugin"),
        ("../silk", "no name for a plugin"),
        ("/tmp/silk", "no name for a plugin"),
        ("silk-", "no name for a plugin"),
        ("3silk", "no name for a plugin"),
        ("丝绸", "no name for a plugin"),
        ("", "no name for a plugin"),
        ("class", "word or module of Python"),
        ("match", "word or module of Python"),
        ("json", "word or module of Python"),
        ("torch", "installed already"),
        ("heritage-align", "installed already"),
        ("heritage-align-plugins", "installed already"),
    ],
)
def test_invalid_names_are_refused(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(PluginError, match=reason):
        create_plugin(name, "proposer", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_unknown_kinds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"unknown kind 'propser'\. Did you mean 'proposer'\?"):
        create_plugin("silk-boxes", "propser", tmp_path)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "silk-boxes").mkdir()
    with pytest.raises(PluginError, match=r"silk-boxes exists already"):
        create_plugin("silk-boxes", "proposer", tmp_path)
    assert list((tmp_path / "silk-boxes").iterdir()) == []
