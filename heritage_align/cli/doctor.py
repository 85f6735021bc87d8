"""``heritage-align doctor``: what is installed, built and found."""

from __future__ import annotations

import click

from heritage_align.cli.options import json_option, print_json


@click.command(name="doctor")
@json_option
def command(as_json: bool) -> None:
    """Say what is installed, built and found, what is missing and how to get it.

    Exit status 2 if something that is needed is broken; what is merely optional does not count.

    Example: heritage-align doctor
    """
    from heritage_align.health import examine
    from heritage_align.plugins import default_registry

    findings = list(examine(default_registry()))
    if as_json:
        print_json([finding._asdict() for finding in findings])
    else:
        marks = {"ok": "ok", "missing": "--", "broken": "!!"}
        for finding in findings:
            click.echo(f"{marks[finding.state]}  {finding.name:<26}{finding.detail}")
    if any(finding.state == "broken" for finding in findings):
        raise click.exceptions.Exit(2)
