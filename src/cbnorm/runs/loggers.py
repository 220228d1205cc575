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
from cbnorm.runs.files import write_bytes


def create_loggers(config: RunConfig, folder: Path) -> list[Logger]:
    """Lightning loggers for a run; none for ``logger=csv``, which is written from the history."""
    if config.logger.name != "wandb":
        return []
    mode = wandb_mode()
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
            mode=mode,
        )
    ]


def wandb_mode() -> Any:
    """``WANDB_MODE`` when set; else online when there is a key, offline otherwise: never a prompt."""
    chosen = os.environ.get("WANDB_MODE")
    if chosen:
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
