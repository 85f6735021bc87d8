"""``heritage-align explain``: one image, one text, which region answered which phrase."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from heritage_align.cli.annotated import Annotations, annotation_options, check_annotations
from heritage_align.cli.details import picture_of, place_of
from heritage_align.cli.network import network_option
from heritage_align.cli.options import (
    PICTURE_SUFFIXES,
    FileOrFolder,
    check_file,
    config_argument,
    json_option,
    phrase_option,
    print_json,
    read_config,
    set_option,
)

if TYPE_CHECKING:
    from heritage_align.report.explain import Explanation


@click.command(name="explain")
@config_argument
@click.argument("image")
@click.argument("text")
@set_option
@phrase_option
@click.option("--out", type=FileOrFolder(), help="Picture to write; IMAGE.explained.png here by default.")
@annotation_options
@network_option
@json_option
def command(
    config: str,
    image: str,
    text: str,
    overrides: tuple[str, ...],
    phrases: tuple[str, ...],
    out: Path | None,
    annotations: Path | None,
    annotated_manifest: Path | None,
    as_json: bool,
) -> None:
    """Show which region of IMAGE answered which phrase of TEXT, as a picture and a list.

    IMAGE is a file, or the id of a picture of CONFIG's data. Where regions were computed before (proposer
    region_features) it is looked up among them by its name.

    CONFIG needs regions: laclip, laclip-text, late-interaction, scan, bfan. Without --phrase the config's fragmenter
    splits the text.

    Example: heritage-align explain scan vase.jpg "a blue dragon above white waves"
    """
    from heritage_align.annotations import page_of_explanation
    from heritage_align.pipeline import Pipeline
    from heritage_align.report.explain import check_explainable, explain
    from heritage_align.types import TextItem

    path = check_file(out or Path(f"{Path(image).stem}.explained.png"), PICTURE_SUFFIXES)
    check_annotations(annotations, annotated_manifest)
    resolved = read_config(config, overrides)
    written = Annotations(annotations, annotated_manifest, resolved)
    check_explainable(resolved)
    picture = picture_of(image, resolved)
    pipeline = Pipeline(resolved)
    explanation = explain(pipeline, picture, image, TextItem("text", text, phrases=phrases))
    explanation.picture().save(path)
    if as_json:
        print_json({**explanation.to_dict(), "picture": str(path)})
    else:
        _show(explanation, path)
    written.write(lambda sizes: page_of_explanation(explanation, sizes), quiet=as_json)


def _show(explanation: Explanation, path: Path) -> None:
    click.echo(f"score {explanation.score:.4f} ({explanation.system})")
    for phrase, box, response in explanation.answers():
        click.echo(f"  {response:+.3f}  {phrase}  {place_of(box)}")
    click.echo(f"wrote {path}")
