"""What a classifier of groups, a run of its own, says of the test images of another run."""

import sys

import torch
from torch import Tensor

from cbnorm.config.readings import needs_guesses
from cbnorm.config.schema import RunConfig
from cbnorm.errors import CbnormError
from cbnorm.runs.files import read_arrays
from cbnorm.runs.identity import run_id
from cbnorm.runs.store import Store


def group_classifier(config: RunConfig) -> RunConfig:
    """The run that learns the groups for another run: the same network without the layer under study.

    Images, split, augmentation, optimizer, epochs and seed are those of the other run; what is learned is the
    attribute ``task.group`` in place of the class. Runs that differ in the norm alone share it.
    """
    task = config.task.model_copy(update={"labels": config.task.group, "group": None, "readings": []})
    parts = {
        "task": task.model_copy(update={"components": 0}),
        "norm": config.norm.model_copy(update={"name": "none"}),
        "partition": config.partition.model_copy(update={"name": "none", "withheld": False}),
        "model": config.model.model_copy(update={"placement": []}),
        "trainer": config.trainer.model_copy(update={"rollback": False}),
        "logger": config.logger.model_copy(update={"name": "csv"}),
    }
    return config.model_copy(update=parts)


def needed(config: RunConfig) -> list[RunConfig]:
    """The runs that must have ended before this one can be read."""
    return [group_classifier(config)] if needs_guesses(config) else []


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
