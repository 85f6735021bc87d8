"""Option ``--allow-network``: what reads configurations sets it in their data sets."""

from __future__ import annotations

import click

ALLOW_NETWORK = "data.allow_network=true"


def _allow_network(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    context.meta[ALLOW_NETWORK] = value


network_option = click.option(
    "--allow-network",
    is_flag=True,
    expose_value=False,
    callback=_allow_network,
    help="Fetch a IIIF manifest, and the pictures that it names, from the web.",
)


def network_allowed() -> bool:
    """Say whether the command was given the option."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get(ALLOW_NETWORK))
