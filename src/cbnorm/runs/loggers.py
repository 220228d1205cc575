"""Where a run is logged besides its history: a CSV table, or Weights & Biases."""

import csv
import io
import netrc
import os
from pathlib import Path
from typing import Any

import cbnorm._torchvision  # noqa: F401  (before lightning)

from lightning.pytorch.loggers import Logger, WandbLogger

from cbnorm.config.canonical import canonical
from cbnorm.config.schema import RunConfig
from cbnorm.errors import CbnormError
from cbnorm.runs.files import write_bytes

_WANDB_MODES = ("online", "offline", "disabled")


def create_loggers(config: RunConfig, folder: Path) -> list[Logger]:
    """Lightning loggers for a run; none for ``logger=csv``, which is written from the history."""
    if config.logger.name != "wandb":
        return []
    # Read by wandb in every process that it starts.
    os.environ["WANDB_MODE"] = wandb_mode()
    os.environ.setdefault("WANDB_SILENT", "true")
    return [
        WandbLogger(
            project=config.logger.project,
            name=f"{config.norm.name} lr={config.optimizer.lr:g} seed={config.seed}",
            id=folder.name,
            group=f"{config.experiment or 'train'}/{config.budget}",
            tags=[config.norm.name, config.dataset.name, config.protocol],
            config=canonical(config),
            save_dir=folder,
            resume="allow",
        )
    ]


def finish_loggers(loggers: list[Logger]) -> None:
    """Close what was opened for a run, so that the next run of this process gets its own."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.finish()


def wandb_mode() -> str:
    """``WANDB_MODE`` when set; else online when there is a key, offline otherwise: never a prompt.

    Raises:
        CbnormError: ``WANDB_MODE`` is none of the modes.
    """
    chosen = os.environ.get("WANDB_MODE")
    if chosen:
        if chosen not in _WANDB_MODES:
            raise CbnormError(
                f"WANDB_MODE={chosen} is unknown: choose {', '.join(_WANDB_MODES)}, or unset it"
            )
        return chosen
    return "online" if os.environ.get("WANDB_API_KEY") or _in_netrc("api.wandb.ai") else "offline"


def _in_netrc(host: str) -> bool:
    try:
        return netrc.netrc().authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def write_metrics_table(path: Path, history: list[dict[str, Any]]) -> None:
    """The history as CSV, a line per epoch."""
    columns = [key for key in (history[0] if history else {"epoch": 0}) if key != "seconds"]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_bytes(path, text.getvalue().encode())
