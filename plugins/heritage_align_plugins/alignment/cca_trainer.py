"""The linear baseline: a CCA of whole images and bags of words, used like every other trained model."""

from __future__ import annotations

from heritage_align.evaluation import evaluate_scores
from heritage_align.plugin import BuildContext
from heritage_align.training import RECALL, TrainingJob, TrainingOutcome
from heritage_align_plugins.alignment.config import AlignmentTrainerConfig, CcaTrainerConfig
from heritage_align_plugins.alignment.settings import ModelSettings
from heritage_align_plugins.alignment.task import MODEL
from heritage_align_plugins.alignment.trainer import build_task, refuse_bare, trained_encoder


class CcaTrainer:
    """Fits in one go: no epochs, nothing to resume."""

    def __init__(self, config: CcaTrainerConfig, context: BuildContext) -> None:
        self.config = config
        self._context = context

    def train(self, job: TrainingJob) -> TrainingOutcome:
        """Fit and write the model; raises DataError where the data set cannot be fitted.

        The recall is of a fit without the validation data. Where these were held out of the training data, the model
        is then fitted again on all of them: there is nothing else that they were kept back for.
        """
        refuse_bare(job.config)
        train = job.material("train")
        validation = job.material("validation") if job.validation is not None else None
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
            ).resolved(job.front_end.as_given),
            warm_start=config.cca,
        )
        task = build_task(job, settings, train, validation, None)
        metrics: dict[str, float] = {}
        if validation is not None:
            result = evaluate_scores(task.scores(validation), validation.images.ids, validation.items)
            metrics[RECALL] = result.mean_recall
            if job.held_out:
                task = build_task(job, settings, train.joined(validation), None, None)
        task.export(job.folder)
        encoder = trained_encoder(job, job.folder / MODEL, settings)
        return job.outcome(encoder, metrics, {"model": job.folder / MODEL})
