"""A task that takes milliseconds: a line through noisy points, with dropout. Also a script, to be killed."""

from __future__ import annotations

import argparse
import os
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from heritage_align.training import distributed
from heritage_align.training.loop import RECALL, fit
from heritage_align.training.settings import TrainerConfig
from heritage_align.training.state import TrainingState

SETTINGS = {"epochs": 3, "learning_rate": 0.05, "clip_gradient": 1.0}
BATCHES = 4


class Points:
    """Sixteen points in four batches.

    Args:
        stop: ``(event, count)``: raise KeyboardInterrupt (or `die`) when an event (``step``, ``validate``, ``export``,
            ``exported``) comes for the count-th time.
        die: kill the process instead, as the kernel does.
        recalls: what validation says, one number a call; None computes it from the weights; () for no validation.
        losses: what is wrong with the loss, by the number of its update from 1.
        dropout: of the model.
    """

    def __init__(
        self, *, stop: tuple[str, int] | None = None, die: bool = False, recalls: Sequence[float] | None = None,
        losses: Mapping[int, float] | None = None, dropout: float = 0.25,
    ) -> None:  # fmt: skip
        generator = torch.Generator().manual_seed(5)
        self.x = torch.randn(16, 6, generator=generator)
        self.y = self.x.sum(1, keepdim=True) + torch.randn(16, 1, generator=generator)
        self.model = nn.Sequential(nn.Linear(6, 5), nn.Dropout(dropout), nn.Linear(5, 1))
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / 2)
        self.stop, self.die, self.recalls, self.losses = stop, die, recalls, losses or {}
        self.counts: dict[str, int] = {}
        self.rates: list[float] = []
        self.built: torch.optim.Optimizer | None = None

    def _count(self, event: str) -> None:
        self.counts[event] = self.counts.get(event, 0) + 1
        if self.stop == (event, self.counts[event]):
            if self.die:
                os.kill(os.getpid(), signal.SIGKILL)
            raise KeyboardInterrupt

    def parameters(self) -> Iterable[Tensor]:
        return self.model.parameters()

    def optimizer(self) -> torch.optim.Optimizer:
        self.built = torch.optim.Adam(self.model.parameters(), lr=0.05)
        return self.built

    def rate(self, update: int, updates: int) -> float:
        return 1 - update / updates

    def begin_epoch(self, epoch: int) -> list[Tensor]:
        order = torch.randperm(16, generator=torch.Generator().manual_seed(epoch))
        world = distributed.world_size()
        return [batch[distributed.rank() :: world] for batch in order.chunk(BATCHES)]

    def step(self, batch: Tensor, scale: Callable[[Tensor], Tensor]) -> Mapping[str, float]:
        self._count("step")
        assert self.built is not None
        self.rates.append(self.built.param_groups[0]["lr"])
        self.model.train()
        wrong = self.losses.get(self.counts["step"], 0.0)
        rows = distributed.gather(self.model(self.x[batch]))
        loss = (rows - distributed.gather(self.y[batch])).square().mean() + wrong
        scale(loss).backward()
        return {"loss": float(loss.detach())}

    def validate(self) -> Mapping[str, float]:
        self._count("validate")
        if self.recalls is not None:
            return {RECALL: self.recalls[self.counts["validate"] - 1]} if self.recalls else {}
        self.model.eval()
        with torch.no_grad():
            error = float((self.model(self.x) - self.y).square().mean())
        return {RECALL: 100 / (1 + error), "recall t2i": 50.0}

    def state(self) -> dict[str, Any]:
        return dict(self.model.state_dict())

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict(dict(state))

    def export(self, folder: Path) -> None:
        self._count("export")
        torch.save(self.model.state_dict(), folder / "exported.pt")
        self._count("exported")


def train(
    folder: Path, task: Points | None = None, *, resume: bool = True, identity: str = "toy", quiet: bool = True,
    start: bool = False, until: int | None = None, **settings: Any,
) -> TrainingState:  # fmt: skip
    folder.mkdir(exist_ok=True)
    config = TrainerConfig(**{**SETTINGS, **settings})
    return fit(
        task or Points(),
        config,
        folder,
        identity=identity,
        seed=3,
        resume=resume,
        quiet=quiet,
        start=start,
        until=until,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kill", nargs=2, default=("never", "0"))
    parser.add_argument("--checkpoint-steps", type=int)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    event, count = arguments.kill
    with distributed.process_group("cpu"):
        points = Points(stop=(event, int(count)), die=True, dropout=0.25 if distributed.world_size() == 1 else 0.0)
        train(arguments.folder, points, checkpoint_steps=arguments.checkpoint_steps)
