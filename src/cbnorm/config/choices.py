"""What can be chosen in a config, our own and of other packages, and what of it counts."""

import sys
from functools import cache, lru_cache
from pathlib import Path
from types import ModuleType

from cbnorm import plugins
from cbnorm.config.locations import conf_dir, experiments_dir
from cbnorm.config.options import (
    CLUSTERED_NORMS,
    MODEL_OPTIONS,
    NORM_OPTIONS,
    OPTIMIZER_OPTIONS,
    SCHEDULE_OPTIONS,
    TASK_OPTIONS,
)
from cbnorm.config.schema import RunConfig
from cbnorm.errors import CbnormError
from cbnorm.partitions.choices import read_options


@cache
def own() -> dict[str, list[str]]:
    """Every config group with the names that are our own."""
    folders = (p for p in sorted(conf_dir().iterdir()) if p.is_dir() and not p.name.startswith("_"))
    return {folder.name: sorted(p.stem for p in folder.glob("*.yaml")) for folder in folders}


def groups() -> dict[str, list[str]]:
    """Every config group with all names that can be chosen."""
    return _groups(tuple(sys.path))


@lru_cache(maxsize=8)
def _groups(_path: tuple[str, ...]) -> dict[str, list[str]]:
    theirs = {kind: plugins.names(kind) for kind in plugins.GROUPS}
    return {group: sorted({*names, *theirs.get(group, ())}) for group, names in own().items()}


def is_own(kind: str, name: str) -> bool:
    """Whether a name of a config group is our own."""
    return name in own()[kind] or (kind == "experiment" and (experiments_dir() / name).is_dir())


def experiments() -> list[str]:
    """Names of all experiments that have rows."""
    shipped = {path.parent.name for path in experiments_dir().glob("*/rows.csv")}
    return sorted(shipped.union(plugins.names("experiment")))


def experiment_dir(name: str) -> Path:
    """The folder with the rows of an experiment.

    Raises:
        CbnormError: It is no experiment, or its package gives no folder with ``rows.csv``.
    """
    if is_own("experiment", name):
        return experiments_dir() / name
    found = plugins.load("experiment", name)
    if isinstance(found, ModuleType):
        found = next(iter(getattr(found, "__path__", [])), None) or Path(str(found.__file__)).parent
    if not isinstance(found, str | Path) or not (Path(found) / "rows.csv").is_file():
        plugin = plugins.find("experiment", name)
        raise CbnormError(f"{plugin} is {str(found)[:100]!r}, not the path of a folder with rows.csv")
    return Path(found)


def norm_options(name: str) -> tuple[str, ...]:
    """Which options of ``norm`` a norm reads."""
    return NORM_OPTIONS.get(name, ("options",))


def needs_clusters(name: str) -> bool:
    """Whether a norm takes the cluster of every image; known without importing it."""
    if name in NORM_OPTIONS:
        return name in CLUSTERED_NORMS
    return plugins.find("norm", name).entry.group == plugins.CLUSTERED_NORMS


def model_options(name: str) -> tuple[str, ...]:
    """Which options of ``model`` a model reads."""
    return "placement", *MODEL_OPTIONS.get(name, ("options",))


def optimizer_options(name: str, schedule: str) -> tuple[str, ...]:
    """Which options of ``optimizer`` an optimizer and a schedule of its rate read."""
    return *OPTIMIZER_OPTIONS[name], "schedule", *SCHEDULE_OPTIONS[schedule]


def options_read(run: RunConfig) -> dict[str, tuple[str, ...]]:
    """By group, the options that the chosen norm, model, optimizer and task read."""
    return {
        "norm": norm_options(run.norm.name),
        "model": model_options(run.model.name),
        "optimizer": optimizer_options(run.optimizer.name, run.optimizer.schedule),
        "task": TASK_OPTIONS[run.task.name],
    }


def ignored(run: RunConfig, key: str) -> bool:
    """Whether nothing that was chosen reads an option such as ``norm.eps``, or a partition."""
    group, _, rest = key.partition(".")
    option = rest.partition(".")[0]
    if idle_by(run, key):
        return True
    if group == "partition":
        if not needs_clusters(run.norm.name):
            return bool(option) or run.partition.name != "none"
        return bool(option) and option not in read_options(run.partition.model_dump())
    read = options_read(run)
    return group in read and bool(option) and option not in {"name", *read[group]}


def idle_by(run: RunConfig, key: str) -> str:
    """The choice, outside of its own group, by which an option changes no number though it is in the id."""
    if key.startswith("norm") and not run.model.placement:
        return "model.placement=[]"
    if key == "dataset.split_seed" and run.dataset.split == "last":
        return "dataset.split=last"
    # Both scale images in their own way, and choose no weights on validation images.
    unread = {"dataset.statistics", "trainer.patience", "trainer.rollback"}
    return f"task={run.task.name}" if key in unread and run.task.name != "classification" else ""


def qualified(kind: str, name: str) -> str:
    """A name as a run's identity holds it: with its package, unless it is our own."""
    return name if is_own(kind, name) else plugins.find(kind, name).qualified


def from_packages(run: RunConfig) -> list[plugins.Plugin]:
    """What a run has from other packages.

    Raises:
        PluginError: A name means two things, or nothing.
    """
    names = {"norm": run.norm.name, "model": run.model.name, "dataset": run.dataset.name}
    if run.experiment is not None:
        names["experiment"] = run.experiment
    found = [refuse_ambiguous(kind, name) for kind, name in names.items()]
    return [plugin for plugin in found if plugin is not None]


def check_packages(run: RunConfig) -> None:
    """Refuse names that mean two things, and options for other packages where nothing of theirs is.

    Raises:
        CbnormError: One line that says which.
    """
    from_packages(run)
    for kind, chosen in (("norm", run.norm), ("model", run.model)):
        if chosen.options and is_own(kind, chosen.name):
            raise CbnormError(
                f"{kind}.options are for a {kind} of another package: {kind}={chosen.name} reads none of them"
            )


def refuse_ambiguous(kind: str, name: str) -> plugins.Plugin | None:
    """What another package calls by a name; None for one of our own.

    Raises:
        PluginError: The name means two things, or nothing.
    """
    if kind not in plugins.GROUPS:
        return None
    if is_own(kind, name):
        plugins.refuse_twice(kind, name)
        return None
    return plugins.find(kind, name)
