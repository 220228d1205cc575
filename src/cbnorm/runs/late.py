"""What is asked of runs too late, when they have ended already: told, because nothing is trained for it."""

import sys
from collections.abc import Sequence
from pathlib import Path

from cbnorm.runs.plan import Planned
from cbnorm.runs.store import Store


def tell_late(planned: Sequence[Planned], store: Store) -> None:
    """Say which ended runs lack what they are asked for now: weights of every moment, or a place in W&B."""
    places = [(item.id, item.config, store.folder(item.id)) for item in planned]
    moments = [run for run, config, at in places if config.trainer.keep == "moments" and _lacks_moments(at)]
    wandb = [run for run, config, at in places if config.logger.name == "wandb" and _lacks_wandb(at)]
    _tell(moments, "trainer.keep=moments", "again=true in cbnorm reproduce trains them anew")
    _tell(wandb, "logger=wandb", "cbnorm wandb sync ID sends one, all=true all of a store")


def _lacks_moments(folder: Path) -> bool:
    # Networks that are too large keep no weights at all.
    return (folder / "weights.pt").is_file() and not any(folder.glob("weights-*.pt"))


def _lacks_wandb(folder: Path) -> bool:
    return (folder / "record.json").is_file() and not (folder / "wandb").is_dir()


def _tell(runs: Sequence[str], asked: str, way: str) -> None:
    if runs:
        shown = ", ".join(runs[:3]) + (", ..." if len(runs) > 3 else "")
        many = f"{len(runs)} run{'s' * (len(runs) > 1)}"
        print(f"cbnorm: {many} ended before without {asked} ({shown}): {way}", file=sys.stderr)
