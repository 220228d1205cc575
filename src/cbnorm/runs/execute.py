"""One run from its config to its record."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch

from cbnorm.config.schema import RunConfig
from cbnorm.data import catalog
from cbnorm.errors import CbnormError
from cbnorm.runs import checkpoint, guesses, outcome
from cbnorm.runs.build import Parts, build
from cbnorm.runs.claim import Claim, ClaimLostError, claim, tidy
from cbnorm.runs.device import exact_float32, training_device
from cbnorm.runs.drive import drive
from cbnorm.runs.files import sync_names, write_json
from cbnorm.runs.identity import run_id
from cbnorm.runs.interruption import RunInterruptedError, stop_signals
from cbnorm.runs.journal import Journal
from cbnorm.runs.loggers import published
from cbnorm.runs.moments import moment_epochs
from cbnorm.runs.needed import needed
from cbnorm.runs.records import Record
from cbnorm.runs.resume import Checkpointer, TrainingBatches
from cbnorm.runs.store import Store

Row = dict[str, Any]


class RunFailedError(CbnormError):
    """A run ended with an exception, which its record keeps, or the run that it rests on came to nothing."""

    exit_code = 1


def execute(
    config: RunConfig,
    store: Store,
    *,
    on_epoch: Callable[[Row], None] | None = None,
) -> Record | None:
    """Train one run, or go on with it, and write its record.

    Args:
        config: The run.
        store: Where it lives.
        on_epoch: Told every line of the history as it is written.

    Returns:
        The run's record: of this training, or the one that was there; None when another process has the run,
        or the run of a classifier that this one is read with.

    Raises:
        RunFailedError: The training failed, and the record says how; or a classifier that it is read with
            diverged, and nothing was recorded.
        RunInterruptedError: A signal asked to stop; the state is saved.
        ClaimLostError: Another process took the run over while this one was asleep.
        CbnormError: Bad data or a store that can't be written; nothing is recorded then.
    """
    run = run_id(config)
    folder = store.folder(run)
    if (record := _ended(store, run)) is not None:
        # Otherwise there is nothing to write, so that this works in a read-only store too.
        if store.unfinished_business(run):
            tidy(store, run)
        return record
    _refuse_impossible_numbers(config)
    for other in needed(config):
        if store.status(run_id(other)) in {None, "failed"}:
            guesses.tell(config, other)
        if (told := execute(other, store)) is None:
            return None
        if told["status"] == "diverged" and not told["metrics"]["moments"]:
            raise RunFailedError(
                f"run {run} can't be read: run {told['id']}, its classifier of {config.task.group}, diverged "
                "before it was read once (another seed has another classifier)"
            )
    with claim(folder) as held:
        if held is None:
            return None
        record = _ended(store, run)
        if record is None:
            record = _run(config, store, held, on_epoch)
        store.clean(run)
        return record


def _refuse_impossible_numbers(config: RunConfig) -> None:
    """What an open data set holds is known only now; refused before the run has a folder."""
    d = config.dataset
    facts = catalog.fold_counts(catalog.facts(d.name, d.folder), d.folds, config.fold)
    catalog.check_numbers(facts, d.val_images, d.train_images, d.test_images, d.image_size)


def _ended(store: Store, run: str) -> Record | None:
    record = store.record(run)
    return None if record is None or record["status"] == "failed" else record


def _run(config: RunConfig, store: Store, held: Claim, on_epoch: Callable[[Row], None] | None) -> Record:
    """Train a claimed run and write its record."""
    folder = held.folder
    run = folder.name
    store.set_aside(run)
    origin = outcome.Origin.of(config)
    store.open_run(run, origin.description)
    try:
        with published(config, folder, on_epoch) as told:
            return _recorded(config, origin, held, told)
    except (RunInterruptedError, ClaimLostError):
        raise
    except CbnormError:
        # Refused for its data before anything was done: not a run that waits to be gone on with.
        with suppress(OSError, CbnormError):
            if not store.begun(run):
                store.discard(run)
        raise


def _recorded(
    config: RunConfig, origin: outcome.Origin, held: Claim, on_epoch: Callable[[Row], None] | None
) -> Record:
    """Train and write the record of how it ended."""
    folder, run = held.folder, held.folder.name
    try:
        with stop_signals():
            record = _train(config, origin, held, on_epoch)
    except CbnormError:
        raise
    except Exception as error:
        held.check()
        record = outcome.failed(origin, run, error)
        write_json(folder / "record.json", record)
        raise RunFailedError(
            f"run {run} failed: {record['error']['message']} (see {folder}/record.json)"
        ) from error
    held.check()
    write_json(folder / "record.json", record)
    sync_names(folder)
    return record


def _train(
    config: RunConfig, origin: outcome.Origin, held: Claim, on_epoch: Callable[[Row], None] | None
) -> Record:
    began = time.monotonic()
    _refuse_environment()
    device = training_device(config)
    exact_float32()
    torch.set_num_threads(config.trainer.threads)
    parts, journal, checkpointer = _begin(config, origin, held, device, on_epoch)
    journal.rewrite(durable=False)
    _fit(config, parts, journal, checkpointer, device)
    journal.rewrite()
    outcome.write_artifacts(held.folder, journal, parts, config)
    seconds = journal.earlier + time.monotonic() - began
    return outcome.trained(origin, held.folder.name, journal, parts, device, seconds)


def _begin(
    config: RunConfig,
    origin: outcome.Origin,
    held: Claim,
    device: torch.device,
    on_epoch: Callable[[Row], None] | None,
) -> tuple[Parts, Journal, Checkpointer]:
    """The parts of a run in the state of its newest usable checkpoint, or in their initial state."""
    folder, run = held.folder, held.folder.name
    saved = checkpoint.states(folder, run=run)
    while True:
        parts = build(config, device)
        moments = moment_epochs(config.trainer.moments, config.trainer.max_epochs)
        journal = Journal(
            folder,
            run,
            moments,
            parts.reader,
            on_epoch,
            rollback=config.trainer.rollback,
            patience=config.trainer.patience,
            keep_moments=config.trainer.keep == "moments",
            commit=origin.versions.get("commit"),
            may_write=held.check,
        )
        checkpointer = Checkpointer(folder, run, config.seed, journal, len(parts.train), held.check)
        path, state = next(saved, (None, None))
        if path is None or state is None:
            return parts, journal, checkpointer
        try:
            checkpointer.restore(state, parts.task)
        except ValueError as error:
            checkpoint.set_aside(path, str(error))
            continue
        return parts, journal, checkpointer


def _fit(
    config: RunConfig, parts: Parts, journal: Journal, checkpointer: Checkpointer, device: torch.device
) -> None:
    left = config.trainer.max_epochs - journal.epoch
    if left <= 0 or journal.diverged:
        return
    batches = TrainingBatches(parts.train, journal.epoch, checkpointer.batch)
    drive(parts.task, batches, [journal, checkpointer], device, epochs=left, engine=config.trainer.engine)


def _refuse_environment() -> None:
    """Lightning takes options of its trainer from the environment, which no record would show."""
    if names := sorted(name for name in os.environ if name.startswith("PL_TRAINER_")):
        raise CbnormError(f"{names[0]} is set, which can change what a run computes: unset it")
