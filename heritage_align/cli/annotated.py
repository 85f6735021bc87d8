"""The options that write answers as Web Annotations: a page of them, or the manifest with them in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from heritage_align.cli.options import FileOrFolder, check_file
from heritage_align.errors import ConfigError

if TYPE_CHECKING:
    from heritage_align.annotations import Sizes
    from heritage_align.config import Config


def annotation_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--annotations`` and ``--annotated-manifest``."""
    page = click.option(
        "--annotations",
        type=FileOrFolder(),
        help="Write a IIIF AnnotationPage too (.json): a Web Annotation for each region that answered.",
    )
    manifest = click.option(
        "--annotated-manifest",
        type=FileOrFolder(),
        help="Write a copy of the data's IIIF manifest too (.json), its canvases with these annotations, for a viewer.",
    )
    return page(manifest(command))


def check_annotations(page: Path | None, manifest: Path | None) -> None:
    """Refuse files that cannot be written, before anything is computed."""
    for path in (page, manifest):
        if path is not None:
            check_file(path, (".json", ".jsonld"))


class Annotations:
    """Where the answers of one command go.

    Args:
        page: file for an AnnotationPage; None for none.
        manifest: file for a copy of the manifest; None for none.
        config: names the data set.

    Raises:
        ConfigError: a manifest is asked for, and the data are of none, or of one that is no file.
        DataError: it is no manifest of Presentation 3.
    """

    def __init__(self, page: Path | None, manifest: Path | None, config: Config) -> None:
        self._page, self._manifest, self._config = page, manifest, config
        self._document = None if manifest is None else _manifest_of(config)

    def write(self, page_of: Callable[[Sizes], dict[str, Any]], *, quiet: bool) -> None:
        """Write what was asked for, and say so on stdout.

        Args:
            page_of: makes the page from the sizes of the canvases.
            quiet: say nothing.
        """
        from heritage_align.annotations import annotated_manifest, write_page
        from heritage_align.cli.collection import canvas_sizes

        if self._page is None and self._document is None:
            return
        page = page_of(canvas_sizes(self._config))
        if self._page is not None:
            write_page(self._page, page)
        if self._manifest is not None and self._document is not None:
            write_page(self._manifest, annotated_manifest(self._document, page))
        for path in (self._page, self._manifest):
            if path is not None and not quiet:
                click.echo(f"wrote {path}")


def _manifest_of(config: Config) -> Mapping[str, Any]:
    from heritage_align.annotations import read_manifest
    from heritage_align.data.iiif.resources import is_remote
    from heritage_align.plugins import default_registry

    if config.data is None or config.data.spec.name != default_registry().of_role("dataset", "manifest"):
        fault = "--annotated-manifest: needs the IIIF manifest that the pictures are of; give --data manifest.json"
        raise ConfigError([fault], "data")
    source = str(config.data.as_dict()["manifest"])
    if is_remote(source):
        raise ConfigError([f"--annotated-manifest: {source} is no file; save it, and name the file"], "data")
    return read_manifest(Path(source))
