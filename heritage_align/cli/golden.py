"""``heritage-align golden``: retrieval between annotated regions and the phrases that name them."""

from __future__ import annotations

import click

from heritage_align.cli.options import (
    collection_options,
    cut_offs,
    json_option,
    ks_option,
    print_json,
    read_config,
    set_option,
)


@click.command(name="golden")
@click.argument("configs", nargs=-1, required=True, metavar="CONFIG...")
@set_option
@collection_options
@ks_option
@click.option(
    "--score",
    type=click.Choice(["inner", "cosine", "attention"]),
    default="inner",
    show_default=True,
    help="inner, cosine: of a region's and a phrase's vector. attention: the config's similarity of the whole picture "
    "with the phrase.",
)
@click.option("--bleu", type=click.Choice(["zh", "en"]), help="Also BLEU-1 to 4 of the best phrase, in this language.")
@json_option
def command(
    configs: tuple[str, ...],
    overrides: tuple[str, ...],
    data: str | None,
    features: str | None,
    ks: str,
    score: str,
    bleu: str | None,
    as_json: bool,
) -> None:
    """Evaluate each CONFIG on the golden pairs of its data: annotated regions with the phrases that name them.

    Image annotation ranks phrases for a region, image search ranks regions for a phrase (Sheng et al. 2021, section
    4.6). The row of chance is what a random order would reach.

    Example: heritage-align golden scan bfan --score cosine
    """
    from heritage_align.errors import ConfigError
    from heritage_align.evaluation.bleu import annotation_bleu
    from heritage_align.evaluation.comparison import refuse_equal_names
    from heritage_align.evaluation.cross_validation import summarise
    from heritage_align.evaluation.golden import pool_golden
    from heritage_align.evaluation.golden_encoding import evaluate_golden
    from heritage_align.evaluation.paper_tables import recall_paper_table
    from heritage_align.pipeline import Pipeline, build_dataset

    if bleu is not None and score == "attention":
        raise ConfigError(["--bleu: is of regions; --score attention ranks whole pictures"], "golden")
    at = cut_offs(ks)
    resolved = [read_config(name, overrides, data, features) for name in configs]
    refuse_equal_names(resolved)
    dataset = build_dataset(resolved[0])
    evaluations = [evaluate_golden(Pipeline(config), dataset, score=score, ks=at) for config in resolved]  # type: ignore[arg-type]
    golden = pool_golden(dataset.golden)
    scores = [annotation_bleu(e.scores, golden, bleu) for e in evaluations] if bleu is not None else []  # type: ignore[arg-type]
    if as_json:
        records = [evaluation.asdict() for evaluation in evaluations]
        for record, measured in zip(records, scores):
            record["bleu"] = measured.asdict()
        print_json({"dataset": dataset.name, "score": score, "systems": records})
        return
    caption = f"{dataset.name}: {len(golden.fragment_ids)} regions, {len(golden.phrases)} phrases, {score}"
    click.echo(recall_paper_table({"": [summarise([e]) for e in evaluations]}, caption=caption).to_text())
    for evaluation, measured in zip(evaluations, scores):
        numbers = " / ".join(f"{value:.1f}" for value in measured.bleu)
        click.echo(f"{evaluation.result.system}: BLEU-1 to 4 {numbers} ({measured.signature})")
