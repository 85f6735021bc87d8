"""``heritage-align index``: build, look at, verify and merge stores."""

from __future__ import annotations

from pathlib import Path

import click

from heritage_align.cli.options import (
    collection_options,
    config_argument,
    json_option,
    print_json,
    read_config,
    set_option,
)
from heritage_align.errors import StoreError

_store_argument = click.argument("store", type=click.Path(path_type=Path))


@click.group(name="index")
def command() -> None:
    """Encode a collection into a store; look at, verify and merge stores.

    Example: heritage-align index build laclip.yaml --data pictures/ --out store
    """


@command.command()
@config_argument
@set_option
@collection_options
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the store.")
@click.option(
    "--shard", "share", default="1/1", show_default=True, metavar="I/N", help="Take every Nth shard from the Ith."
)
@json_option
def build(
    config: str,
    overrides: tuple[str, ...],
    data: str | None,
    features: str | None,
    out: Path,
    share: str,
    as_json: bool,
) -> None:
    """Encode the collection of CONFIG (or --data) into a store.

    Run it again after a kill: it goes on with the first shard that is missing. Pictures that cannot be read are named
    and left out. With --shard several processes or machines share the work; the last one completes the store.

    Example: heritage-align index build laclip.yaml --data pictures/ --out store
    """
    from tqdm import tqdm

    from heritage_align.indexing import build_index
    from heritage_align.pipeline import Pipeline, build_dataset, dataset_sources

    resolved = read_config(config, overrides, data, features)
    number, of = _share(share)
    sources = list(dataset_sources(build_dataset(resolved)))
    pipeline = Pipeline(resolved)
    size = resolved.store.shard_images
    mine = sum(1 for place in range(len(sources)) if place // size % of == number - 1)
    with tqdm(total=mine, unit="img", disable=True if as_json else None) as bar:  # None: only on a terminal
        report = build_index(pipeline, sources, out, share=(number, of), progress=bar.update)
    for image_id, reason in report.skipped:
        click.echo(f"left out {image_id}: {reason}", err=True)
    if as_json:
        print_json(
            {
                "store": str(out),
                "images": report.images,
                "skipped": [{"image_id": i, "reason": reason} for i, reason in report.skipped],
                "shards_written": report.written,
                "shards_found": report.found,
                "finished": report.finished,
            }
        )
        return
    rest = "" if report.finished else "; other shares are still missing"
    click.echo(
        f"{out}: {report.images} images, {len(report.skipped)} left out; shards: {report.written} written, "
        f"{report.found} were there{rest}"
    )


@command.command()
@_store_argument
@json_option
def info(store: Path, as_json: bool) -> None:
    """Say what STORE holds and what made it.

    Example: heritage-align index info store
    """
    from heritage_align.store.layout import read_manifest

    manifest = read_manifest(store).asdict()
    if as_json:
        print_json(manifest)
        return
    build = manifest["build"]
    size = sum(shard["bytes"] for shard in manifest["shards"])
    click.echo(f"images    {manifest['images']} ({manifest['skipped']} left out), {manifest['regions']} regions")
    click.echo(f"vectors   {manifest['dim']} dimensions, {build['dtype']}, folded: {manifest['folded']}")
    shown = f"{size / 2**20:.1f} MiB" if size >= 2**20 else f"{size / 2**10:.1f} KiB"
    click.echo(f"files     {len(manifest['shards'])} shards, {shown}")
    click.echo(f"encoder   {build['identity']['encoder']}")
    click.echo(f"config    {build['name']}, sha256 {build['identity']['config']}")


@command.command()
@_store_argument
@json_option
def verify(store: Path, as_json: bool) -> None:
    """Read all of STORE again and name what is wrong.

    Looks at checksums, shapes, NaN, lengths of vectors, ids; exit status 2 if there is a fault.

    Example: heritage-align index verify store
    """
    from heritage_align.store import verify as faults_of

    faults = list(faults_of(store))
    if as_json:
        print_json({"store": str(store), "faults": faults})
    elif not faults:
        click.echo(f"{store}: sound")
    if faults:
        count = f"{len(faults)} fault{'s' if len(faults) != 1 else ''}"
        raise StoreError("\n  ".join([f"{store}: {count}", *faults]))


@command.command()
@click.argument("stores", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the merged store.")
def merge(stores: tuple[Path, ...], out: Path) -> None:
    """Merge whole stores, or parts of one.

    Parts are what --shard built in folders of their own. Files are linked where the file system can, else copied.

    Example: heritage-align index merge part1 part2 --out store
    """
    from heritage_align.store.finish import merge as merge_stores

    manifest = merge_stores(stores, out)
    click.echo(f"{out}: {manifest.images} images in {len(manifest.shards)} shards")


def _share(text: str) -> tuple[int, int]:
    number, separator, of = text.partition("/")
    if not separator or not number.isdecimal() or not of.isdecimal() or not 1 <= int(number) <= int(of):
        raise StoreError(f"--shard {text!r}: expected I/N with 1 <= I <= N, for example 1/4")
    return int(number), int(of)
