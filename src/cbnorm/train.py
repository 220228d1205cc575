"""`cbnorm train`: Hydra composes, sweeps and launches; every run is checked before work."""

import argparse
import itertools
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from cbnorm.config.compose import check, compose_run, compose_sweep_params, tell_ignored
from cbnorm.config.locations import conf_dir
from cbnorm.config.overrides import parse, quoted
from cbnorm.config.schema import RunConfig
from cbnorm.errors import CbnormError
from cbnorm.runs.files import cannot_write
from cbnorm.runs.interruption import RunInterruptedError, hand_on, stop_signals
from cbnorm.runs.plan import Planned, expand
from cbnorm.runs.records import headline

#: Combinations of a sweep that are composed and checked before the first of them trains.
_CHECKED = 64
_failures: list[str] = []


def train(words: Sequence[str]) -> int:
    """Train one run, or with ``-m`` a sweep, through Hydra."""
    words = quoted(words)
    try:
        arguments = get_args_parser().parse_intermixed_args(words)
    except SystemExit as error:
        return int(error.code or 0)
    # Hydra wants its options before the overrides, people write them anywhere.
    words = [word for word in words if word not in arguments.overrides] + arguments.overrides
    _refuse_options(arguments)
    _refuse_bad_input(arguments.overrides, multirun=arguments.multirun)
    _failures.clear()
    program, sys.argv = sys.argv, ["cbnorm train", *words]
    # Hydra would print a traceback of its own for errors that nobody thought of.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        with stop_signals():
            hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="train")(job)()
    except OSError as error:
        _refuse_store(error, arguments.overrides)
        raise
    finally:
        sys.argv = program
    return 1 if _failures else 0


def _refuse_options(arguments: argparse.Namespace) -> None:
    """Hydra's options that make no sense here, where there is one config, and each run is its overrides."""
    if arguments.multirun and (arguments.cfg or arguments.info):
        raise CbnormError("--cfg and --info tell of one run, -m makes several: leave one of them out")
    if arguments.resolve and not (arguments.cfg or arguments.help):
        raise CbnormError("--resolve goes with --cfg: write cbnorm train --cfg job --resolve")
    for name in ("config_dir", "config_name", "config_path", "experimental_rerun", "package"):
        if getattr(arguments, name, None):
            raise CbnormError(
                f"--{name.replace('_', '-')} is not for cbnorm train: choose with key=value alone"
            )


def _refuse_store(error: OSError, overrides: Sequence[str]) -> None:
    """Answer an error of Hydra's own folder within the store, which it makes before any run begins."""
    stores = [o.value() for o in parse(overrides) if o.key_or_group == "store" and not o.is_sweep_override()]
    store, place = Path(str([*stores, "runs"][0])).absolute(), error.filename
    if isinstance(place, str) and (store in (own := Path(place).absolute()).parents or store == own):
        raise cannot_write(own, error) from error


def _refuse_bad_input(overrides: Sequence[str], *, multirun: bool) -> None:
    if not multirun:
        for override in parse(overrides):
            if override.is_sweep_override():
                raise CbnormError(
                    f"'{override.input_line}' names several values: add -m to train each, or name one"
                )
        tell_ignored([compose_run(overrides)], overrides)
        return
    experiment = [text for text in overrides if text.startswith("experiment=") and "," not in text]
    params = compose_sweep_params(experiment) if experiment else {}
    combinations = itertools.islice(expand(overrides, params), _CHECKED)
    tell_ignored([compose_run(combination) for combination in combinations], overrides)


def job(config: DictConfig) -> float | None:
    """One run of a Hydra job; returns its best validation accuracy in per cent, if it has one.

    That is what a sweeper that searches gets to see: test images choose nothing.
    """
    run = check(config)
    hydra_config = HydraConfig.get()
    label = " ".join(hydra_config.overrides.task) or "defaults"
    try:
        record = _execute(run)
    except CbnormError as error:
        if isinstance(error, RunInterruptedError):
            hand_on()
            raise SystemExit(_tell(error)) from error
        if hydra_config.mode != RunMode.MULTIRUN:
            raise SystemExit(_tell(error)) from error
        if not hydra_config.launcher._target_.endswith("BasicLauncher"):
            raise  # the launcher's own process reports it
        # The other jobs of a sweep go on; the exit status tells of this one.
        _failures.append(f"{label}: {error}")
        _tell(error)
        return None
    if record is None:
        print(f"{label}: another process trains this run")
        return None
    _summarize(record, label)
    moments = record["metrics"]["moments"]
    return moments[-1].get("val_accuracy") if moments else None


def _tell(error: CbnormError) -> int:
    print(f"cbnorm: {error}", file=sys.stderr)
    return error.exit_code


def _execute(run: RunConfig) -> dict[str, Any] | None:
    from cbnorm.runs.execute import execute
    from cbnorm.runs.identity import run_id
    from cbnorm.runs.late import tell_late
    from cbnorm.runs.store import Store

    def line(row: dict[str, Any]) -> None:
        accuracy = row.get("val_accuracy")
        loss = row["train_loss"]
        print(
            f"epoch {row['epoch']}/{run.trainer.max_epochs}"
            f"  loss {'not finite' if loss is None else format(loss, '.3f')}"
            f"{'' if accuracy is None else f'  validation {accuracy:.2f} %'}"
            f"  {sum(row['seconds'].values()):.1f} s",
            file=sys.stderr,
            flush=True,
        )

    store, name = Store(run.store), run_id(run)
    if store.status(name) in {"done", "diverged"}:
        tell_late([Planned("", run, name)], store)
    return execute(run, store, on_epoch=line)


def _summarize(record: dict[str, Any], label: str) -> None:
    readings = record["metrics"]["moments"]
    metric, value = headline(readings[-1]["best"]) if readings else ("", None)
    number = f"test {value:.2f} %" if metric == "accuracy" and value is not None else f"{metric} {value}"
    print(f"{record['id']}  {record['status']}  {'no reading' if value is None else number}  {label}")
