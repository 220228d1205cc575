"""Where a run is logged besides its history: a CSV table, or Weights & Biases."""

import csv
import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cbnorm.config.schema import RunConfig
from cbnorm.runs.claim import ClaimLostError
from cbnorm.runs.files import write_bytes
from cbnorm.runs.wandb_process import Publisher, wandb_mode

OnEpoch = Callable[[dict[str, Any]], None]


@contextmanager
def published(config: RunConfig, folder: Path, on_epoch: OnEpoch | None = None) -> Iterator[OnEpoch | None]:
    """Let W&B know of what happens to a run inside the block, with ``logger=wandb``.

    Online it is told from the first finished epoch on; offline, once the run has its record. Whatever goes
    wrong there is a line on standard error and nothing else.

    Args:
        config: The run.
        folder: Its folder.
        on_epoch: Told every line of the history as it is written.

    Returns:
        What to call for every line of the history instead of `on_epoch`.

    Raises:
        CbnormError: ``WANDB_MODE`` is none of W&B's modes.
    """
    mode = wandb_mode() if config.logger.name == "wandb" else "disabled"
    if mode == "disabled":
        yield on_epoch
        return
    publisher = Publisher(folder, mode, config.logger.project or "cbnorm")

    def told(row: dict[str, Any]) -> None:
        if on_epoch is not None:
            on_epoch(row)
        if mode == "online":
            publisher.start()

    try:
        yield told
    except ClaimLostError:
        # Another process trains the run and tells W&B of it.
        publisher.kill()
        raise
    except BaseException:
        _finish(publisher, folder)
        raise
    _finish(publisher, folder)


def _finish(publisher: Publisher, folder: Path) -> None:
    if not publisher.started and not (folder / "record.json").exists():
        return
    _, problem = publisher.finish()
    if problem:
        line = (
            f"W&B was not told all of run {folder.name}: {problem}; cbnorm wandb sync {folder.name} sends it"
        )
        print(f"cbnorm: {line}", file=sys.stderr, flush=True)


def write_metrics_table(path: Path, history: list[dict[str, Any]]) -> None:
    """The history as CSV, a line per epoch."""
    columns = [key for key in (history[0] if history else {"epoch": 0}) if key != "seconds"]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_bytes(path, text.getvalue().encode())
