"""What a run learns from: captions in pairs, as tokens, and one vector a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from heritage_align.data import CaptionPair, pair_captions
from heritage_align.plugin import BuildContext, Config, default_registry
from heritage_align.training import TrainingJob, run_identity
from heritage_align_plugins.cl2cm.config import Cl2cmTrainerConfig
from heritage_align_plugins.cl2cm.pairs import Pairs
from heritage_align_plugins.cl2cm.vectors import VectorSource
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
        ConfigError: the features cannot be read from a file.
        DataError: captions do not come in pairs, or no picture of a pair can be read.
    """
    languages = settings.source, settings.target
    source = VectorSource(job.config, context, job.registry or default_registry(), job.folder, quiet=job.quiet)
    vectors = source.vectors(job.train, "train")
    pairs = vectors.of(pair_captions(job.train, *languages), job.train.name)
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
        held = source.vectors(job.validation, "validation")
        chosen = held.of(pair_captions(job.validation, *languages), job.validation.name)
        validation = Pictured(numbered(chosen, held.rows), held.values)
    train = Pictured(numbered(pairs, vectors.rows), vectors.values)
    # Pictures of the two sets may have the same ids and are others all the same.
    others = {image_id: len(vectors.rows) + k for k, image_id in enumerate(dict.fromkeys(p.image_id for p in beside))}
    parallel = numbered(learned, vectors.rows) if not beside else train.pairs.joined(numbered(beside, others))
    described = [[pair.image_id, pair.source.text, pair.target.text] for pair in learned]
    identity = run_identity(_shaping(job.config), settings.model_dump(mode="json"), context.seed, described)
    return Material(vocabulary, train, validation, parallel, source.from_file, identity)


def _shaping(config: Config) -> dict[str, Any]:
    """Return the parts of a configuration, beside the trainer's settings, that shape the trained weights."""
    document = config.as_dict()
    return {key: document.get(key) for key in ("encoder", "proposer")}
