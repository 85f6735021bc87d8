"""The command line. ``--help`` imports click and nothing else of weight; a command's module loads when it runs.

>>> from click.testing import CliRunner
>>> from heritage_align.cli import cli
>>> CliRunner().invoke(cli, ["recipes", "--help"]).exit_code
0
"""

from __future__ import annotations

import errno
import io
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import click

from heritage_align import __version__
from heritage_align.commands import COMMANDS

__all__ = ["cli"]


class _LazyGroup(click.Group):
    """A group that knows its commands by name and imports one only when it is called.

    Plugins are looked at for the whole program's help and for a name that is not a built-in command's, so that no
    plugin stands in the way of these.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS, *_of_plugins(ctx)]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name in COMMANDS:
            command: click.Command = import_module(f"heritage_align.cli.{name}").command
            return command
        from heritage_align.errors import HeritageAlignError
        from heritage_align.plugins import default_registry

        if name not in _of_plugins(ctx):
            return None
        try:
            return default_registry().command(name)
        except HeritageAlignError:
            if ctx.resilient_parsing:  # the shell completes a line: the other commands are still offered
                return None
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, commands in (("Commands", COMMANDS), ("Commands of plugins", _of_plugins(ctx))):
            if commands:
                with formatter.section(title):
                    formatter.write_dl(list(commands.items()))

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in COMMANDS:
            from heritage_align.errors import did_you_mean

            known = self.list_commands(ctx)
            if args[0] not in known:
                ctx.fail(f"no such command {args[0]!r}.{did_you_mean(args[0], known)}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what is the user's to mend ends in one message on stderr and exit status 2."""
        from heritage_align.errors import HeritageAlignError

        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper) and stream.encoding.lower() not in ("utf-8", "utf8"):
                stream.reconfigure(errors="backslashreplace")  # Chinese in a terminal that has none: no traceback
        try:
            with _notes_in_one_line():
                return super().invoke(ctx)
        except HeritageAlignError as error:
            click.echo(f"error: {error}", err=True)
        except OSError as error:  # a file or folder that cannot be read or written, a full disk
            if error.errno == errno.EPIPE:
                raise  # the reader of our output has gone (`| head`): click ends quietly
            place = f"{error.filename}: " if error.filename is not None else ""
            click.echo(f"error: {place}{error.strerror or error}", err=True)
        except (MemoryError, RuntimeError) as error:  # torch raises a RuntimeError, on the CPU and on a GPU
            said = str(error)
            if not isinstance(error, MemoryError) and not re.search("out of memory|allocate memory", said):
                raise
            why = next(iter(said.splitlines()), "")
            click.echo(
                f"error: there is not enough memory{f' ({why})' if why else ''}; runtime.batch_size, and the sizes and "
                "counts that the configuration names, make less of it do (heritage-align config fill shows them)",
                err=True,
            )
        except KeyboardInterrupt:
            click.echo("\ninterrupted", err=True)
            raise click.exceptions.Exit(130) from None  # 128 + SIGINT, as shells count it
        raise click.exceptions.Exit(2)


@contextmanager
def _notes_in_one_line() -> Iterator[None]:
    """Print a `Note` as its message alone; other warnings look as Python's always do."""
    from heritage_align.errors import Note

    shown = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *place: Any, **options: Any) -> None:
        if issubclass(category, Note):
            click.echo(f"note: {message}", err=True)
        else:
            shown(message, category, *place, **options)

    with warnings.catch_warnings():  # puts `showwarning` back
        warnings.showwarning = show
        yield


def _of_plugins(ctx: click.Context) -> dict[str, str]:
    """Return the commands that plugins add, with their one line; in strict mode a broken plugin ends the program."""
    from heritage_align.errors import PluginError
    from heritage_align.plugins import default_registry

    try:
        return {name: spec.summary for name, spec in default_registry().commands().items()}
    except PluginError as error:
        ctx.fail(str(error))


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="heritage-align")
def cli() -> None:
    """Score images against texts at the level of regions and phrases.

    Start with: heritage-align demo
    """


def main() -> None:
    """Entry point of the ``heritage-align`` script."""
    cli()
