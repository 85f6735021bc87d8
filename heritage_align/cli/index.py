"""``heritage-align index``: build, update, look at, verify and merge stores."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from heritage_align.cli.network import network_option
from heritage_align.cli.options import (
    FileOrFolder,
    check_file,
    collection_options,
    config_argument,
    data_option,
    json_option,
    print_json,
    read_config,
    set_option,
)
from heritage_align.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from heritage_align.config import Config

_store_argument = click.argument("store", type=FileOrFolder())


@click.group(name="index")
def command() -> None:
    """Encode a collection into a store; update, look at, verify and merge stores.

    Example: heritage-align index build laclip.yaml --data pictures/ --out store
    """


@command.command()
@config_argument
@set_option
@collection_options
@click.option("--out", type=FileOrFolder(), required=True, help="Folder of the store.")
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

    Run it again after a kill: it goes on with the first shard that is missing or not whole. Pictures that cannot be
    read are named and left out. With --shard several processes or machines share the work; the last one completes the
    store.

    Example: heritage-align index build laclip.yaml --data pictures/ --out store
    """
    from tqdm import tqdm

    from heritage_align.data.problems import left_out
    from heritage_align.indexing import build_index
    from heritage_align.pipeline import Pipeline, build_dataset, dataset_sources

    resolved = read_config(config, overrides, data, features)
    number, of = _share(share)
    sources = dataset_sources(build_dataset(resolved))
    pipeline = Pipeline(resolved)
    size = resolved.store.shard_images
    mine = sum(1 for place in range(len(sources)) if place // size % of == number - 1)
    with tqdm(total=mine, unit="img", disable=True if as_json else None) as bar:  # None: only on a terminal
        report = build_index(pipeline, sources, out, share=(number, of), progress=bar.update)
    for line in left_out(report.skipped, "--json"):
        click.echo(line, err=True)
    for name in report.remade:
        click.echo(f"made again {out / name}: it was not whole", err=True)
    if as_json:
        print_json(
            {
                "store": str(out),
                "images": report.images,
                "skipped": [{"image_id": i, "reason": reason} for i, reason in report.skipped],
                "shards_written": report.written,
                "shards_found": report.found,
                "shards_remade": list(report.remade),
                "finished": report.finished,
            }
        )
        return
    rest = "" if report.finished else "; other shares are still missing"
    if report.finished and not report.written:
        rest = f"; whether pictures changed is not looked at: heritage-align index update {shlex.quote(str(out))} does"
    click.echo(
        f"{out}: {report.images} images, {len(report.skipped)} left out; shards: {report.written} written, "
        f"{report.found} were there{rest}"
    )


@command.command()
@_store_argument
@set_option
@collection_options
@click.option(
    "--retry", is_flag=True, help="Try pictures again that could not be read, though their files are the same."
)
@json_option
def update(
    store: Path, overrides: tuple[str, ...], data: str | None, features: str | None, retry: bool, as_json: bool
) -> None:
    """Take what changed in the collection into STORE, with the config that the store was built with.

    Pictures that were added, or whose file holds something else, are encoded; images whose picture is gone are dropped;
    the rest is left as it is. Run it again after a kill. Searchers that are open go on with what they opened.

    Example: heritage-align index update store --data pictures/
    """
    from tqdm import tqdm

    from heritage_align.data.problems import left_out
    from heritage_align.pipeline import Pipeline, build_dataset, dataset_sources
    from heritage_align.updating import update_index

    fixed = [setting for setting in overrides if setting.startswith("store.")]
    if fixed:
        raise ConfigError(
            [f"--set {fixed[0]}: a store keeps the storage and the size of shards it was built with"], "update"
        )
    resolved = _config_of(store, overrides, data, features)
    sources = dataset_sources(build_dataset(resolved))
    with tqdm(unit="img", disable=True if as_json else None) as bar:
        report = update_index(Pipeline(resolved), sources, store, bar.update, retry=retry)
    changes = report.changes
    tried = {*changes.added, *changes.replaced, *changes.removed}
    for line in left_out([each for each in report.skipped if each[0] in tried], "--json"):
        click.echo(line, err=True)
    if as_json:
        skipped = [{"image_id": i, "reason": reason} for i, reason in report.skipped]
        counts_and_names = {"images": report.images, "shards_written": report.written, "skipped": skipped}
        print_json({"store": str(store), **counts_and_names, **asdict(changes)})
        return
    counts = ", ".join(f"{len(getattr(changes, kind))} {kind}" for kind in ("added", "replaced", "removed"))
    unknown = _nothing_tells(changes.unknown)
    click.echo(f"{store}: {report.images} images; {counts}; shards: {report.written} written{unknown}")


@command.command()
@_store_argument
def compact(store: Path) -> None:
    """Put STORE into full shards again after many updates, and remove files that it no longer uses.

    Nothing is encoded. Searchers that are open must open the store again.

    Example: heritage-align index compact store
    """
    from heritage_align.updating import compact as compact_store

    manifest = compact_store(store)
    click.echo(f"{store}: {manifest.images} images in {len(manifest.shards)} shards")


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
@data_option
@json_option
def verify(store: Path, data: str | None, as_json: bool) -> None:
    """Read all of STORE again and name what is wrong.

    Looks at checksums, shapes, NaN, lengths of vectors, ids. With --data also at the collection: which pictures were
    added, replaced or removed since. Exit status 2 if there is a fault or a change.

    Example: heritage-align index verify store
    """
    from heritage_align.store import verify as faults_of

    faults = list(faults_of(store))
    changed = _changed(store, data) if data is not None else {}
    if as_json:
        print_json({"store": str(store), "faults": faults, **changed})
    elif not faults and not any(changed.get(kind) for kind in ("added", "replaced", "removed")):
        click.echo(f"{store}: sound{_nothing_tells(changed.get('unknown', ()))}")
    named = [
        f"{kind} since: {image_id}" for kind in ("added", "replaced", "removed") for image_id in changed.get(kind, ())
    ]
    if faults or named:
        count = f"{len(faults)} fault{'s' if len(faults) != 1 else ''}"
        count += f", {len(named)} changes of the collection (index update takes them in)" if named else ""
        raise StoreError(
            "\n  ".join([f"{store}: {count}", *faults, *named[:20], *(["..."] if len(named) > 20 else [])])
        )


def _nothing_tells(unknown: Sequence[str]) -> str:
    if not unknown:
        return ""
    return f"; of {len(unknown)} pictures nothing tells whether they changed, the first: {unknown[0]}"


def _changed(store: Path, data: str) -> dict[str, tuple[str, ...]]:
    from heritage_align.pipeline import build_dataset, dataset_sources
    from heritage_align.store.layout import read_manifest
    from heritage_align.store.shard import read_shard
    from heritage_align.updating import find_changes

    resolved = _config_of(store, (), data, None)
    shards = [read_shard(store / entry.file) for entry in read_manifest(store).shards]
    sources = dataset_sources(build_dataset(resolved))
    return asdict(find_changes(shards, sources, resolved.runtime.threads()))


def _config_of(store: Path, overrides: tuple[str, ...], data: str | None, features: str | None) -> Config:
    """Return the configuration that a store was built with, with another collection."""
    from heritage_align.store.layout import CONFIG, read_manifest

    read_manifest(store)  # says what is wrong with a folder that is no finished store
    if not (store / CONFIG).exists():
        raise StoreError(f"{store / CONFIG}: is missing; put back the configuration that the store was built with")
    return read_config(str(store / CONFIG), overrides, data, features)


@command.command()
@_store_argument
@click.option("--id", "ids", multiple=True, help="Image whose vectors are written; may be given several times.")
@click.option("--out", type=FileOrFolder(), required=True, help="The page, a .json file.")
@data_option
@network_option
def annotate(store: Path, ids: tuple[str, ...], out: Path, data: str | None) -> None:
    """Write the vectors of STORE's images and regions as a IIIF AnnotationPage.

    In the form of the draft extension for embeddings, with the fingerprint of the model. Canvases' sizes come from the
    data set that the store was built with, or --data; selectors of other images are in percent.

    Example: heritage-align index annotate store --out vectors.json
    """
    from heritage_align.annotations import page_of_vectors, write_page
    from heritage_align.cli.collection import canvas_sizes
    from heritage_align.store import Store

    check_file(out, (".json", ".jsonld"))
    resolved = _config_of(store, (), data, None)
    opened = Store.open(store)
    unknown = [image_id for image_id in ids if image_id not in set(opened.ids)]
    if unknown:
        raise StoreError(f"{store}: holds no image {unknown[0]!r}")
    batches = (opened.shard_features(number) for number in range(len(opened.manifest.shards)))
    fingerprint = opened.manifest.build.identity["encoder"]
    page = page_of_vectors(batches, canvas_sizes(resolved), fingerprint, wanted=ids or None)
    write_page(out, page)
    click.echo(f"wrote {out}: {len(page['items'])} vectors")


@command.command()
@click.argument("stores", nargs=-1, required=True, type=FileOrFolder())
@click.option("--out", type=FileOrFolder(), required=True, help="Folder of the merged store.")
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
