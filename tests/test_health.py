"""``doctor`` gets to its last line, whatever is broken."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError
from types import ModuleType

import pytest

from heritage_align import health
from heritage_align.health import Finding, examine
from heritage_align.hookspecs import HealthCheck, hookimpl
from heritage_align.plugins import PluginInfo, Registry


def _plugin(registry: Registry, name: str, *checks: HealthCheck, fails: bool = False) -> None:
    @hookimpl
    def heritage_align_components() -> list[object]:
        return []

    @hookimpl
    def heritage_align_health_checks() -> list[HealthCheck]:
        if fails:
            raise RuntimeError("no checks today")
        return list(checks)

    module = ModuleType(name)
    module.__dict__["heritage_align_components"] = heritage_align_components
    module.__dict__["heritage_align_health_checks"] = heritage_align_health_checks
    info = PluginInfo(name, name, "test 1")
    registry.plugins.append(info)
    registry.add(info, module)
    assert info.state == "ok", info.reason


def _raises() -> tuple[bool, str]:
    raise OSError("the licence server is away")


def test_checks_of_plugins_are_run_each_on_its_own() -> None:
    registry = Registry()
    _plugin(registry, "good", HealthCheck("weights", lambda: (True, "found")))
    _plugin(registry, "bad", HealthCheck("licence", _raises), HealthCheck("after it", lambda: (False, "get it so")))
    _plugin(registry, "worse", fails=True)
    found = {finding.name: finding for finding in examine(registry)}
    assert found["weights"] == Finding("weights", "ok", "found")
    assert found["after it"] == Finding("after it", "missing", "get it so")
    assert found["licence"].state == "broken"
    assert "'bad' fails: OSError('the licence server is away')" in found["licence"].detail
    assert found["plugin worse"].state == "broken"
    assert "no checks today" in found["plugin worse"].detail


def test_doctor_says_the_way_to_a_right_version(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"torch": "2.9.1", "scipy": None, "matplotlib": "3.7.0", "pillow": "10.4.0"}

    def version(name: str) -> str:
        found = versions.get(name, "999")
        if found is None:
            raise PackageNotFoundError(name)
        return found

    monkeypatch.setattr(health, "version", version)
    lines = ["torch<3,>=2.10", "pillow>=10.1", 'matplotlib>=3.8; extra == "plots"', 'pillow>=11.3; extra == "heif"']
    monkeypatch.setattr(health, "requires", lambda _: lines)
    found = {finding.name: finding for finding in examine(Registry())}
    assert found["torch"] == Finding("torch", "broken", "2.9.1 is installed: pip install 'torch<3,>=2.10'")
    assert found["matplotlib"] == Finding("matplotlib", "broken", "3.7.0 is installed: pip install 'matplotlib>=3.8'")
    assert found["pillow"] == Finding("pillow", "ok", "10.4.0")  # new enough for all but an extra
    assert found["scipy"].state == "missing"
    assert found["scipy"].detail.startswith("optional: pip install 'heritage-align[evaluation]'")


def test_doctor_gets_to_its_last_line_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    found = {finding.name: finding for finding in examine(Registry())}
    assert found["GPU and kernels"].state == "broken"
    assert found["GPU and kernels"].detail.startswith("torch does not load: ")
    assert found["plugins"].state == "ok"


def test_what_is_not_installed_is_said_with_the_way_to_get_it() -> None:
    found = {finding.name: finding for finding in examine(Registry())}
    assert found["torch"].state == "ok"
    assert found["CPU kernels"].state in ("ok", "missing")
    assert all(finding.detail for finding in found.values())
