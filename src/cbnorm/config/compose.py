"""From the words of a command line to a checked :class:`RunConfig`, or one line that says what is wrong."""

import sys
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError

from cbnorm.config import plugged
from cbnorm.config.canonical import flatten
from cbnorm.config.choices import groups, idle_by, ignored, needs_clusters
from cbnorm.config.combinations import check_combination
from cbnorm.config.locations import conf_dir
from cbnorm.config.options import SCHEDULE_OPTIONS
from cbnorm.config.overrides import parse
from cbnorm.config.schema import RunConfig
from cbnorm.errors import CbnormError
from cbnorm.spelling import nearest


def _preset(key: str, *, _root_: DictConfig) -> Any:
    """What the protocol says about `key`, for this norm, else for this data set, else for all runs."""
    presets = _root_.presets
    for said in (presets.norm.get(_root_.norm.name), presets.dataset.get(_root_.dataset.name)):
        if said is not None and key in said:
            return said[key]
    return presets.default[key]


def _under(protocol: str, value: Any, otherwise: Any, *, _root_: DictConfig) -> Any:
    """`value` under a protocol, `otherwise` under the others: what one experiment does differently."""
    return value if _root_.protocol == protocol else otherwise


OmegaConf.register_new_resolver("preset", _preset, replace=True)
OmegaConf.register_new_resolver("under", _under, replace=True)


def compose_run(overrides: Sequence[str] = ()) -> RunConfig:
    """Compose and check the config of one run.

    Args:
        overrides: Hydra overrides, such as ``norm=ucb`` or ``optimizer.lr=0.005``; no sweeps.

    Raises:
        CbnormError: One line that names what is wrong and the nearest valid choice.
    """
    return _composed(conf_dir(), tuple(overrides))


@lru_cache(maxsize=1024)
def _composed(_conf: Path, overrides: tuple[str, ...]) -> RunConfig:
    # A table composes the same rows again and again; configs are frozen, so they can be shared.
    return check(_compose(overrides))


def compose_sweep_params(overrides: Sequence[str] = ()) -> dict[str, str]:
    """The sweep that an experiment declares in ``hydra.sweeper.params``."""
    params = _compose(overrides, hydra=True).hydra.sweeper.params
    return {str(key): str(value) for key, value in (params or {}).items()}


def _compose(overrides: Sequence[str], *, hydra: bool = False) -> DictConfig:
    parsed = parse(overrides)
    plugged.declare()
    values = [override for override in parsed if _is_plain_value(override)]
    try:
        if hydra or not values:
            return _by_hydra(overrides, hydra=hydra)
        # Rows of a table differ in few choices of groups: those are composed once, and values are set on a
        # copy, which is what Hydra does with them in the end.
        chosen = tuple(str(override.input_line) for override in parsed if override not in values)
        config = _chosen(conf_dir(), tuple(sys.path), chosen).copy()
        for override in values:
            OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
    except Exception as error:  # Hydra has its own, OmegaConf its own, and odd words give bare ValueErrors
        raise CbnormError(_explain(error, parsed)) from error
    return config


def _is_plain_value(override: Override) -> bool:
    key = override.key_or_group
    plain = override.type == OverrideType.CHANGE and not override.is_sweep_override()
    return (
        plain and override.package is None and "." in key and "/" not in key and not key.startswith("hydra.")
    )


def _by_hydra(overrides: Sequence[str], *, hydra: bool = False) -> DictConfig:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("train", list(overrides), return_hydra_config=hydra)


@lru_cache(maxsize=256)
def _chosen(_conf: Path, _path: tuple[str, ...], overrides: tuple[str, ...]) -> DictConfig:
    return _by_hydra(overrides)


_FOREIGN = ("norm.options.", "model.options.")
#: Options of layers whose values a run is told under other names.
_IN_THE_LIBRARY = {
    "num_cluster": "partition.clusters",
    "num_component": "norm.components",
    "num_group": "norm.groups",
}


def _explain(error: Exception, parsed: Sequence[Override]) -> str:
    """Hydra names the key, but not the one that was meant."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        known = compose("train", [])
    keys = set(flatten(_plain(known))) | set(groups())
    for override in parsed:
        key = override.key_or_group
        if key.startswith(_FOREIGN):
            return f"'{key}': only a {key.partition('.')[0]} of another package has options of that kind"
        if key.startswith("hydra") or key in keys or any(k.startswith(key + ".") for k in keys):
            continue
        return f"unknown option '{key}': {_meant(key, keys)}"
    if isinstance(error, CbnormError):
        return str(error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:3]) or type(error).__name__


def _meant(key: str, known: Iterable[str]) -> str:
    """The option that was meant; the library's names for what a run is told elsewhere count too."""
    ours = _IN_THE_LIBRARY.get(key.rpartition(".")[2].rstrip("s"))
    return f"in a run that is {ours}" if ours else nearest(key, known)


def _plain(config: DictConfig) -> dict[str, Any]:
    container = OmegaConf.to_container(config, resolve=True)
    return {str(key): value for key, value in container.items()} if isinstance(container, dict) else {}


def check(config: DictConfig) -> RunConfig:
    """Check types, ranges and combinations of a composed config.

    Args:
        config: What Hydra composed, with or without its own ``hydra`` node.

    Raises:
        CbnormError: One line that names the option, its value and what is allowed.
    """
    config = config.copy()
    with open_dict(config):
        config.pop("hydra", None)
    try:
        run = RunConfig.model_validate(_plain(config))
    except OmegaConfBaseException as error:
        raise CbnormError(str(_origin(error)).splitlines()[0]) from error
    except ValidationError as error:
        raise CbnormError(_first_problem(error, config)) from error
    check_combination(run)
    return run


def _origin(error: BaseException) -> BaseException:
    """The refusal that an interpolation met, if one did: what another package says of its data set is one."""
    origin: BaseException | None = error
    while origin is not None and not isinstance(origin, CbnormError):
        origin = origin.__cause__ or origin.__context__
    return origin if origin is not None and str(origin) in str(error) else error


def _first_problem(error: ValidationError, config: DictConfig) -> str:
    # A misspelt key is both unknown and the cause of a missing one: tell of the unknown one first.
    problems = sorted(error.errors(), key=lambda p: p["type"] != "extra_forbidden")
    problem = problems[0]
    location = [
        part
        for part in problem["loc"]
        if isinstance(part, str) and not part.startswith(("list[", "constrained"))
    ]
    key = ".".join(location)
    if problem["type"] == "extra_forbidden":
        known = {k for k in flatten(_plain(config)) if k != key}
        return f"unknown option '{key}': {_meant(key, known)}"
    if problem["type"] == "missing":
        return f"option '{key}' has no value: give one with {key}=VALUE"
    # "Input should", "List should": what it is follows from the option.
    message = problem["msg"].partition("should ")[2] or problem["msg"]
    if problem["type"] == "string_pattern_mismatch":
        message = "be the id of a run, twelve hexadecimal digits as cbnorm runs list shows them"
    text = f"{key}={problem['input']} must {message}"
    if problem["type"] == "literal_error" and isinstance(problem["input"], str):
        choices = [c.strip(" '") for c in problem["ctx"]["expected"].replace(" or ", ",").split(",")]
        text += f"; {nearest(problem['input'], choices)}" if len(choices) > 2 else ""
    return text


def ignored_options(run: RunConfig, overrides: Sequence[str]) -> list[str]:
    """Given options, or a given partition, that what is chosen does not read."""
    given = {text.lstrip("+").partition("=")[0] for text in overrides}
    return sorted(key for key in given if ignored(run, key))


def tell_ignored(runs: Sequence[RunConfig], overrides: Sequence[str]) -> None:
    """Say which of the given options none of these runs reads, and because of which choices."""
    by_choice: dict[str, list[str]] = {}
    for key in sorted(set.intersection(*(set(ignored_options(run, overrides)) for run in runs))):
        choices = dict.fromkeys(_choice(run, key) for run in runs)
        by_choice.setdefault(" and ".join(choices), []).append(key)
    for choice, keys in by_choice.items():
        print(f"cbnorm: {', '.join(keys)}: ignored by {choice}", file=sys.stderr)


def _choice(run: RunConfig, key: str) -> str:
    """The choice that decides whether an option is read."""
    group, _, option = key.partition(".")
    if choice := idle_by(run, key):
        return choice
    if group == "partition" and not needs_clusters(run.norm.name):
        return f"norm={run.norm.name}"
    if group == "optimizer" and any(option in read for read in SCHEDULE_OPTIONS.values()):
        return f"optimizer.schedule={run.optimizer.schedule}"
    return f"{group}={getattr(run, group).name}"
