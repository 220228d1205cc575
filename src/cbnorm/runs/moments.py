"""When the test set is read."""

import math
from collections.abc import Iterable


def moment_epochs(percents: Iterable[int], max_epochs: int) -> dict[int, int]:
    """Epoch (1 is the first) at whose end each moment is read, by per cent of the epochs.

    >>> moment_epochs([25, 50, 75, 100], 10)
    {25: 3, 50: 5, 75: 8, 100: 10}
    """
    return {percent: math.ceil(percent * max_epochs / 100) for percent in sorted(set(percents))}
