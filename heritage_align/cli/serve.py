"""``heritage-align serve``: answer over HTTP."""

from __future__ import annotations

import os
from pathlib import Path

import click

from heritage_align.cli.network import network_option
from heritage_align.cli.options import FileOrFolder, config_argument, data_option, read_config, set_option


def _an_address(_context: click.Context, parameter: click.Parameter, value: str) -> str:
    """Refuse an empty address, which an unset shell variable gives and which would mean every one of the machine."""
    if not value.strip():
        raise click.BadParameter("is empty; name an address, 0.0.0.0 for every one", param=parameter)
    return value


@click.command(name="serve")
@config_argument
@click.option("--store", type=FileOrFolder(), required=True, help="Folder of the store, or a link to it.")
@click.option(
    "--also",
    nargs=2,
    multiple=True,
    metavar="CONFIG STORE",
    help="Serve another recipe beside it; --set and --data hold for all.",
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    callback=_an_address,
    help="Address to listen on; 0.0.0.0 for every one.",
)
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes a free one.")
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Processes; they share PORT.")
@click.option("--settings", type=FileOrFolder(), help="YAML of limits and access (docs/service.md).")
@click.option(
    "--token-file",
    type=FileOrFolder(),
    help="Holds the token that requests must bear; or set HERITAGE_ALIGN_TOKEN.",
)
@set_option
@data_option
@network_option
def command(
    config: str,
    store: Path,
    also: tuple[tuple[str, str], ...],
    host: str,
    port: int,
    workers: int,
    settings: Path | None,
    token_file: Path | None,
    overrides: tuple[str, ...],
    data: str | None,
) -> None:
    """Answer searches and reranks over HTTP from a store.

    POST /search and /rerank (as Cohere and Jina have it), pictures, explanations, /health, /metrics and /openapi.json
    (docs/service.md). A store that index update or a new build changes is opened again without a dropped request.
    Logs are JSON lines on standard error. Pictures come from the collection that the store was built of, or from
    --data.

    Example: heritage-align serve laclip.yaml --store store
    """
    from heritage_align.service.settings import check_names, read_settings

    found = read_settings(settings, token_file)
    recipes = []
    for name, folder in ((config, str(store)), *also):
        resolved = read_config(name, overrides, data)
        recipes.append((resolved.as_dict(), resolved.source, Path(folder)))
    _refuse_missing_libraries()
    from heritage_align.service.workers import Plan, serve

    check_names([document["name"] for document, _, _ in recipes])

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    serve(Plan(recipes, found, max(1, cores // workers) if workers > 1 else None), host, port, workers)


def _refuse_missing_libraries() -> None:
    from importlib.util import find_spec

    from heritage_align.errors import MissingDependency

    missing = [name for name in ("fastapi", "uvicorn", "httptools", "prometheus_client") if find_spec(name) is None]
    if missing:
        raise MissingDependency(f"serve: needs {', '.join(missing)}: pip install 'heritage-align[serve]'")
