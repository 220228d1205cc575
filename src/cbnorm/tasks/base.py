"""What a run trains and how it is read, whatever is learned."""

from dataclasses import dataclass, field
from typing import Any, Protocol

import cbnorm._torchvision  # noqa: F401  (before lightning)

import lightning
import torch
from torch import Tensor, nn

from cbnorm.config.schema import OptimizerConfig
from cbnorm.tasks.optimizers import create_optimizer
from cbnorm.tasks.schedules import rate_factor, set_rate

Metrics = dict[str, float | None]


class Task(lightning.LightningModule):
    """What all tasks share: a network, an optimizer, a schedule, and sums over the epoch.

    A checkpoint keeps the network, all optimizers and `totals`; everything else that a step needs must follow
    from the seed, the step's number and the batch. torch's global generators are seeded before every step.

    Args:
        model: The network, or everything that is learned.
        optimizer: Which optimizer, with its options.
        steps: Training steps of the whole run, for the schedule of the rate.
        bf16: Run forward passes under bfloat16 autocast (weights, losses and statistics stay float32).
        sums: How many sums over the epoch the task keeps.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: OptimizerConfig,
        *,
        steps: int = 1,
        bf16: bool = False,
        sums: int = 3,
    ) -> None:
        super().__init__()
        self.model, self.optimizer, self.bf16 = model, optimizer, bf16
        self.step, self.steps = 0, steps
        # Sums over the epoch stay on the device: reading them each step would wait for it.
        self.register_buffer("totals", torch.zeros(sums), persistent=False)
        self.totals: Tensor

    def begin_step(self, step: int) -> None:
        """Prepare for a training step: the rate follows the schedule.

        Args:
            step: Steps done since the run began.
        """
        self.step = step
        if self.optimizer.schedule == "constant":
            return
        rate = self.optimizer.lr * rate_factor(self.optimizer, step, self.steps)
        for optimizer in self.all_optimizers():
            set_rate(optimizer, rate)

    def all_optimizers(self) -> list[torch.optim.Optimizer]:
        """The optimizers in use while a trainer drives this task."""
        return list(self.trainer.optimizers)

    def finish_epoch(self) -> Metrics:
        """Mean training loss since the last call; the sums start anew.

        The first sum is of losses times images, the last of images.
        """
        totals = self.totals.tolist()
        self.totals.zero_()
        return {"train_loss": totals[0] / max(totals[-1], 1)}

    def configure_optimizers(self) -> Any:
        """The configured optimizer over the whole network."""
        return create_optimizer(self.model, self.optimizer)


@dataclass(frozen=True)
class Reading:
    """What the test set says about a network.

    Attributes:
        metrics: Numbers by name; those of a further condition are called ``CONDITION.METRIC``. None: not a
            finite number.
        arrays: Small tensors that are kept, of integers or half-precision numbers, by name.
        files: Small files that are kept, such as ``samples.png``, by name.
    """

    metrics: Metrics
    arrays: dict[str, Tensor] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)


class Reader(Protocol):
    """How a task is read: the one place that sees validation and test images."""

    def validate(self, task: Any) -> Metrics:
        """What goes into the history after every epoch."""
        ...

    def score(self, row: Metrics) -> float | None:
        """By what the best weights are selected, larger is better; None: nothing is, the last weights count.

        Args:
            row: What :meth:`validate` said.
        """
        ...

    def read(self, task: Any) -> Reading:
        """Read the test set."""
        ...
