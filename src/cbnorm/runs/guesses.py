"""What a classifier of groups, a run of its own, says of the test images of another run."""

import sys

import torch
from torch import Tensor

from cbnorm.config.schema import RunConfig
from cbnorm.errors import CbnormError
from cbnorm.runs.files import read_arrays
from cbnorm.runs.identity import run_id
from cbnorm.runs.needed import group_classifier
from cbnorm.runs.store import Store


def tell(config: RunConfig, other: RunConfig) -> None:
    """Say that a run waits for another one."""
    print(
        f"cbnorm: {'/'.join(config.task.readings)} need a classifier of {config.task.group}: "
        f"training run {run_id(other)} first",
        file=sys.stderr,
        flush=True,
    )


def probabilities(config: RunConfig) -> tuple[Tensor, str]:
    """How probable every group is for every test image, by the best weights of the classifier's run.

    Returns:
        (N, K) in float32, rows summing to 1, and the id of the run that says so.

    Raises:
        CbnormError: That run has not ended, or kept nothing.
    """
    run = run_id(group_classifier(config))
    store = Store(config.store)
    record = store.record(run)
    moments = [] if record is None or record["status"] == "failed" else record["metrics"]["moments"]
    path = store.folder(run) / "predictions.npz"
    name = f"probabilities_best_epoch{moments[-1]['epoch']}" if moments else ""
    arrays = read_arrays(path, name) if name else None
    if arrays is None:
        raise CbnormError(
            f"run {run}, the classifier of {config.task.group}, has no usable probabilities in {path}: "
            "train it again"
        )
    found = torch.from_numpy(arrays[name]).float()
    return found / found.sum(1, keepdim=True), run
