"""How long a sweep may take, and what a run needs before it is worth starting. Imports no torch."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

#: Seconds between the checkpoints of a run at least; what is lost is trained again, to the same numbers.
#: Those of large networks are further apart (:mod:`cbnorm.runs.resume`); a run asked to stop saves at once.
CHECKPOINT_INTERVAL = 20.0


@dataclass(frozen=True)
class Limit:
    """When a sweep is over, by the clock of :func:`time.monotonic`, which all processes of a machine share.

    Attributes:
        stop: When the runs are asked to save and stop.
        end: When those that have not done so are killed; they keep their last checkpoint.
        needs: By a run's id, the seconds from its start until it has saved a checkpoint or ended.
    """

    stop: float
    end: float
    needs: Mapping[str, float]

    def allows(self, run: str, *, delay: float = 0.0) -> bool:
        """Whether a run that starts after `delay` seconds reaches a checkpoint, or its end, in time."""
        return time.monotonic() + delay + self.needs[run] <= self.stop
