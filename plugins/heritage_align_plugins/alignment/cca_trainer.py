"""The linear baseline: a CCA of whole images and bags of words, used like every other trained model."""

from __future__ import annotations

from typing import Any

from heritage_align.evaluation import evaluate_scores
from heritage_align.plugin import BuildContext, default_registry
from heritage_align.training import RECALL, TrainingJob, TrainingOutcome
from heritage_align_plugins.alignment.collected import collect
from heritage_align_plugins.alignment.config import AlignmentTrainerConfig, CcaTrainerConfig
from heritage_align_plugins.alignment.settings import ModelSettings
from heritage_align_plugins.alignment.side import Side
from heritage_align_plugins.alignment.task import MODEL, AlignmentTask
from heritage_align_plugins.alignment.trainer import build_model, build_similarity, trained_document


class CcaTrainer:
    """Fits in one go: no epochs, nothing to resume."""

    def __init__(self, config: CcaTrainerConfig, context: BuildContext) -> None:
        self.config = config
        self._context = context

    def train(self, job: TrainingJob) -> TrainingOutcome:
        """Fit and write the model; raises DataError where the data set cannot be fitted."""
        registry = job.registry or default_registry()
        side = Side.of(job.config, self._context, registry)
        options: dict[str, Any] = {"batch_size": job.config.runtime.batch_size, "workers": job.config.runtime.threads()}
        train = collect(job.train, side, quiet=job.quiet, **options)
        validation = collect(job.validation, side, quiet=job.quiet, **options) if job.validation is not None else None
        config = self.config
        settings = AlignmentTrainerConfig(
            model=ModelSettings(
                dim=config.dim,
                text=("bag",),
                min_count=config.min_count,
                min_pairs=config.min_pairs,
                pieces=config.pieces,
                whole=config.whole,
                sentence="whole",
            ).resolved(side.raw),
            warm_start=config.cca,
        )
        model = build_model(settings, train, None, self._context.seed)
        similarity = build_similarity(job.config, self._context, registry)
        task = AlignmentTask(model, similarity, settings, train, validation, self._context.seed, side.raw)
        task.export(job.folder)
        metrics: dict[str, float] = {}
        if validation is not None:
            result = evaluate_scores(task.scores(validation), validation.images.ids, validation.items)
            metrics[RECALL] = result.mean_recall
        document = trained_document(job.config, job.folder / MODEL, side.raw, settings)
        return TrainingOutcome(document, metrics, {"model": job.folder / MODEL})
