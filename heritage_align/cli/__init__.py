"""The command line. ``--help`` imports click and nothing else of weight; a command's module loads when it runs."""

from __future__ import annotations

import errno
import io
import sys
from importlib import import_module
from typing import Any

import click

from heritage_align import __version__

COMMANDS = {
    "demo": "Run the whole story on the built-in motif collection.",
    "recipes": "Named systems as configs to start from.",
    "config": "Check a config, fill in its defaults, print its schema.",
    "plugins": "List, show, check and create plugins.",
    "index": "Encode a collection into a store; verify and merge stores.",
    "search": "Answer text or image queries from a store.",
    "rerank": "Rescore a TREC run with the config's similarity.",
    "train": "Fit a system to a collection: checkpoints, resume, early stopping.",
    "evaluate": "Recall of a system on a data set, in the papers' form.",
    "golden": "Retrieval between annotated regions and their phrases.",
    "explain": "Show which region of an image answered which phrase.",
    "bench": "Time the kernels against their peers on this machine.",
    "doctor": "Say what is installed, built and found, and how to get the rest.",
}


class _LazyGroup(click.Group):
    """A group that knows its commands by name and imports one only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = import_module(f"heritage_align.cli.{name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in COMMANDS:
            from heritage_align.errors import did_you_mean

            ctx.fail(f"no such command {args[0]!r}.{did_you_mean(args[0], list(COMMANDS))}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what is the user's to mend ends in one message on stderr and exit status 2."""
        from heritage_align.errors import HeritageAlignError

        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper) and stream.encoding.lower() not in ("utf-8", "utf8"):
                stream.reconfigure(errors="backslashreplace")  # Chinese in a terminal that has none: no traceback
        try:
            return super().invoke(ctx)
        except HeritageAlignError as error:
            click.echo(f"error: {error}", err=True)
        except OSError as error:  # a file or folder that cannot be read or written, a full disk
            if error.errno == errno.EPIPE:
                raise  # the reader of our output has gone (`| head`): click ends quietly
            place = f"{error.filename}: " if error.filename is not None else ""
            click.echo(f"error: {place}{error.strerror or error}", err=True)
        except KeyboardInterrupt:
            click.echo("\ninterrupted", err=True)
            raise click.exceptions.Exit(130) from None  # 128 + SIGINT, as shells count it
        raise click.exceptions.Exit(2)


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="heritage-align")
def cli() -> None:
    """Score images against texts at the level of regions and phrases.

    Start with: heritage-align demo
    """


def main() -> None:
    """Entry point of the ``heritage-align`` script."""
    cli()
