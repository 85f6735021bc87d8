"""The training loop: epochs, checkpoints, exact resume, early stopping, history. The task brings model and loss."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from heritage_align.errors import DataError
from heritage_align.store.files import write_text
from heritage_align.training import distributed
from heritage_align.training.history import HISTORY, write_history
from heritage_align.training.progress import EpochLog
from heritage_align.training.settings import TrainerConfig
from heritage_align.training.state import LAST, TrainingState, load_state, save_state

RECALL = "recall"
"""Key of the number that validation is judged by: mean recall in percent, higher is better."""
DRAW_EVERY = 10.0
"""Seconds between pictures of the history while a run goes on: one costs 0.2 s, as much as a short epoch."""


class Task(Protocol):
    """What is trained. Everything random in it must follow from torch's seed, which the loop sets before each step."""

    def parameters(self) -> Iterable[Tensor]:
        """Return the parameters, trained or frozen."""

    def optimizer(self) -> torch.optim.Optimizer:
        """Build the optimiser; a group's ``lr`` is its peak and is multiplied by `rate`."""

    def rate(self, update: int, updates: int) -> float:
        """Return the factor of the learning rate for update `update` (from 0) of `updates`."""

    def begin_epoch(self, epoch: int) -> Sequence[Any]:
        """Set what changes by the epoch (from 0) and return its batches, this process's share of each.

        Their order must depend on nothing but the epoch and the run's seed; their number not even on the epoch.
        """

    def step(self, batch: Any, scale: Callable[[Tensor], Tensor]) -> Mapping[str, float]:
        """Compute the loss of a batch and run ``scale(loss).backward()``; returns losses by name, unscaled.

        Names begin with ``loss``. With several processes the loss is that of all their rows (`distributed.gather`).
        """

    def validate(self) -> Mapping[str, float]:
        """Return metrics with `RECALL`; {} where there is nothing to validate on."""

    def state(self) -> dict[str, Any]:
        """Return everything that is learned, as tensors and plain containers."""

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` returned."""

    def export(self, folder: Path) -> None:
        """Write the model as it now is, under the name under which it will be used."""


def fit(
    task: Task, settings: TrainerConfig, folder: Path, *, identity: str, seed: int, resume: bool = True,
    quiet: bool = False, exported: Callable[[], None] | None = None, start: bool = False, until: int | None = None,
) -> TrainingState:  # fmt: skip
    """Train, or go on where a killed run stopped: the weights come out the same to the last bit on the same machine.

    A checkpoint is written after every epoch and every `checkpoint_steps`; the best epoch's model is exported as soon
    as it is known to be the best (the last epoch's without validation).

    A run may go on to another number of epochs than it was begun for: fewer than it has end it with what it has, else
    the learning rate is from there on that of the new number. stderr says so.

    Args:
        task: model, batches, loss, validation.
        settings: epochs, precision, patience and the like.
        folder: for ``last.pt``, ``history.jsonl``, ``history.svg`` and what the task exports.
        identity: what the run is of; a checkpoint of another is refused (see `run_identity`).
        seed: of every step's randomness, with the step's number.
        resume: False refuses a folder that holds a run.
        quiet: no progress bar, and where stderr is no terminal no line an epoch.
        exported: called in the first process after each export, for what tells others how to use the model
            (`TrainingJob.write_config`).
        start: the model is of use before its first step (a warm start, a pretrained one): where there is validation it
            is measured and exported as epoch 0, and stays the result unless an epoch is better.
        until: end after this many epochs, the learning rates being those of a run of `settings.epochs`; None for all.

    Returns:
        The final state; `TrainingState.history` has one record an epoch, with `start` one of epoch 0 before them.

    Raises:
        CheckpointError: the folder's checkpoint is damaged or of another run.
        DataError: `resume` is False and the folder holds a run, or a loss is not finite.
    """
    if not resume and (folder / LAST).exists():
        raise DataError(f"{folder}: holds a run already; resume it or train into another folder")
    optimizer = task.optimizer()
    peaks = [group["lr"] for group in optimizer.param_groups]
    device = next(iter(task.parameters())).device
    # Only fp16 underflows; the scaler is a no-op elsewhere.
    scaler = torch.amp.GradScaler(device.type, enabled=settings.precision == "fp16")
    state = load_state(folder, identity)
    log = EpochLog(min(settings.epochs, until or settings.epochs), shown=_speaks(quiet))
    if state is None:
        state = TrainingState(identity, settings.epochs)
        if start:
            _measure_start(state, task, folder, exported, log)
    else:
        task.load_state(state.model)
        optimizer.load_state_dict(state.optimizer)
        scaler.load_state_dict(state.scaler)
        _change_epochs(state, settings, folder, quiet)
    drawn = time.perf_counter()
    while not _is_done(state, settings, until):
        batches = task.begin_epoch(state.epoch)
        if not batches:
            raise DataError("training data: not a single batch; lower batch_size or give more pictures")
        total = settings.epochs * len(batches)
        started = time.perf_counter()
        log.epoch_begins()
        with tqdm(
            total=len(batches), initial=state.step, desc=f"epoch {state.epoch + 1}/{settings.epochs}", unit="step",
            leave=False, disable=True if quiet or distributed.rank() else None,
        ) as bar:  # fmt: skip
            for batch in batches[state.step :]:
                torch.manual_seed(step_seed(seed, state.updates))
                factor = task.rate(state.updates, total)
                for group, peak in zip(optimizer.param_groups, peaks):
                    group["lr"] = peak * factor
                optimizer.zero_grad(set_to_none=True)
                losses = task.step(batch, scaler.scale)
                _update(task, optimizer, scaler, settings)
                _add(state, losses)
                log.step_done(state.epoch, len(batches))
                bar.update()
                bar.set_postfix({name: f"{value:.3g}" for name, value in losses.items()}, refresh=False)
                inside = settings.checkpoint_steps and state.step % settings.checkpoint_steps == 0
                if inside and state.step < len(batches):
                    state.seconds, started = state.seconds + time.perf_counter() - started, time.perf_counter()
                    _save(state, task, optimizer, scaler, folder)
        state.seconds += time.perf_counter() - started
        _end_epoch(state, task, settings, folder, peaks[0] * factor, exported)
        log.epoch_done(state.history[-1])
        if distributed.rank() == 0 and (_is_done(state, settings, until) or time.perf_counter() - drawn > DRAW_EVERY):
            write_history(state.history, folder)
            drawn = time.perf_counter()
        _save(state, task, optimizer, scaler, folder)
    return state


def run_identity(*parts: Any) -> str:
    """Return a digest of what a run is of: JSON-ready parts, and tensors of numbers, for which any may be None."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Tensor):
            digest.update(np.ascontiguousarray(part.cpu().numpy()).data)
        else:
            digest.update(json.dumps(part, sort_keys=True, ensure_ascii=False).encode())
        digest.update(b"\n")
    return digest.hexdigest()


def step_seed(seed: int, update: int) -> int:
    """Return the seed of one step of this process: no random state has to be kept in a checkpoint."""
    digest = hashlib.sha256(f"{seed}/{update}/{distributed.rank()}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1  # torch wants 63 bits


def _update(
    task: Task, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, settings: TrainerConfig
) -> None:
    distributed.average_gradients(task.parameters())
    if scaler.is_enabled():
        scaler.unscale_(optimizer)
    if settings.clip_gradient is not None:
        trained = [parameter for parameter in task.parameters() if parameter.grad is not None]
        torch.nn.utils.clip_grad_norm_(trained, settings.clip_gradient)
    if scaler.is_enabled():
        scaler.step(optimizer)
        scaler.update()
    else:
        optimizer.step()


def _add(state: TrainingState, losses: Mapping[str, float]) -> None:
    for name, value in losses.items():
        if value != value or value in (float("inf"), float("-inf")):
            raise DataError(
                f"epoch {state.epoch + 1}, step {state.step + 1}: {name} is {value}; the checkpoint before it is kept. "
                "Lower learning_rate, or look for features that are not finite"
            )
        state.sums[name] = state.sums.get(name, 0.0) + value
    state.step += 1
    state.updates += 1


def _end_epoch(
    state: TrainingState, task: Task, settings: TrainerConfig, folder: Path, learning_rate: float,
    exported: Callable[[], None] | None,
) -> None:  # fmt: skip
    state.epoch += 1
    record = {"epoch": float(state.epoch), "learning_rate": learning_rate, "seconds": round(state.seconds, 3)}
    record |= {name: value / state.step for name, value in state.sums.items()}
    due = state.epoch % settings.validate_every == 0 or state.epoch == settings.epochs
    metrics = dict(task.validate()) if due else {}
    recall = _recall_of(metrics)
    if recall is not None:
        record |= metrics
        better = state.best is None or recall > state.best
        state.stale = 0 if better else state.stale + 1
        if better:
            state.best, state.best_epoch = recall, state.epoch
    state.history.append(record)
    state.step, state.sums = 0, {}
    if distributed.rank() == 0:
        if state.best is None or state.best_epoch == state.epoch:
            _export(task, folder, exported)
        _write_records(state, folder)


def _measure_start(
    state: TrainingState, task: Task, folder: Path, exported: Callable[[], None] | None, log: EpochLog
) -> None:
    """Take the model as it begins for the best so far; a task that has nothing to validate on begins with none."""
    metrics = dict(task.validate())
    recall = _recall_of(metrics)
    if recall is None:
        return
    state.best = recall
    state.history.append({"epoch": 0.0, **metrics})
    if distributed.rank() == 0:
        _export(task, folder, exported)
        _write_records(state, folder)
    log.start_measured(metrics)


def _recall_of(metrics: Mapping[str, float]) -> float | None:
    recall = metrics.get(RECALL)
    # Rounding may differ between machines, the decision must not.
    return None if recall is None else distributed.from_first(recall)


def _export(task: Task, folder: Path, exported: Callable[[], None] | None) -> None:
    task.export(folder)
    if exported is not None:
        exported()


def _write_records(state: TrainingState, folder: Path) -> None:
    write_text(folder / HISTORY, "".join(json.dumps(line) + "\n" for line in state.history))


def _speaks(quiet: bool) -> bool:
    """Whether this process says a line an epoch: the first one, where no terminal has a bar."""
    return not (quiet or distributed.rank() or sys.stderr.isatty())


def _save(
    state: TrainingState, task: Task, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, folder: Path
) -> None:
    state.model, state.optimizer, state.scaler = task.state(), optimizer.state_dict(), scaler.state_dict()
    if distributed.rank() == 0:
        save_state(state, folder)
    distributed.barrier()


def _change_epochs(state: TrainingState, settings: TrainerConfig, folder: Path, quiet: bool) -> None:
    """Take the number of epochs that is asked for now, and say what that means where it is another."""
    if state.epochs == settings.epochs:
        return
    if _is_done(state, settings):
        said = f"has {state.epoch} epochs, {settings.epochs} are asked for: it ends with what it has"
    else:
        said = (
            f"was begun for {state.epochs} epochs and goes on to {settings.epochs}; "
            f"from epoch {state.epoch + 1} on the learning rate is that of a run of {settings.epochs}"
        )
    if not quiet and distributed.rank() == 0:
        print(f"{folder}: {said}", file=sys.stderr)
    state.epochs = settings.epochs


def _is_done(state: TrainingState, settings: TrainerConfig, until: int | None = None) -> bool:
    stale = settings.patience is not None and state.stale >= settings.patience
    return stale or state.epoch >= min(settings.epochs, until or settings.epochs)
