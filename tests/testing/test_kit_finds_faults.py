"""The kit passes components that are right, and names every fault that it is for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any
from unittest import SkipTest

import pytest
from PIL import Image

from heritage_align.hookspecs import KINDS, ComponentSpec, Kind
from heritage_align.plugins import default_registry
from heritage_align.testing import (
    Case,
    CheckFailed,
    check_component,
    checks_for,
    parametrize_with_checks,
    run_checks,
)
from heritage_align.testing.checks import ALL_CHECKS
from heritage_align.testing.kit import run_check

SPECS: dict[str, tuple[Kind, str, tuple[str, ...], tuple[str, ...]]] = {
    "Encoder": ("encoder", "Plain", (), ("global", "texts", "patches")),
    "Pooler": ("encoder", "Plain", (), ("global", "texts", "patches", "boxes")),
    "Projector": ("encoder", "Plain", (), ("global", "texts", "features")),
    "Proposer": ("proposer", "Plain", (), ("crops",)),
    "Filter": ("filter", "Plain", (), ("keep",)),
    "Focal": ("filter", "Plain", (), ("attention",)),
    "Fragmenter": ("fragmenter", "Plain", (), ("fragments",)),
    "Cosine": ("similarity", "Plain", ("image.global", "text.global"), ("folds",)),
    "Late": ("similarity", "Plain", ("image.regions", "text.fragments", "keep?"), ("in_place",)),
    "Index": ("index", "Plain", (), ()),
    "Reranker": ("reranker", "Rating", (), ()),
    "Finder": ("reranker", "Rating", (), ("details",)),
    "Dataset": ("dataset", "Plain", (), ()),
    "Trainer": ("trainer", "Training", (), ()),
    "Executor": ("executor", "Plain", (), ()),
}

SYSTEM = {
    "version": 1,
    "name": "kit",
    "encoder": {"name": "cn_clip", "model": "motif-small"},
    "similarity": {"name": "global"},
    "runtime": {"device": "cpu"},
}
"""What a trainer under test trains, and an executor encodes and searches."""
DATA = {"name": "motifs", "artworks": 2, "variants": 1, "size": 64}


def case(base: str, target: str = "", model: str = "") -> Case:
    kind, config, inputs, outputs = SPECS[base]
    spec = ComponentSpec(
        kind,
        (target or base).rpartition(":")[2].lower(),
        target=f"kit_subjects.{target or 'right:' + base}",
        config=f"kit_subjects.{model or 'config:' + config}",
        inputs=inputs,
        outputs=outputs,
    )
    made = Case.of(spec, {})
    if kind == "trainer":
        settings = {} if model else {"data": DATA}
        return replace(made, settings=settings, system=SYSTEM, registry=default_registry())
    if kind == "executor":
        return replace(made, system={**SYSTEM, "data": DATA}, registry=default_registry())
    if base == "Projector":
        return replace(made, feature_dim=5)
    return replace(made, bad_images={"broken": "broken.jpg"}) if kind == "dataset" else made


@dataclass(frozen=True)
class Fault:
    """A component with one fault: the check that must find it, and what the check must say."""

    check: str
    case: Case
    says: str


def wrong(check: str, base: str, target: str, says: str, **changes: Any) -> Fault:
    modules = {
        "encoder": "wrong_encoders",
        "proposer": "wrong_region_components",
        "filter": "wrong_region_components",
        "fragmenter": "wrong_region_components",
        "similarity": "wrong_scores",
        "index": "wrong_scores",
        "reranker": "wrong_rerankers",
        "dataset": "wrong_datasets",
        "trainer": "wrong_trainers",
        "executor": "wrong_executors",
    }
    made = case(base, f"{'wrong_finders' if base == 'Finder' else modules[SPECS[base][0]]}:{target}")
    if changes:
        assert made.spec is not None
        made = replace(made, spec=replace(made.spec, **changes))
    return Fault(check, made, says)


def wrong_settings(check: str, model: str, says: str, **settings: Any) -> Fault:
    made = case("Fragmenter", model=model if ":" in model else f"config:{model}")
    return Fault(check, replace(made, settings=settings), says)


FAULTS = [
    wrong_settings(
        "check_description_is_light", "heavy_config:Plain", "importing kit_subjects.heavy_config loads torch"
    ),
    wrong_settings("check_unknown_key_is_refused", "TakesAnyKey", "takes the unknown key"),
    wrong_settings("check_settings_are_frozen", "Mutable", "count can be set after validation"),
    wrong_settings("check_settings_are_described", "Undescribed", "no description for count"),
    wrong_settings("check_settings_are_described", "Named", "'name', which names the component"),
    wrong_settings("check_settings_round_trip", "NotSaved", "comes back from JSON", count=4),
    wrong_settings("check_settings_pickle", "Made", "Made"),
    wrong_settings("check_facts_are_planned", "UnknownFeature", "unknown output fragmnets"),
    wrong_settings("check_facts_are_planned", "FileOfNothing", "'checkpoint', which is no setting"),
    wrong_settings("check_nested_places", "Misplaced", "names the place 'term.0'"),
    wrong("check_protocol", "Encoder", "NoFingerprint", "lacks fingerprint of protocols.Encoder"),
    wrong("check_global_seeds_are_untouched", "Encoder", "SeedsTorch", "seeds torch's global generator"),
    wrong(
        "check_process_settings_are_untouched",
        "Encoder",
        "LiftsPixelLimit",
        "PIL.Image.MAX_IMAGE_PIXELS from",
    ),
    wrong("check_image_vectors", "Encoder", "LongImageRows", "length is off 1 by 1"),
    wrong("check_image_vectors", "Encoder", "HalfImageRows", "dtype torch.float16"),
    wrong("check_image_vectors", "Encoder", "KeepsGraph", "require a gradient"),
    wrong("check_text_vectors", "Encoder", "LongTextRows", "length is off 1 by 1"),
    wrong("check_patches", "Encoder", "KeepsClassToken", "shape (3, 5, 8), expected (3, 4, 8)"),
    wrong("check_pooled_boxes", "Encoder", "PoolsAlways", "'boxes' among its outputs is False, pools_regions is True"),
    wrong("check_pooled_boxes", "Pooler", "PoolsWholes", "boxes in two corners of a picture have the same vector"),
    wrong("check_pooled_boxes", "Pooler", "PoolsFirstPicture", "boxes of a picture alone, against the batch"),
    wrong("check_images_do_not_depend_on_their_batch", "Encoder", "CentresBatch", "images encoded alone"),
    wrong("check_texts_do_not_depend_on_their_batch", "Encoder", "AttendsToPadding", "texts encoded alone"),
    wrong("check_encoder_is_deterministic", "Encoder", "RandomWeights", "images encoded by a second build"),
    wrong("check_inputs_matter", "Encoder", "Constant", "two different pictures have the same vector"),
    wrong("check_fingerprint", "Encoder", "Nameless", "fingerprint() gave 'my model'"),
    wrong("check_prepare_takes_any_picture", "Encoder", "KeepsSize", "prepare() gives different shapes"),
    wrong("check_recipe_is_what_prepare_does", "Encoder", "SaysBicubic", "pattern: the recipe's pixels are"),
    wrong("check_prepare_is_thread_safe", "Encoder", "SharesBuffer", "prepare() in a thread"),
    wrong("check_empty_batches", "Encoder", "StacksNothing", "it raised"),
    wrong("check_long_text", "Encoder", "RunsOffPositions", "it raised IndexError"),
    wrong("check_blank_text_is_refused", "Encoder", "TakesBlanks", "takes the blank text ''"),
    wrong("check_one_answer_an_image", "Proposer", "SkipsEmpty", "gave 5 Regions for 6 images"),
    wrong("check_boxes_are_inside", "Proposer", "PastTheEdge", "is not inside"),
    wrong(
        "check_boxes_are_inside",
        "Proposer",
        "WholePixels",
        "pixel (1 x 1): box (0.0, 0.0, 0.0, 0.0) is not inside",
    ),
    wrong("check_boxes_are_inside", "Proposer", "DoubleBoxes", "boxes are float64"),
    wrong("check_scores_and_masks_fit", "Proposer", "OneScore", "scores are not finite float32"),
    wrong("check_scores_and_masks_fit", "Proposer", "SomeGrid", "grid (1, 3), outputs {'crops'}"),
    wrong("check_proposer_is_deterministic", "Proposer", "GlobalGenerator", "asked twice"),
    wrong("check_regions_do_not_depend_on_the_batch", "Proposer", "PlaceInBatch", "alone, against the batch"),
    wrong("check_pictures_are_left_alone", "Proposer", "ShrinksPictures", "changes the pictures pattern, noise"),
    wrong("check_no_images", "Proposer", "NeedsOne", "it raised ValueError"),
    wrong("check_only_narrows", "Filter", "DropsBoxes", "boxes became"),
    wrong("check_only_narrows", "Filter", "Revives", "were masked before and are kept now"),
    wrong("check_something_is_kept", "Filter", "MasksEverything", "flat: every region is masked"),
    wrong("check_no_regions", "Filter", "DividesByNone", "it raised ZeroDivisionError"),
    wrong("check_filter_leaves_its_input_alone", "Filter", "MasksInPlace", "changes the Regions it is given"),
    wrong("check_filter_is_deterministic_and_batch_free", "Filter", "ComparesToBatch", "masked otherwise"),
    wrong("check_filter_takes_no_images", "Filter", "FilterNeedsOne", "it raised IndexError"),
    wrong("check_attention", "Filter", "UndeclaredAttention", "attention is {'focal': 'prob'}"),
    wrong("check_attention", "Focal", "SilentFocal", "attention is {}"),
    wrong("check_fragments", "Fragmenter", "FindsNothing", "gave no fragment"),
    wrong("check_fragments", "Fragmenter", "GivesBlanks", "gave blank or other fragments: [' ']"),
    wrong("check_fragments", "Fragmenter", "GivesList", "gave list"),
    wrong("check_fragmenter_is_deterministic", "Fragmenter", "Shuffles", "gave"),
    wrong("check_scores", "Cosine", "NotANumber", "gives NaN or infinity"),
    wrong("check_scores_do_not_depend_on_the_batch", "Cosine", "CentresScores", "pairs scored alone"),
    wrong("check_padding_never_wins", "Late", "PadsWithZeros", "all-negative pairs alone"),
    wrong("check_higher_is_better", "Cosine", "Distance", "opposite ones"),
    wrong("check_candidates", "Cosine", "LastForNone", "score() of candidates"),
    wrong("check_empty_features", "Cosine", "NeedsImages", "it raised"),
    wrong("check_image_without_regions", "Late", "MeanOfNone", "without regions gives NaN"),
    wrong("check_stored_precision", "Cosine", "StoredSums", "features, against the same numbers in fp32"),
    wrong("check_mask_is_used", "Late", "IgnoresMask", "other features in the masked regions"),
    wrong("check_fold", "Cosine", "FoldsNearly", "fold() @ texts, against score()"),
    wrong("check_fold", "Cosine", "FoldsNever", "outputs say 'folds'"),
    wrong("check_fold", "Cosine", "Cosine", "do not say 'folds'", outputs=()),
    wrong(
        "check_in_place", "Cosine", "LooksAtAll", "that no candidate asks for hold NaN", outputs=("folds", "in_place")
    ),
    wrong("check_inputs_are_left_alone", "Cosine", "Normalises", "changes the features"),
    wrong("check_responses", "Late", "RespondsSideways", "shape (3, 2), expected (2, 3)"),
    wrong("check_responses", "Late", "RespondsAnyway", "without regions returned"),
    wrong("check_exact_answers", "Index", "FirstRows", "scores of search()"),
    wrong("check_answer_types", "Index", "ShortNumbers", "torch.int32, expected torch.int64"),
    wrong("check_best_first", "Index", "WorstFirst", "scores do not descend"),
    wrong("check_blocks_are_one_matrix", "Index", "RowsOfBlocks", "rows in blocks of (1, 20, 29)"),
    wrong("check_small_collections", "Index", "PadsToK", "give shape (5, 7), expected (5, 3)"),
    wrong("check_ties", "Index", "LastOfEquals", "ties in blocks of (50,)"),
    wrong("check_negative_scores", "Index", "StartsAtZero", "all-negative scores"),
    wrong("check_queries_do_not_depend_on_each_other", "Index", "SharesQueries", "scores of query 0 alone"),
    Fault("check_candidates_are_a_setting", case("Reranker", model="config:Plain"), "Plain is no subclass of Reranker"),
    wrong("check_ratings", "Reranker", "HalfRatings", "rate() gave torch.float16"),
    wrong("check_ratings_do_not_depend_on_the_batch", "Reranker", "CentresRatings", "pairs rated alone"),
    wrong("check_reranker_is_deterministic", "Reranker", "Samples", "pairs rated by a second build"),
    wrong("check_both_sides_matter", "Reranker", "NeverReads", "for two different texts"),
    wrong("check_no_pairs", "Reranker", "NeedsPairs", "it raised RuntimeError"),
    wrong("check_reranker_refuses_blank_texts", "Reranker", "TakesBlankTexts", "rate() takes the blank text ''"),
    wrong("check_reranker_leaves_pictures_alone", "Reranker", "ShrinksPictures", "changes pictures in place"),
    wrong("check_protocol", "Finder", "OutsideBox", "lacks rate of protocols.Reranker", outputs=("details", "texts")),
    wrong("check_matches", "Finder", "OutsideBox", "and the picture is 48 x 40"),
    wrong("check_matches", "Finder", "NoNumber", "expected a score of 0 or more"),
    wrong("check_matches", "Finder", "BestAlone", "compare() of 6 pictures gave 1 matches"),
    wrong("check_matches_do_not_depend_on_the_batch", "Finder", "Ranks", "pictures compared alone give"),
    wrong("check_matches_are_deterministic", "Finder", "DrawsLots", "two builds give"),
    wrong("check_a_copy_is_found", "Finder", "DistanceOfPictures", "a copy of a picture scores 0.0"),
    wrong("check_no_pictures_to_compare", "Finder", "NeedsPictures", "it raised ValueError"),
    wrong("check_compared_pictures_are_left_alone", "Finder", "ShrinksDetail", "those at [0] of the detail"),
    wrong("check_ids", "Dataset", "SameIdTwice", "image ids come more than once: ['pattern']"),
    wrong("check_references", "Dataset", "LostAnswer", "('t1', 'patern')"),
    wrong("check_references", "Dataset", "BlankText", "texts are blank: ['t1']"),
    wrong("check_images_load", "Dataset", "GreyPictures", "gave mode L, expected RGB"),
    wrong(
        "check_loading_is_deterministic_and_thread_safe",
        "Dataset",
        "SharedPlace",
        "another picture in a thread",
    ),
    wrong("check_loading_is_deterministic_and_thread_safe", "Dataset", "OtherOrder", "other image ids"),
    wrong("check_golden_boxes", "Dataset", "BoxOfThePrint", "is not inside its picture of 48 x 40"),
    wrong("check_unknown_image_is_named", "Dataset", "BareKeyError", "it raised KeyError"),
    wrong("check_image_files", "Dataset", "OneFileForAll", "image_file('noise') decodes to another picture"),
    wrong("check_bad_pictures_are_named", "Dataset", "NamelessError", "it raised OSError"),
    wrong("check_image_vectors", "Projector", "LongFeatureRows", "length is off 1 by 1"),
    wrong("check_images_do_not_depend_on_their_batch", "Projector", "CentresFeatures", "images encoded alone"),
    wrong("check_features_of_another_width_are_refused", "Projector", "TakesAnyWidth", "takes features of 10"),
    wrong("check_features_of_another_width_are_refused", "Projector", "SaysOnlyNo", "with the features do not fit"),
    wrong("check_outcome_is_a_system", "Trainer", "NoSuchEncoder", "unknown encoder 'trained'"),
    wrong("check_outcome_is_a_system", "Trainer", "NeverMeasured", "metrics recall are not finite"),
    wrong("check_outcome_is_a_system", "Trainer", "LostModel", "and the trainer says that it wrote it"),
    wrong("check_outcome_is_a_system", "Trainer", "WritesElsewhere", "wrote model outside the run's folder"),
    wrong("check_training_repeats", "Trainer", "OtherLuck", "in another folder it measures"),
    wrong("check_training_repeats", "Trainer", "AddsUp", "in the same folder it measures"),
    wrong(
        "check_shards_are_those_of_one_process", "Executor", "LosesTheLastPicture", "shard-1.safetensors differ from"
    ),
    wrong("check_shards_are_those_of_one_process", "Executor", "ForgetsTheLast", "did not write shard-1.safetensors"),
    wrong("check_shards_are_those_of_one_process", "Executor", "SaysNothing", "said that 0 pictures are done"),
    wrong("check_features_come_in_order", "Executor", "LastFirst", "encode_stream() gave pictures"),
    wrong("check_answers_are_those_of_one_process", "Executor", "HalfTheStore", "a search answers"),
]
FAULTS.append(
    Fault("check_dim_is_planned", case("Encoder", model="config:OtherDim"), "promises dim 16, the encoder has 8")
)

FAULTS.append(
    Fault(
        "check_settings_are_a_trainer_s",
        case("Trainer", "wrong_trainers:SettingsOfItsOwn", "config:Plain"),
        "Plain is no heritage_align.training.settings.TrainerConfig",
    )
)

RIGHT = [case(base) for base in SPECS] + [case("Encoder", model="config:WithFile")]


@pytest.fixture(autouse=True)
def _pixel_limit() -> Iterator[None]:
    limit = Image.MAX_IMAGE_PIXELS
    yield
    Image.MAX_IMAGE_PIXELS = limit


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f"{f.check}-{f.case.name}")
def test_a_fault_is_found_and_named(fault: Fault) -> None:
    (check,) = [c for c in checks_for(fault.case.kind) if c.name == fault.check]
    with pytest.raises(CheckFailed) as caught:
        run_check(check, fault.case)
    message = str(caught.value)
    assert message.startswith(f"{fault.case.kind}.{fault.case.name} fails {fault.check}: ")
    assert fault.says in message
    assert check.reason in message


@parametrize_with_checks(RIGHT)
def test_components_that_are_right_pass(check: Any) -> None:
    check()


def test_every_check_has_a_component_that_fails_it() -> None:
    assert {fault.check for fault in FAULTS} == {check.name for check in ALL_CHECKS}


def test_every_check_applies_to_one_of_the_right_components() -> None:
    applied: set[str] = set()
    for subject in RIGHT:
        for check in checks_for(subject.kind):
            try:
                run_check(check, subject)
                applied.add(check.name)
            except SkipTest:
                continue
    assert applied == {check.name for check in ALL_CHECKS}


def test_every_check_gives_a_reason_and_every_kind_has_its_own() -> None:
    assert all(check.reason.endswith(".") for check in ALL_CHECKS)
    for kind in KINDS:
        own = [check for check in checks_for(kind) if check.kinds == (kind,)]
        assert own, f"no check of its own for {kind}"


def test_check_component_reports_every_failure_at_once() -> None:
    with pytest.raises(CheckFailed) as caught:
        check_component(case("Proposer", "wrong_region_components:DoubleBoxes", "config:Undescribed"))
    assert "check_boxes_are_inside" in str(caught.value)
    assert "check_settings_are_described" in str(caught.value)


def test_expected_failures_must_fail_and_must_exist() -> None:
    bad, good = case("Proposer", "wrong_region_components:DoubleBoxes"), case("Proposer")
    results = check_component(bad, {"check_boxes_are_inside": "double boxes are on purpose"})
    assert [r.check for r in results if r.state == "failed"] == ["check_boxes_are_inside"]
    with pytest.raises(CheckFailed, match="check_boxes_are_inside was expected to fail and passed"):
        check_component(good, {"check_boxes_are_inside": "mended since"})
    with pytest.raises(ValueError, match="check_boxes: no such check of a proposer"):
        check_component(good, {"check_boxes": "misspelt"})
    with pytest.raises(ValueError, match="check_boxes: no such check of a proposer"):
        parametrize_with_checks([good], expected_failed_checks={"check_boxes": "misspelt"})


@parametrize_with_checks(
    [case("Proposer", "wrong_region_components:DoubleBoxes"), case("Proposer")],
    expected_failed_checks=lambda c: {"check_boxes_are_inside": "on purpose"} if c.name == "doubleboxes" else {},
)
def test_expected_failures_are_strict_xfails(check: Any) -> None:
    check()


def test_what_does_not_apply_is_skipped_with_a_reason() -> None:
    skipped = {r.check: r.detail for r in run_checks(case("Cosine")) if r.state == "skipped"}
    assert skipped["check_mask_is_used"] == "uses no mask"


def test_a_registered_component_is_named_by_kind_and_name() -> None:
    with pytest.raises(CheckFailed, match=r"similarity.globl fails .*Did you mean 'global'"):
        check_component(("similarity", "globl"))
