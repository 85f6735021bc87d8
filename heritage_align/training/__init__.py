"""What trainers are written with: the job, the loop with its checkpoints and history, several processes.

    >>> from heritage_align.training import TrainerConfig
    >>> class SilkConfig(TrainerConfig):
    ...     margin: float = 0.2
    >>> settings = SilkConfig(epochs=3)
    >>> settings.epochs, settings.batch_size, settings.margin
    (3, 128, 0.2)

A trainer (kind ``trainer``) takes a `TrainingJob`, hands a `Task` to `fit`, and returns the job's `TrainingOutcome`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = [
    "CHANGEABLE",
    "RECALL",
    "FrontEnd",
    "Material",
    "Task",
    "TrainerConfig",
    "TrainingJob",
    "TrainingOutcome",
    "TrainingState",
    "fit",
    "run_identity",
    "run_training",
]

if TYPE_CHECKING:
    from heritage_align.front_end import FrontEnd
    from heritage_align.training.job import TrainingJob, TrainingOutcome
    from heritage_align.training.loop import RECALL, Task, fit, run_identity
    from heritage_align.training.material import Material
    from heritage_align.training.run import run_training
    from heritage_align.training.settings import CHANGEABLE, TrainerConfig
    from heritage_align.training.state import TrainingState

_PLACES = {
    "heritage_align.front_end": ("FrontEnd",),
    "heritage_align.training.job": ("TrainingJob", "TrainingOutcome"),
    "heritage_align.training.loop": ("RECALL", "Task", "fit", "run_identity"),
    "heritage_align.training.material": ("Material",),
    "heritage_align.training.run": ("run_training",),
    "heritage_align.training.settings": ("CHANGEABLE", "TrainerConfig"),
    "heritage_align.training.state": ("TrainingState",),
}


if not TYPE_CHECKING:  # a checker would take any name from a module with __getattr__

    def __getattr__(name: str) -> Any:
        from heritage_align.exports import look_up

        return look_up(__name__, name, _PLACES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
