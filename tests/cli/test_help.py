"""Every command explains itself, with an example that its own parser takes, quickly and without torch."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from heritage_align.cli import COMMANDS, cli
from heritage_align.recipes import recipe_names

ROOT = Path(__file__).parents[2]


def _commands(group: click.Group = cli, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        if group is cli and find_spec(f"heritage_align.cli.{name}") is None:
            continue  # test_every_command_is_there says so, and the others are still tested
        command = group.get_command(context, name)
        assert command is not None
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from _commands(command, (*path, name))


ALL = list(_commands())


def _parse(line: str) -> click.Command:
    """Return the command that a line calls; raises UsageError for an option or argument that there is not."""
    _, *arguments = shlex.split(line.partition(" > ")[0], comments=True)
    found: click.Command = cli
    while isinstance(found, click.Group):
        inner = found.get_command(click.Context(cli), arguments.pop(0))
        assert inner is not None, line
        found = inner
    found.make_context(found.name, arguments)
    return found


@pytest.mark.parametrize(("path", "command"), ALL, ids=[" ".join(path) for path, _ in ALL])
def test_help_has_an_example_that_parses(path: tuple[str, ...], command: click.Command) -> None:
    result = CliRunner().invoke(cli, [*path, "--help"], terminal_width=200)
    assert result.exit_code == 0
    examples = re.findall(r"Example: (heritage-align .*)", command.help or "")
    assert examples, "no example"
    assert all(" ".join(example.split()) in " ".join(result.stdout.split()) for example in examples)
    for example in examples:
        found = _parse(example)
        if not isinstance(command, click.Group):
            assert found is command, "the example is of another command"


@pytest.mark.parametrize(("path", "command"), ALL, ids=[" ".join(path) for path, _ in ALL])
def test_every_option_is_explained(path: tuple[str, ...], command: click.Command) -> None:
    unexplained = [p.name for p in command.params if isinstance(p, click.Option) and not p.help]
    assert not unexplained, f"{' '.join(path)}: {unexplained}"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_there(name: str) -> None:
    assert CliRunner().invoke(cli, [name, "--help"]).exit_code == 0


def _documented() -> Iterator[str]:
    for file in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        yield from re.findall(r"^ *(heritage-align [a-z].*)$", file.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("line", sorted(set(_documented())))
def test_the_lines_of_the_documents_parse(line: str) -> None:
    _parse(line)


def test_there_are_documented_lines() -> None:
    assert len(list(_documented())) >= 7


def test_the_first_page_names_every_command() -> None:
    result = CliRunner().invoke(cli, ["--help"])
    for name, summary in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(summary[:20])}", result.stdout, re.MULTILINE), name


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from heritage_align.cli import cli\n"
        "try: cli(sys.argv[1:])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'cv2', 'PIL', 'numpy', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    run = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "Commands:" in run.stdout


@pytest.mark.parametrize("path", ["search", "index build", "evaluate", "explain", "demo", "recipes list", "doctor"])
def test_help_of_a_command_does_without_torch(path: str) -> None:
    code = (
        "import sys; from heritage_align.cli import cli\n"
        "try: cli(sys.argv[1:])\nexcept SystemExit: pass\n"
        "assert 'torch' not in sys.modules and 'cv2' not in sys.modules"
    )
    run = subprocess.run([sys.executable, "-c", code, *path.split(), "--help"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "Example:" in run.stdout


def test_recipes_are_named_in_the_help_of_explain_as_they_are() -> None:
    text = CliRunner().invoke(cli, ["explain", "--help"]).stdout
    named = re.search(r"CONFIG needs regions: ([a-z, \n-]+)\.", text)
    assert named is not None
    assert set(re.split(r",\s+", named.group(1))) <= set(recipe_names())
