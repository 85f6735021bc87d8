"""Discovery against real distributions on disk: .dist-info folders with entry points, nothing mocked."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result
from heritage_align_plugins import PLUGINS

import heritage_align.cli.plugins  # noqa: F401  (its name for the default registry is replaced below)
from heritage_align.cli import cli
from heritage_align.component import ComponentConfig
from heritage_align.errors import ConfigError, MissingDependency, PluginError
from heritage_align.hookspecs import ComponentSpec
from heritage_align.plugins import Registry, default_registry, discover, missing_requirements

GOOD = """
    from heritage_align import ComponentSpec, hookimpl

    @hookimpl
    def heritage_align_components():
        there = "{module}_impl"
        return [ComponentSpec("{kind}", "{component}", target=there + ":Thing", config=there + ":Config")]
"""
IMPL = """
    from heritage_align.component import ComponentConfig

    class Config(ComponentConfig):
        pass

    class Thing:
        def __init__(self, config, context):
            pass
"""

Install = Callable[..., None]


def good(module: str, component: str, kind: str = "filter") -> str:
    return GOOD.format(module=module, component=component, kind=kind)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install fake distributions into a folder on sys.path, with the built-ins switched off."""
    monkeypatch.setenv("HERITAGE_ALIGN_DISABLE_PLUGINS", ",".join(PLUGINS))
    for variable in ("HERITAGE_ALIGN_STRICT", "HERITAGE_ALIGN_PLUGINS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)

    def write(name: str, source: str, *, requires: str = "", point: str = "", version: str = "1.0") -> None:
        module = name.replace("-", "_")
        (tmp_path / f"{module}.py").write_text(dedent(source))
        (tmp_path / f"{module}_impl.py").write_text(dedent(IMPL))
        info = tmp_path / f"{module}-{version}.dist-info"
        info.mkdir()
        requirement = f"Requires-Dist: {requires}\n" if requires else ""
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requirement}")
        (info / "entry_points.txt").write_text(f"[heritage_align]\n{point or module} = {module}\n")

    yield write
    for module in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[module], "__file__", "")):
            del sys.modules[module]


@contextmanager
def commands_of(registry: Registry) -> Iterator[Callable[..., Result]]:
    """Run commands in this process with a registry as the default one."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("plugins", "cli.plugins"):
            patch.setattr(f"heritage_align.{module}.default_registry", lambda: registry)
        yield lambda *arguments: CliRunner().invoke(cli, arguments)


def third_party(registry: Registry) -> dict[str, str]:
    return {p.name: p.state for p in registry.plugins if p.name not in PLUGINS}


def test_an_installed_plugin_is_registered_and_imported_on_first_use(install: Install) -> None:
    install("silk-filter", good("silk_filter", "silk"), requires="heritage-align>=0.1,<0.2")
    registry = discover()
    assert registry.names("filter") == ["silk"]
    assert registry.plugin_of("filter", "silk").dist == "silk-filter 1.0"
    assert "silk_filter_impl" not in sys.modules
    spec = registry.spec("filter", "silk")
    assert issubclass(registry.config_model(spec), ComponentConfig)
    assert registry.target(spec).__name__ == "Thing"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise RuntimeError('no luck')", "RuntimeError: no luck"),
        ("import a_module_that_nobody_has", "No module named 'a_module_that_nobody_has'"),
        ("import sys; sys.exit('wrong python')", "SystemExit: wrong python"),
        ("def broken(:", "SyntaxError"),
        (
            "from heritage_align import hookimpl\n@hookimpl\ndef heritage_align_components(): return 1 / 0",
            "ZeroDivisionError",
        ),
        (
            "from heritage_align import hookimpl\n@hookimpl\ndef heritage_align_components(): return ['x']",
            "returned 'x', expected ComponentSpec",
        ),
        (
            "from heritage_align import hookimpl\n@hookimpl\ndef heritage_align_component(): return []",
            "unknown hook 'heritage_align_component'",
        ),
        (
            "from heritage_align import hookimpl\n@hookimpl\ndef heritage_align_components(app): return []",
            "Argument(s) {'app'}",
        ),
        (good("bad", "x", kind="filtre"), "unknown kind 'filtre'. Did you mean 'filter'?"),
        (
            good("bad", "x").replace(":Thing", ".Thing"),
            "target 'bad_impl.Thing' is not 'package.module:Name'",
        ),
    ],
    ids=[
        "raises",
        "import",
        "exit",
        "syntax",
        "hook-raises",
        "not-specs",
        "misspelt",
        "signature",
        "kind",
        "target",
    ],
)
def test_a_broken_plugin_is_quarantined_and_leaves_nothing_behind(
    install: Install, capsys: pytest.CaptureFixture[str], source: str, reason: str
) -> None:
    install("bad", source)
    install("fine", good("fine", "silk"))
    registry = discover()
    assert third_party(registry) == {"bad": "broken", "fine": "ok"}
    assert registry.names("filter") == ["silk"], "the broken plugin must not take the other one down"
    assert not registry.manager.has_plugin("bad")
    assert registry.manager.hook.heritage_align_health_checks() == []
    plugin = next(p for p in registry.plugins if p.name == "bad")
    assert reason in plugin.trace
    assert isinstance(plugin.error, BaseException)
    printed = capsys.readouterr().err.splitlines()
    assert [line for line in printed if "'bad' is broken" in line] == printed, "one line each, on stderr"


def test_a_hook_that_fails_takes_the_other_hooks_of_its_plugin_with_it(install: Install) -> None:
    install(
        "half",
        """
        from heritage_align import hookimpl

        @hookimpl
        def heritage_align_health_checks():
            raise AssertionError("must not be called")

        @hookimpl
        def heritage_align_components(unknown):
            return []
        """,
    )
    registry = discover()
    assert third_party(registry) == {"half": "broken"}
    assert registry.manager.hook.heritage_align_health_checks() == []


def with_role(module: str, component: str, role: str, kind: str = "proposer") -> str:
    return good(module, component, kind).replace('+ ":Config")', f'+ ":Config", role="{role}")')


def test_the_first_component_of_a_role_is_taken(install: Install) -> None:
    install("aaa", good("aaa", "wool", "proposer"))
    install("bbb", with_role("bbb", "silk", "features"))
    install("ccc", with_role("ccc", "linen", "features"))
    registry = discover()
    assert registry.of_role("proposer", "features") == "silk"
    with pytest.raises(PluginError, match=r"offers a component of kind 'encoder' and role 'features'"):
        registry.of_role("encoder", "features")


def test_an_unknown_role_is_refused(install: Install) -> None:
    install("aaa", with_role("aaa", "silk", "default"))
    (plugin,) = (p for p in discover().plugins if p.name == "aaa")
    assert plugin.reason == "PluginError: proposer 'silk': there is no role 'default' of this kind"


def test_a_name_clash_quarantines_the_second_and_says_how_to_choose(install: Install) -> None:
    install("aaa", good("aaa", "silk"))
    install("bbb", good("bbb", "silk"))
    registry = discover()
    assert third_party(registry) == {"aaa": "ok", "bbb": "broken"}
    assert registry.plugin_of("filter", "silk").name == "aaa"
    clash = next(p for p in registry.plugins if p.name == "bbb")
    assert "already registered by plugin 'aaa'" in clash.reason
    assert "HERITAGE_ALIGN_DISABLE_PLUGINS" in clash.reason


def test_two_entry_points_of_one_name_leave_the_first_in_place(install: Install) -> None:
    install("aaa", good("aaa", "silk"), point="same")
    install("bbb", good("bbb", "wool"), point="same")
    registry = discover()
    assert registry.names("filter") == ["silk"]
    assert registry.manager.has_plugin("same"), "rolling back the second must not unregister the first"
    assert [p.state for p in registry.plugins if p.name == "same"] == ["ok", "broken"]


@pytest.mark.parametrize(
    ("requires", "state"),
    [
        ("heritage-align>=9", "incompatible"),
        ("Heritage_Align<0.1", "incompatible"),
        ("heritage-align>=0.1,<0.2", "ok"),
        ("heritage-align", "ok"),
        ("heritage-align>=9; extra == 'next'", "ok"),
        ("heritage-align>=9; python_version < '3'", "ok"),
        ("numpy>=9999", "ok"),
    ],
)
def test_the_required_version_is_read_before_anything_is_imported(install: Install, requires: str, state: str) -> None:
    install("picky", good("picky", "silk"), requires=requires)
    registry = discover()
    assert third_party(registry) == {"picky": state}
    assert ("picky" in sys.modules) == (state == "ok")
    if state == "incompatible":
        plugin = next(p for p in registry.plugins if p.name == "picky")
        assert "it needs heritage-align" in plugin.reason
        assert registry.names("filter") == []


def test_another_plugin_api_is_incompatible(install: Install) -> None:
    install("later", "HERITAGE_ALIGN_API = 2\n" + dedent(good("later", "silk")))
    registry = discover()
    assert third_party(registry) == {"later": "incompatible"}
    with pytest.raises(PluginError, match=r"written for plugin API 2, this is API 1"):
        registry.spec("filter", "silk")


COMMAND = """
    from heritage_align import CommandSpec, hookimpl

    @hookimpl
    def heritage_align_commands():
        return [CommandSpec("{name}", target="{module}_cmd:{attribute}", summary="Thread counts of {module}.")]
"""


def offer(install: Install, module: str, name: str, attribute: str = "command") -> None:
    install(module, COMMAND.format(module=module, name=name, attribute=attribute))


def test_a_command_is_listed_without_its_module_and_runs(install: Install, tmp_path: Path) -> None:
    offer(install, "aaa", "thread-counts")
    (tmp_path / "aaa_cmd.py").write_text(
        "import click\n@click.group()\ndef command(): pass\n"
        "@command.command()\n@click.argument('cloth')\ndef of(cloth): click.echo(f'{cloth}: 42')\n"
    )
    with commands_of(discover()) as call:
        first = call("--help")
        assert first.exit_code == 0
        assert "thread-counts  Thread counts of aaa." in first.stdout
        last = call("plugins", "list").stdout.splitlines()[-1]
        assert last == f"  {'command.thread-counts':<30}Thread counts of aaa."
        assert "aaa_cmd" not in sys.modules
        assert call("thread-counts", "of", "silk").stdout == "silk: 42\n"
        assert call("plugins", "check", "aaa").stdout.startswith("command.thread-counts: imports\n")
        wrong = call("thread-count")
        assert (wrong.exit_code, "Did you mean 'thread-counts'?" in wrong.stderr) == (2, True)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (COMMAND.format(module="bad", name="search", attribute="x"), "'search' is one of heritage-align's own"),
        (COMMAND.format(module="bad", name="--help", attribute="x"), "command '--help': expected small letters"),
        (
            COMMAND.format(module="bad", name="x", attribute="x").replace("bad_cmd:", "bad_cmd."),
            "is not 'package.module",
        ),
        (
            COMMAND.format(module="bad", name="taken", attribute="x"),
            "command 'taken' is already registered by plugin 'aaa'",
        ),
        (
            COMMAND.format(module="bad", name="x", attribute="x").replace("return [", "return 2 * ["),
            "command 'x' is registered twice",
        ),
        ("from heritage_align import hookimpl\n@hookimpl\ndef heritage_align_commands(): return 1 / 0", "ZeroDivision"),
        (
            "from heritage_align import hookimpl\n@hookimpl\ndef heritage_align_commands(): return ['x']",
            "heritage_align_commands returned 'x', expected CommandSpec",
        ),
        ("from heritage_align import hookimpl\n@hookimpl\ndef heritage_align_commands(cli): return []", "Argument(s)"),
    ],
    ids=["built-in", "name", "target", "clash", "twice", "hook-raises", "not-specs", "signature"],
)
def test_a_plugin_with_a_wrong_command_is_quarantined(
    install: Install, capsys: pytest.CaptureFixture[str], source: str, reason: str
) -> None:
    offer(install, "aaa", "taken")
    install("bad", source)
    registry = discover()
    assert third_party(registry) == {"aaa": "ok", "bad": "broken"}
    assert list(registry.commands()) == ["taken"]
    plugin = next(p for p in registry.plugins if p.name == "bad")
    assert reason in plugin.trace
    assert len(capsys.readouterr().err.splitlines()) == 1
    with commands_of(registry) as call:
        assert f"bad (bad 1.0): broken: {plugin.reason}" in call("plugins", "list").stdout
        doctor = [line for line in call("doctor").stdout.splitlines() if "plugin bad" in line]
        assert doctor == [f"!!  {'plugin bad':<26}broken: {plugin.reason}"]
        assert call("search", "--help").stdout.startswith("Usage: cli search"), "its own search is not touched"


@pytest.mark.parametrize(
    ("module", "attribute", "reason"),
    [
        ("", "command", "cannot import 'bad_cmd:command': No module named 'bad_cmd'"),
        ("raise RuntimeError('no luck')", "command", "cannot import 'bad_cmd:command': no luck"),
        ("import sys; sys.exit('no luck')", "command", "cannot import 'bad_cmd:command': no luck"),
        ("x = 1", "command", "cannot import 'bad_cmd:command': module 'bad_cmd' has no attribute 'command'"),
        ("def command(): pass", "command", "'bad_cmd:command' is no click command"),
    ],
    ids=["no-module", "raises", "exit", "no-attribute", "no-command"],
)
def test_a_command_that_cannot_be_imported_is_named_and_alone_in_failing(
    install: Install, tmp_path: Path, module: str, attribute: str, reason: str
) -> None:
    offer(install, "bad", "thread-counts", attribute)
    if module:
        (tmp_path / "bad_cmd.py").write_text(module)
    message = f"plugin 'bad': command 'thread-counts': {reason}"
    with commands_of(discover()) as call:
        for line in (["thread-counts"], ["thread-counts", "--help"], ["plugins", "check", "bad"]):
            done = call(*line)
            assert (done.exit_code, done.stderr) == (2, f"error: {message}\n"), line
        assert f"!!  {'command.thread-counts':<26}{message}" in call("doctor").stdout.splitlines()
        assert "thread-counts" in call("--help").stdout
        assert call("recipes", "list").exit_code == 0
        completed = ShellComplete(cli, {}, "heritage-align", "_X").get_completions([], "")
        assert {"search", "recipes"} <= {item.value for item in completed}


def test_what_a_command_needs_is_said_with_the_way_to_get_it(install: Install) -> None:
    source = COMMAND.format(module="aaa", name="looms", attribute="command")
    install("aaa", source.replace("summary=", "requires=('no_such_library',), install='pip install it', summary="))
    with commands_of(discover()) as call:
        done = call("looms")
        assert (done.exit_code, done.stderr) == (2, "error: command 'looms' needs no_such_library: pip install it\n")
        assert f"--  {'command.looms':<26}needs no_such_library: pip install it" in call("doctor").stdout.splitlines()


def test_in_strict_mode_a_broken_plugin_ends_the_first_page_in_one_line(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("bad", "raise RuntimeError('no luck')")
    monkeypatch.setenv("HERITAGE_ALIGN_STRICT", "1")
    default_registry.cache_clear()
    done = CliRunner().invoke(cli, ["--help"])
    assert done.exit_code == 2
    assert done.stderr.splitlines()[-1] == "Error: plugin 'bad' is broken: RuntimeError: no luck"
    assert CliRunner().invoke(cli, ["search", "--help"]).exit_code == 0
    default_registry.cache_clear()


def test_missing_metadata_does_not_stop_discovery(install: Install, tmp_path: Path) -> None:
    install("fine", good("fine", "silk"))
    (tmp_path / "fine-1.0.dist-info" / "METADATA").unlink()
    registry = discover()
    assert registry.names("filter") == ["silk"]
    assert registry.plugin_of("filter", "silk").dist == "unnamed distribution"


@pytest.mark.parametrize(
    ("allow", "deny", "expected"),
    [
        ("", "", {"aaa": "disabled", "bbb": "disabled"}),
        ("bbb", "", {"aaa": "disabled", "bbb": "ok"}),
        (" aaa , bbb ", "", {"aaa": "ok", "bbb": "ok"}),
        (None, "aaa", {"aaa": "disabled", "bbb": "ok"}),
        ("aaa", "aaa", {"aaa": "disabled", "bbb": "disabled"}),
    ],
)
def test_allow_and_deny_lists(
    install: Install, monkeypatch: pytest.MonkeyPatch, allow: str | None, deny: str, expected: dict[str, str]
) -> None:
    install("aaa", "raise RuntimeError('a disabled plugin is not imported')" if expected["aaa"] != "ok" else "")
    install("bbb", good("bbb", "wool"))
    monkeypatch.setenv("HERITAGE_ALIGN_DISABLE_PLUGINS", ",".join([*PLUGINS, deny]))
    if allow is not None:
        monkeypatch.setenv("HERITAGE_ALIGN_PLUGINS", allow)
    assert third_party(discover()) == expected
    assert ("aaa" in sys.modules) == (expected["aaa"] == "ok")


def test_built_ins_can_be_switched_off_and_are_not_subject_to_the_allow_list(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    others = [name for name in PLUGINS if name != "similarities"]
    monkeypatch.setenv("HERITAGE_ALIGN_DISABLE_PLUGINS", ",".join(others))
    monkeypatch.setenv("HERITAGE_ALIGN_PLUGINS", "")
    registry = discover()
    assert "scan" in registry.names("similarity")
    monkeypatch.setenv("HERITAGE_ALIGN_DISABLE_PLUGINS", ",".join(PLUGINS))
    registry = discover()
    assert registry.components() == []
    with pytest.raises(PluginError, match=r"similarities is disabled: named in HERITAGE_ALIGN_DISABLE_PLUGINS"):
        registry.spec("similarity", "scan")


def test_strict_mode_raises_what_would_be_quarantined_with_its_cause(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("bad", "raise RuntimeError('no luck')")
    monkeypatch.setenv("HERITAGE_ALIGN_STRICT", "1")
    with pytest.raises(PluginError, match=r"plugin 'bad' is broken: RuntimeError: no luck") as caught:
        discover()
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_naming_a_component_of_a_broken_plugin_gives_the_original_cause(install: Install) -> None:
    install("aaa", good("aaa", "silk"))
    source = dedent(good("bbb", "silk")).replace("return [", 'return [ComponentSpec("filter", "wool", "a:B", "a:C"), ')
    install("bbb", source)
    install("ccc", "raise RuntimeError('no luck')")
    registry = discover()
    # Its hook answered before the clash was found, so what it offered is known ...
    with pytest.raises(PluginError, match=r"filter 'wool': plugin 'bbb' is broken: .*already registered") as caught:
        registry.spec("filter", "wool")
    assert isinstance(caught.value.__cause__, PluginError)
    # ... and where the import itself failed the plugin is asked for by its own name, or guessed at.
    with pytest.raises(PluginError, match=r"plugin 'ccc' is broken: RuntimeError: no luck") as caught:
        registry.spec("filter", "ccc")
    assert isinstance(caught.value.__cause__, RuntimeError)
    with pytest.raises(PluginError, match=r"unknown filter 'linen'.*ccc is broken: RuntimeError: no luck"):
        registry.spec("filter", "linen")


def test_a_config_that_names_a_broken_plugins_component_says_why(install: Install) -> None:
    from heritage_align.config import load_config

    install("ccc", "raise RuntimeError('no luck')")
    document = {"version": 1, "name": "x", "encoder": {"name": "ccc"}, "similarity": {"name": "ccc"}}
    with pytest.raises(ConfigError, match=r"encoder.name: .*RuntimeError: no luck") as caught:
        load_config(document, registry=discover())
    assert any(p.startswith("similarity.name: ") and "no luck" in p for p in caught.value.problems)
    assert isinstance(caught.value.__cause__, PluginError)
    assert isinstance(caught.value.__cause__.__cause__, RuntimeError)


def test_a_target_that_does_not_import_names_the_component_and_keeps_the_cause() -> None:
    spec = ComponentSpec("filter", "silk", target="nowhere.at.all:Silk", config="heritage_align.component:Facts")
    with pytest.raises(PluginError, match=r"filter 'silk': cannot import 'nowhere.at.all:Silk'") as caught:
        Registry().target(spec)
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)
    with pytest.raises(PluginError, match=r"is not a ComponentConfig"):
        Registry().config_model(spec)


def test_a_missing_library_is_named_with_how_to_get_it() -> None:
    spec = ComponentSpec(
        "filter",
        "silk",
        target="x:Y",
        config="x:Z",
        requires=("json", "no_such_library", "no_such.part", "os.path"),
        install="pip install silk",
    )
    assert missing_requirements(spec) == ["no_such_library", "no_such.part"]
    with pytest.raises(MissingDependency, match=r"filter 'silk' needs no_such_library, no_such.part: pip install silk"):
        Registry().target(spec)


def test_unknown_names_get_a_suggestion(install: Install) -> None:
    install("aaa", good("aaa", "peony_boxes"))
    with pytest.raises(PluginError, match=r"unknown filter 'peony_box'\. Did you mean 'peony_boxes'\?"):
        discover().spec("filter", "peony_box")


def test_modules_given_in_the_process_register_last() -> None:
    class Plugin:
        pass

    registry = discover(extra=[("given", Plugin())])
    assert registry.plugins[-1].name == "given"
    assert registry.plugins[-1].state == "ok"


def test_every_built_in_loads_in_strict_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERITAGE_ALIGN_STRICT", "1")
    monkeypatch.setenv("HERITAGE_ALIGN_PLUGINS", "")
    registry = discover()
    assert [p.name for p in registry.plugins if p.state == "ok"] == list(PLUGINS)
    for spec in registry.components():
        assert issubclass(registry.config_model(spec), ComponentConfig)
        assert spec.summary, f"{spec.kind}.{spec.name} has no summary for plugins list"


def test_the_default_registry_is_discovered_once() -> None:
    assert default_registry() is default_registry()
