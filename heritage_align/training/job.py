"""What a trainer is asked to do, and what it gives back; what makes features is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from heritage_align.protocols import BuildContext

if TYPE_CHECKING:
    from heritage_align.config import Config
    from heritage_align.front_end import FrontEnd
    from heritage_align.plugins import Registry
    from heritage_align.protocols import Dataset
    from heritage_align.training.material import Material
    from heritage_align.training.state import TrainingState
    from heritage_align.types import ImageFeatures

FEATURES = "features"
"""Folder of a run for what its front end makes of the pictures."""
PICTURES = "pictures"
"""Folder of a run for which pictures cannot be read."""
TRAINED = "config.yaml"
"""The configuration that uses a run's model, in its folder."""
Part = Literal["train", "validation"]


@dataclass(frozen=True)
class TrainingJob:
    """One training run.

    Attributes:
        config: the whole configuration; the trainer's own settings are those that it was built with.
        train: what is learned from.
        validation: what early stopping and the choice of the best epoch look at; None where there is none.
        folder: where checkpoints, history and the result go.
        resume: go on from the folder's last checkpoint; False starts afresh and refuses a folder that holds a run.
        registry: where component names are looked up; None for the process's own.
        quiet: no progress bar.
        context: device, precision and seed of the run.
    """

    config: Config
    train: Dataset
    validation: Dataset | None
    folder: Path
    resume: bool = True
    registry: Registry | None = None
    quiet: bool = False
    context: BuildContext = field(default_factory=BuildContext)

    @cached_property
    def front_end(self) -> FrontEnd:
        """The configuration's encoders, proposer, filters and fragmenter, frozen, built when first used.

        Features that a proposer gives are handed on as they are: the model in training is what projects them.
        """
        from heritage_align.front_end import FrontEnd
        from heritage_align.plugins import default_registry

        return FrontEnd(self.config, self.context, self.registry or default_registry(), as_given=True)

    @property
    def held_out(self) -> bool:
        """Whether the validation data are a share of the training data, not a data set of their own."""
        component = self.config.train
        return self.validation is not None and component is not None and "validation" not in component.nested

    def features(self, part: Part) -> ImageFeatures:
        """Return the features of a part's pictures (see `training.material.features_of`)."""
        from heritage_align.training.material import features_of

        return features_of(self.front_end, self.dataset(part), self.folder / FEATURES / part, quiet=self.quiet)

    def material(self, part: Part) -> Material:
        """Return the features of a part's pictures with its texts (see `training.material.material_of`)."""
        from heritage_align.training.material import material_of

        return material_of(self.front_end, self.dataset(part), self.folder / FEATURES / part, quiet=self.quiet)

    def unreadable(self, part: Part) -> frozenset[str]:
        """Return which of a part's pictures cannot be read, for a trainer that decodes pictures in every epoch.

        Each is decoded once, by one of the run's processes (see `training.material.unreadable`).
        """
        from heritage_align.training.material import unreadable

        dataset, threads = self.dataset(part), self.config.runtime.threads()
        folder = self.folder / PICTURES / part
        return unreadable(dataset, dataset.image_ids, folder, workers=threads, quiet=self.quiet)

    def outcome(
        self, encoder: Mapping[str, Any], state: TrainingState | Mapping[str, float], files: Mapping[str, Path]
    ) -> TrainingOutcome:
        """Return the result of this run: its configuration with the trained model as its only encoder, no trainer.

        Args:
            encoder: settings of the trained encoder, of images and texts.
            state: the loop's last, of which the best epoch's record is taken; or metrics.
            files: what was written, beside the history.
        """
        from heritage_align.training.history import history_files

        metrics = dict(state) if isinstance(state, Mapping) else state.best_record()
        return TrainingOutcome(self._document(encoder), metrics, {**files, **history_files(self.folder)})

    def write_config(self, encoder: Mapping[str, Any]) -> None:
        """Write ``config.yaml`` of a model that has been exported, as it is written of the run's result.

        To be called by `fit` (its `exported`), so that the other commands can use the best model so far.

        Args:
            encoder: as of `outcome`.
        """
        write_trained(self._document(encoder), self.folder, self.registry)

    def _document(self, encoder: Mapping[str, Any]) -> dict[str, Any]:
        document = self.config.as_dict()
        document["encoder"] = dict(encoder)
        for section in ("text_encoder", "train"):
            document.pop(section, None)
        return document

    def dataset(self, part: Part) -> Dataset:
        """Return what a part names; raises ValueError for the validation of a run that has none."""
        dataset = self.train if part == "train" else self.validation
        if dataset is None:
            raise ValueError("validation: this run has none")
        return dataset


@dataclass(frozen=True)
class TrainingOutcome:
    """The result of a training run.

    Attributes:
        document: the configuration that uses the trained model, ready for `heritage_align.config.load_config`.
        metrics: of the best epoch, for example ``{"epoch": 12, "recall": 61.3}``; recalls in percent.
        files: what was written, by what it is.
    """

    document: Mapping[str, Any]
    metrics: Mapping[str, float]
    files: Mapping[str, Path] = field(default_factory=dict)


def write_trained(document: Mapping[str, Any], folder: Path, registry: Registry | None) -> None:
    """Write the configuration of a trained model into a run's folder, with absolute paths: it is used from anywhere.

    Args:
        document: the configuration; its relative paths are relative to the working directory, as everywhere.
        folder: of the run.
        registry: where component names are looked up; None for the process's own.

    Raises:
        ConfigError: the document is no configuration.
    """
    from heritage_align.config import load_config
    from heritage_align.store.files import write_text

    config = load_config(document, registry=registry, label=str(folder / TRAINED))
    write_text(folder / TRAINED, config.to_yaml(absolute=config.components()))
