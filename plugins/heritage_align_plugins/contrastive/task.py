"""What the training loop runs: model, batches, loss, validation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from heritage_align.plugin import Encoder
from heritage_align.training import distributed
from heritage_align_plugins.contrastive.collection import DatasetView
from heritage_align_plugins.contrastive.config import ContrastiveConfig
from heritage_align_plugins.contrastive.export import export_model
from heritage_align_plugins.contrastive.feeding import Batch, Feeder, Prepare, Tokens, shares
from heritage_align_plugins.contrastive.gallery import Gallery
from heritage_align_plugins.contrastive.golden_phrases import GoldenPhrases
from heritage_align_plugins.contrastive.gradient_cache import backward_in_parts
from heritage_align_plugins.contrastive.loss import distillation, info_nce, patch_contrast, region_contrast
from heritage_align_plugins.contrastive.optimizer import build_optimizer
from heritage_align_plugins.contrastive.pairs import Pairs, draw_batches
from heritage_align_plugins.contrastive.relations import Relations
from heritage_align_plugins.contrastive.stages import Schedule, Stage, check_parts, freeze, stages_of
from heritage_align_plugins.contrastive.student import Student


class ContrastiveTask:
    """Contrastive training of a cn_clip model; a `heritage_align.training.loop.Task`.

    A tower that a stage freezes encodes every picture (text) once, and the stage's steps take the features from there;
    so does the teacher, unless pictures are changed from epoch to epoch.

    Args:
        student: the model.
        config: settings.
        pairs: what is learned from.
        train: the same pictures and texts, to be encoded.
        validation: what recall is measured on; None for none.
        teacher: encoder whose picture features are distilled.
        seed: of the batches and of changes to pictures.

    Raises:
        ConfigError: a stage freezes a part that the model does not have.
    """

    def __init__(
        self, student: Student, config: ContrastiveConfig, pairs: Pairs, train: DatasetView,
        validation: DatasetView | None, teacher: Encoder | None, seed: int,
    ) -> None:  # fmt: skip
        self._student, self._config, self._pairs, self._train = student, config, pairs, train
        self._validation, self._teacher, self._seed = validation, teacher, seed
        self._schedule = Schedule(stages_of(config), config.learning_rate)
        check_parts(student.model, config)
        self._relations = Relations(pairs, config.positives, config.negatives, student.device)
        self._gallery: Gallery | None = None
        if validation is not None:
            self._gallery = Gallery(validation.image_ids, validation.texts, config.recall_at)
        self._golden: GoldenPhrases | None = None
        if config.learns_from_golden:
            grid = student.architecture.patch_grid
            assert grid is not None, "the trainer refuses a ResNet"
            self._golden = GoldenPhrases(train.dataset, train.image_ids, grid[0])
            self._phrase_tokens = Tokens(
                list(self._golden.rows), student.architecture.context_length, student.characters
            )
        self._epoch = 0
        self._stage: Stage | None = None
        self._images: Tensor | None = None
        self._texts: Tensor | None = None
        self._teachers: Tensor | None = None
        self._feeder: Feeder | None = None

    def parameters(self) -> Iterable[Tensor]:
        """Return the model's parameters, trained or frozen."""
        return self._student.model.parameters()

    def optimizer(self) -> torch.optim.Optimizer:
        """Build AdamW (see `build_optimizer`)."""
        return build_optimizer(self._student.model, self._config)

    def rate(self, update: int, updates: int) -> float:
        """Return the factor of the learning rate (see `Schedule.rate`)."""
        return self._schedule.rate(update, updates)

    def begin_epoch(self, epoch: int) -> Sequence[Batch]:
        """Draw the epoch's batches; at a stage's beginning encode what it freezes."""
        self._epoch = epoch
        stage = self._schedule.stage(epoch)[0]
        freeze(self._student.model, stage)  # in every epoch, as validation leaves all in evaluation mode
        if stage is not self._stage:
            self._enter(stage)
        generator = np.random.default_rng((self._seed, epoch))
        drawn = draw_batches(
            self._pairs, self._config.batch_size, self._config.captions, generator, self._config.together
        )
        batches = shares(drawn, distributed.rank(), distributed.world_size())
        if self._feeder is not None:
            self._feeder.begin(epoch, batches)
        return batches

    def step(self, batch: Batch, scale: Callable[[Tensor], Tensor]) -> Mapping[str, float]:
        """Add the gradient of the whole batch's loss, over all processes; returns ``loss`` and its terms."""
        pixels = list(self._feeder.take(batch)) if self._feeder is not None else []
        seen = pixels.pop(0) if self._images is None else None
        size = len(batch.pictures) // self._config.accumulate
        teachers = self._taught(batch, pixels, size)
        positive, compared = self._relations.of(batch)

        patches: list[Tensor] = []

        def encode(part: int) -> tuple[Tensor, Tensor]:
            rows = slice(part * size, (part + 1) * size)
            if self._golden is None:
                return self._pictures(batch, seen, rows), self._captions(batch, rows)
            assert seen is not None
            images, shown = self._student.views(seen)
            patches.append(shown)
            return images, self._captions(batch, rows)

        def losses(images: Tensor, texts: Tensor) -> dict[str, Tensor]:
            every = distributed.gather(images)
            inverse = self._student.model.logit_scale.exp()
            contrast = info_nce(every, distributed.gather(texts), inverse, positive, compared)
            terms: dict[str, tuple[float, Tensor]] = {}
            if patches:
                terms |= self._part_contrasts(batch, patches[0])
            if teachers is not None:
                distance = distillation(every, distributed.gather(teachers))
                terms["loss_distillation"] = self._config.distillation_weight, distance
            if not terms:
                return {"loss": contrast}
            total = contrast + sum(weight * term for weight, term in terms.values())
            return {"loss": total, "loss_contrastive": contrast, **{name: term for name, (_, term) in terms.items()}}

        return backward_in_parts(encode, self._config.accumulate, losses, scale)

    def validate(self) -> Mapping[str, float]:
        """Return recalls over the whole validation set; {} without one."""
        part, student = self._validation, self._student
        if self._gallery is None or part is None:
            return {}
        locked, dim = student.images_are_frozen, student.architecture.embed_dim
        size = student.architecture.image_resolution
        student.model.eval()
        return self._gallery.recalls(
            lambda: part.encode_pictures(student.prepare, student.images, dim, "validation pictures", size),
            lambda: part.encode_texts(student.texts, dim, "validation texts"),
            locked=locked,
        )

    def state(self) -> dict[str, Any]:
        """Return the model's tensors."""
        return dict(self._student.model.state_dict())

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take the model's tensors back."""
        self._student.model.load_state_dict(state)
        self._stage = None  # what was encoded with other weights is encoded again

    def export(self, folder: Path) -> None:
        """Write the model for both loaders (see `export_model`)."""
        student, dtype = self._student, self._config.export_dtype
        export_model(student.model, student.architecture, folder, epoch=self._epoch + 1, dtype=dtype)

    def close(self) -> None:
        """Stop the threads."""
        if self._feeder is not None:
            self._feeder.close()

    def _enter(self, stage: Stage) -> None:
        """Encode what a stage freezes, and set who has to look at the pictures in its steps."""
        self.close()
        student, config, teacher = self._student, self._config, self._teacher
        dim, size = student.architecture.embed_dim, student.architecture.image_resolution
        self._images = self._texts = None
        if config.augmentation is None and not config.mask_ratio and student.images_are_frozen:
            self._images = self._train.encode_pictures(student.prepare, student.images, dim, "locked pictures", size)
        if student.texts_are_frozen:
            self._texts = self._train.encode_texts(student.texts, dim, "locked texts")
        if teacher is not None and config.augmentation is None and self._teachers is None:
            label = "the teacher's pictures"
            self._teachers = self._train.encode_pictures(teacher.prepare, self._teach, teacher.dim, label)
        looking: list[Prepare] = [student.prepare] if self._images is None else []
        if teacher is not None and self._teachers is None:
            looking.append(teacher.prepare)
        self._feeder = self._train.feeder(looking, config.augmentation, size, self._seed) if looking else None
        self._stage = stage

    def _pictures(self, batch: Batch, pixels: Tensor | None, rows: slice) -> Tensor:
        if self._images is not None:
            return self._images[list(batch.pictures[rows])]
        assert pixels is not None
        return self._student.images(pixels[rows], self._config.mask_ratio)

    def _captions(self, batch: Batch, rows: slice) -> Tensor:
        if self._texts is not None:
            return self._texts[list(batch.texts[rows])]
        return self._student.texts(self._train.tokens(batch.texts[rows]))

    def _part_contrasts(self, batch: Batch, patches: Tensor) -> dict[str, tuple[float, Tensor]]:
        """Contrast this process's patches ``(n, n_patches, dim)`` and regions with the phrases of its pictures.

        Returns weights and losses by the names that the history gives them.
        """
        golden, student, config = self._golden, self._student, self._config
        assert golden is not None
        sizes = [self._train.sizes[row] for row in batch.pictures]
        alternative = int(torch.randint(golden.alternatives, ()))  # one language a step
        shown = golden.batch(batch.pictures, sizes, alternative)
        weights = {"loss_patches": config.patch_weight, "loss_regions": config.region_weight}
        weights = {name: weight for name, weight in weights.items() if weight}
        if not shown.phrases:
            return {name: (weight, patches.sum() * 0.0) for name, weight in weights.items()}
        phrases = student.texts(self._phrase_tokens([golden.rows[phrase] for phrase in shown.phrases]))
        scale, device = student.model.logit_scale.exp(), student.device
        terms: dict[str, Tensor] = {}
        if "loss_patches" in weights:
            labels = torch.from_numpy(shown.patches).to(device)
            terms["loss_patches"] = patch_contrast(patches, labels, phrases, scale)
        if "loss_regions" in weights:
            labels, boxes = torch.from_numpy(shown.regions).to(device), [torch.from_numpy(box) for box in shown.boxes]
            terms["loss_regions"] = region_contrast(patches, boxes, labels, phrases, scale)
        return {name: (weights[name], term) for name, term in terms.items()}

    def _taught(self, batch: Batch, pixels: Sequence[Tensor], size: int) -> Tensor | None:
        """Return the teacher's features ``(n, teacher_dim)`` of a batch's pictures, as they are shown in it."""
        if self._teacher is None:
            return None
        if self._teachers is not None:
            return self._teachers[list(batch.pictures)]
        return torch.cat([self._teach(part) for part in pixels[0].split(size)])

    def _teach(self, pixels: Tensor) -> Tensor:
        assert self._teacher is not None
        # Encoders work in inference mode, whose tensors no backward pass may keep.
        return self._teacher.encode_pixels(pixels).global_features.to(self._student.device).clone()
