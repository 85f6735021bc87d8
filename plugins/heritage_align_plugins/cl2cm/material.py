"""What a run learns from: captions in pairs, as tokens, and one vector a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from heritage_align.data import CaptionPair, pair_captions
from heritage_align.plugin import BuildContext, Config, DataError, Dataset, ImageFeatures, takes_features
from heritage_align.training import CHANGEABLE, TrainingJob, run_identity
from heritage_align_plugins.cl2cm.config import Cl2cmTrainerConfig
from heritage_align_plugins.cl2cm.pairs import Pairs
from heritage_align_plugins.cl2cm.vocabulary import Vocabulary


@dataclass(frozen=True)
class Pictured:
    """Pairs of captions and the vectors of their pictures; ``pairs.picture`` are rows of `vectors`."""

    pairs: Pairs
    vectors: Tensor


@dataclass(frozen=True)
class Material:
    """Everything that a run learns from.

    Attributes:
        vocabulary: of the pictures' captions; other words of ``teacher.data`` are unknown.
        train: what the student learns from.
        validation: what the best epochs are chosen by, or None.
        parallel: what the teacher learns from: the captions of `train` and those of ``teacher.data``.
        from_file: the vectors are a proposer's features, not an encoder's.
        identity: digest of all this and of the settings.
    """

    vocabulary: Vocabulary
    train: Pictured
    validation: Pictured | None
    parallel: Pairs
    from_file: bool
    identity: str


def gather_material(job: TrainingJob, settings: Cl2cmTrainerConfig, context: BuildContext) -> Material:
    """Pair the captions and make the vectors.

    Raises:
        DataError: captions do not come in pairs, or no picture of a pair can be read.
    """
    languages = settings.source, settings.target
    config = job.config
    from_file = takes_features(config)
    if not from_file:  # one vector a picture: its regions are not asked for
        job = replace(job, config=replace(config, proposer=None, filters=(), fragmenter=None))
    vectors = job.features("train")
    rows = _rows(vectors)
    pairs = _pictured(job.train, languages, rows)
    beside: Sequence[CaptionPair] = ()
    if settings.mode == "cl2cm" and "teacher.data" in context.nested:
        beside = pair_captions(context.nested["teacher.data"], *languages)
    learned = [*pairs, *beside]
    # Of the pictures' captions alone, so that students of all modes begin as the same model.
    captions = (item.text for pair in pairs for item in (pair.source, pair.target))
    vocabulary = Vocabulary.of(captions, settings.text.min_count)

    def numbered(chosen: Sequence[CaptionPair], pictures: Mapping[str, int]) -> Pairs:
        return Pairs.of(chosen, pictures, vocabulary, settings.text.context_length, context.device)

    validation = None
    if job.validation is not None:
        held = job.features("validation")
        chosen = _pictured(job.validation, languages, _rows(held))
        validation = Pictured(numbered(chosen, _rows(held)), held.global_features.to(context.device))
    train = Pictured(numbered(pairs, rows), vectors.global_features.to(context.device))
    # Pictures of the two sets may have the same ids and are others all the same.
    others = {image_id: len(rows) + k for k, image_id in enumerate(dict.fromkeys(p.image_id for p in beside))}
    parallel = numbered(learned, rows) if not beside else train.pairs.joined(numbered(beside, others))
    described = [[pair.image_id, pair.source.text, pair.target.text] for pair in learned]
    shaping = settings.model_dump(mode="json", exclude={*CHANGEABLE})
    identity = run_identity(_shaping(config), shaping, context.seed, described)
    return Material(vocabulary, train, validation, parallel, from_file, identity)


def _rows(images: ImageFeatures) -> dict[str, int]:
    return {image_id: row for row, image_id in enumerate(images.ids)}


def _pictured(dataset: Dataset, languages: tuple[str, str], rows: Mapping[str, int]) -> list[CaptionPair]:
    """Return the pairs of captions whose picture has a vector."""
    pairs = [pair for pair in pair_captions(dataset, *languages) if pair.image_id in rows]
    if not pairs:
        raise DataError(f"{dataset.name}: has no pair of captions of a picture that can be read")
    return pairs


def _shaping(config: Config) -> dict[str, Any]:
    """Return the parts of a configuration, beside the trainer's settings, that shape the trained weights."""
    document = config.without_revisions()
    return {key: document.get(key) for key in ("encoder", "proposer")}
