"""`cbnorm wandb sync`: send runs of a store to Weights & Biases, from what they left and without training."""

import os
from collections.abc import Sequence
from pathlib import Path

from cbnorm.errors import CbnormError
from cbnorm.runs import wandb_content
from cbnorm.runs.files import read_json_if_there, read_lines
from cbnorm.runs.inspect import find
from cbnorm.runs.records import Record
from cbnorm.runs.store import Store
from cbnorm.runs.wandb_process import Publisher, has_key
from cbnorm.words import flag, split

USE = "cbnorm wandb sync [ID ...] [store=runs] [project=cbnorm] [all=true] [dry=true]"
#: Seconds for one run, and failures in a row after which the rest is not tried.
_PATIENCE, _ENOUGH = 300.0, 2


def wandb(words: Sequence[str]) -> int:
    """Carry out ``cbnorm wandb WORDS``; returns 1 when some runs were not taken.

    Raises:
        CbnormError: What is asked makes no sense, or nothing may be sent.
    """
    plain, options = split(words, "wandb", ["store", "project"], ["all", "dry"])
    if not plain or plain.pop(0) != "sync":
        raise CbnormError(f"write {USE}")
    every, dry, project = flag(options, "all"), flag(options, "dry"), options.get("project", "")
    store = Store(options.get("store", "runs"))
    if not store.root.is_dir():
        raise CbnormError(f"there is no store {store.root}: name one with store=FOLDER")
    records, line = _wanted(store, plain, every=every)
    if not records:
        print(line)
        return 0
    todo = _unsent(store, records, project)
    if todo and not dry:
        _refuse_silence()
    failed = _send(store, todo, project, dry=dry)
    verb = "to send" if dry else "sent"
    print(f"{len(todo) - failed} {verb}, {len(records) - len(todo)} sent before, {failed} failed")
    return 1 if failed else 0


def _wanted(store: Store, ids: Sequence[str], *, every: bool) -> tuple[list[Record], str]:
    """Ended runs that are named, or trained with ``logger=wandb``, or all; and a line if there are none.

    Raises:
        CbnormError: A named run is unknown, damaged or has not ended.
    """
    if ids:
        return [_ended(store, find(store, word)) for word in dict.fromkeys(ids)], ""
    records, damaged = store.survey()
    for line in damaged.values():
        print(f"left out: {line}")
    chosen = [record for record in records if every or _logger(record).get("name") == "wandb"]
    line = f"{store.root} holds no ended runs"
    if records:
        line = f"none of {len(records)} runs was trained with logger=wandb: name some by id, or add all=true"
    return chosen, line


def _ended(store: Store, run: str) -> Record:
    record = store.record(run)
    if record is None:
        raise CbnormError(f"run {run} has not ended: its own command goes on with it")
    return record


def _logger(record: Record) -> dict[str, str]:
    found = record["config"].get("logger")
    return found if isinstance(found, dict) else {}


def _project(record: Record, project: str) -> str:
    logger = _logger(record)
    own = logger.get("project") if logger.get("name") == "wandb" else None
    return project or own or os.environ.get("WANDB_PROJECT") or "cbnorm"


def _unsent(store: Store, records: Sequence[Record], project: str) -> list[Record]:
    """Those of which W&B has not been told everything in this project."""
    return [r for r in records if not _is_sent(store.folder(r["id"]), r, _project(r, project))]


def _is_sent(folder: Path, record: Record, project: str) -> bool:
    try:
        noted = read_json_if_there(folder / "wandb/sent.json") or {}
    except CbnormError:
        return False  # sending again does no harm
    if noted.get("project") != project or noted.get("place") != wandb_content.place():
        return False
    try:
        history = read_lines(folder / "history.jsonl")
    except CbnormError:
        return False  # the attempt to send it tells what is wrong
    return bool(noted.get("sent") == wandb_content.fingerprint(record, history))


def _refuse_silence() -> None:
    if os.environ.get("WANDB_MODE") == "disabled":
        raise CbnormError("WANDB_MODE=disabled: unset it to send runs; nothing was sent")
    if not has_key():
        raise CbnormError("no key for W&B: set WANDB_API_KEY or run wandb login; nothing was sent")


def _send(store: Store, records: Sequence[Record], project: str, *, dry: bool) -> int:
    """Send runs one after the other; returns how many were not taken."""
    failed = in_a_row = 0
    for number, record in enumerate(records):
        run, target = record["id"], _project(record, project)
        header = wandb_content.header(record)
        what = f"{run}  {record['status']:<8}  {target}  {header['group']}  {header['name']}"
        if dry:
            print(f"{what}  {store.epochs(run)} epochs")
            continue
        address, problem = Publisher(store.folder(run), "online", target).finish(_PATIENCE)
        print(f"{what}  {f'not sent: {problem}' if problem else address}", flush=True)
        failed += problem is not None
        in_a_row = in_a_row + 1 if problem else 0
        if in_a_row == _ENOUGH and number + 1 < len(records):
            print(f"the other {len(records) - number - 1} are not tried")
            return failed + len(records) - number - 1
    return failed
