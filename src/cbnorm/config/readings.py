"""Further readings of the test set: what they need, and what is refused before work."""

from cbnorm.config.choices import needs_clusters
from cbnorm.config.schema import RunConfig
from cbnorm.errors import CbnormError
from cbnorm.partitions import METHODS
from cbnorm.partitions.choices import attribute

#: Readings with other ids than the run's own.
OTHER_IDS = ("unknown", "predicted", "averaged", "permuted")
#: Readings by other moments than the run's own, of layers that can evaluate by several.
MOMENTS = ("running", "batch", "batch16")
#: Readings that need to know how probable each group is for an image.
GUESSED = ("predicted", "averaged")


def needs_guesses(run: RunConfig) -> bool:
    """Whether a run is read with what a classifier of groups says of the test images."""
    return run.task.name == "classification" and not set(GUESSED).isdisjoint(run.task.readings)


def reads_by_batch(run: RunConfig) -> bool:
    """Whether an image is read with the moments of those beside it, by the run's own reading or another."""
    own = {"uan": "batch", "ucb": run.norm.eval_stats}.get(run.norm.name)
    return own == "batch" or not {"batch", "batch16"}.isdisjoint(run.task.readings)


def plainly_read(run: RunConfig) -> RunConfig:
    """The same training without further readings, which may need what isn't there yet."""
    return run.model_copy(update={"task": run.task.model_copy(update={"readings": []})})


def check_readings(run: RunConfig) -> None:
    """Refuse readings that make no sense for what was chosen.

    Raises:
        CbnormError: One line that says which.
    """
    task = run.task
    if task.name != "classification" or not task.readings:
        return
    if task.labels != "class":
        raise CbnormError(f"task.labels={task.labels} learns groups: set task.readings=[]")
    _check_moments(run)
    clustered = needs_clusters(run.norm.name)
    for reading in set(task.readings).difference(MOMENTS):
        if (reading in OTHER_IDS) != clustered:
            wanted = "takes clusters" if reading in OTHER_IDS else "takes none, such as bn"
            raise CbnormError(f"task.readings={reading} needs a norm that {wanted}, not {run.norm.name}")
    if "masked" in task.readings and task.group is None:
        raise CbnormError("task.readings=masked needs groups of classes: add task.group=superclass")
    if not needs_guesses(run):
        return
    if run.partition.name in {*METHODS, "file"}:
        raise CbnormError(
            f"task.readings={'/'.join(GUESSED)} guess ids that follow from the class, which those of "
            f"partition={run.partition.name} don't: choose partition=superclass or label"
        )
    if task.group != (group := attribute(run.partition.model_dump())):
        raise CbnormError(
            f"task.readings={'/'.join(GUESSED)} guess the ids of partition={run.partition.name}: "
            f"they need task.group={group}, not {task.group}"
        )


def _check_moments(run: RunConfig) -> None:
    norm, wanted = run.norm, [reading for reading in MOMENTS if reading in run.task.readings]
    if wanted and norm.name not in {"ucb", "uan"}:
        raise CbnormError(
            f"task.readings={wanted[0]} is of layers that evaluate by several moments, ucb and uan, "
            f"not of {norm.name}"
        )
    own = "batch" if norm.name == "uan" else norm.eval_stats
    untracked = norm.update == "weight" and norm.train_stats == "params" and own != "running"
    if "running" in wanted and untracked:
        raise CbnormError(
            "task.readings=running needs averages, which norm.train_stats=params with norm.update=weight "
            "doesn't keep: choose norm.train_stats=batch"
        )
