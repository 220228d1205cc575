"""When the test set is read."""

import math
from collections.abc import Iterable, Mapping
from typing import Any


def moment_epochs(percents: Iterable[int], max_epochs: int) -> dict[int, int]:
    """Epoch (1 is the first) at whose end each moment is read, by per cent of the epochs.

    >>> moment_epochs([25, 50, 75, 100], 10)
    {25: 3, 50: 5, 75: 8, 100: 10}
    """
    return {percent: math.ceil(percent * max_epochs / 100) for percent in sorted(set(percents))}


def called(entry: Mapping[str, Any]) -> str:
    """What a reading of the test set is called: its place in per cent of the epochs, or why there is one.

    >>> called({"percent": 50}), called({"percent": None, "stopped": True}), called({"percent": None})
    ('50 %', 'stop', 'end')
    """
    if entry["percent"] is not None:
        return f"{entry['percent']} %"
    # Where early stopping would have ended the run; else where it diverged.
    return "stop" if entry.get("stopped") else "end"
