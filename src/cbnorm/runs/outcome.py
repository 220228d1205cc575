"""What a run leaves behind: its record, whatever the outcome, and its small artifacts."""

import io
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cbnorm.config.schema import RunConfig
from cbnorm.runs import provenance, weights
from cbnorm.runs.build import Parts
from cbnorm.runs.files import write_bytes
from cbnorm.runs.identity import identity
from cbnorm.runs.journal import Journal
from cbnorm.runs.loggers import write_metrics_table
from cbnorm.runs.records import Record
from cbnorm.runs.store import LAYOUT


@dataclass(frozen=True)
class Origin:
    """What a run is and what code computes it, noted before it begins: files may change while it trains.

    Attributes:
        description: See :func:`description`.
        versions: See :func:`cbnorm.runs.provenance.versions`.
    """

    description: dict[str, Any]
    versions: dict[str, str]

    @classmethod
    def of(cls, config: RunConfig) -> "Origin":
        """The origin of a run that begins now."""
        return cls(description(config), provenance.versions(config))


def description(config: RunConfig) -> dict[str, Any]:
    """What a run is: names of its presets, identity, and the whole config."""
    return {
        "experiment": config.experiment,
        "protocol": config.protocol,
        "budget": config.budget,
        "identity": identity(config),
        # Where the store and the images lie says nothing about the run, and records travel.
        "config": config.model_dump(exclude={"store": True, "dataset": {"folder"}}),
    }


def trained(
    origin: Origin, run: str, journal: Journal, parts: Parts, device: torch.device, seconds: float
) -> Record:
    """The record of a run that trained to its end, or diverged."""
    data = parts.data
    training = sum(row["seconds"]["training"] for row in journal.history)
    return {
        "layout": LAYOUT,
        "id": run,
        "status": "diverged" if journal.diverged else "done",
        **origin.description,
        "data": {
            "name": data.name,
            "classes": data.num_classes,
            "checksums": dict(data.checksums),
            "images": {name: len(getattr(data, name)) for name in ("train", "val", "test")},
            "mean": list(data.mean),
            "std": list(data.std),
        },
        "partition": None
        if parts.partition is None
        else parts.partition.summary() | {"sizes": _sizes(parts)},
        "parameters": sum(p.numel() for p in parts.task.model.parameters()),
        "metrics": {"moments": journal.readings},
        "epochs": journal.epoch,
        "versions": origin.versions | _earlier(journal.commits, origin.versions),
        "hardware": provenance.hardware(device),
        "seconds": {
            "total": round(seconds, 1),
            "training": round(training, 1),
            "images_per_second": round(journal.epoch * _images(parts) / max(training, 1e-9)),
        },
    }


def _earlier(commits: Sequence[str], versions: Mapping[str, str]) -> dict[str, str]:
    """Other commits at which a run was trained that went on from checkpoints."""
    others = [commit for commit in commits if commit != versions.get("commit")]
    return {"earlier_commits": ", ".join(others)} if others else {}


def _images(parts: Parts) -> int:
    """Images that an epoch trains on: all, unless the batches say otherwise."""
    return getattr(parts.train, "images", len(parts.data.train))


def _sizes(parts: Parts) -> dict[str, list[int]]:
    assert parts.partition is not None  # noqa: S101 (tells the type checker)
    count = parts.partition.num_clusters
    return {
        name: torch.bincount(ids[ids >= 0], minlength=count).tolist() for name, ids in parts.clusters.items()
    }


def failed(origin: Origin, run: str, error: Exception) -> Record:
    """The record of a run that an exception ended."""
    lines = traceback.format_exception(error)
    return {
        "layout": LAYOUT,
        "id": run,
        "status": "failed",
        **origin.description,
        "error": {
            "type": type(error).__name__,
            "message": (str(error).splitlines() or [type(error).__name__])[0],
            "last_lines": "".join(lines).splitlines()[-15:],
        },
        "versions": origin.versions,
    }


def write_artifacts(folder: Path, journal: Journal, parts: Parts, config: RunConfig) -> None:
    """What was read on the test set, ids of all images, the partition, small weights, the history as CSV."""
    _write_npz(folder / "predictions.npz", {key: _small(value) for key, value in journal.arrays.items()})
    for name, content in journal.files.items():
        write_bytes(folder / name, content)
    if parts.partition is not None:
        ids = {name: ids.numpy().astype(np.int16) for name, ids in parts.clusters.items()}
        _write_npz(folder / "clusters.npz", ids)
        buffer = io.BytesIO()
        torch.save(parts.partition.state(), buffer)
        write_bytes(folder / "partition.pt", buffer.getvalue())
    if journal.best["epoch"]:
        weights.write(folder, journal.run, journal.best["epoch"], journal.best["model"])
    if config.logger.name == "csv":
        write_metrics_table(folder / "metrics.csv", journal.history)


def _small(values: torch.Tensor) -> np.ndarray:
    if values.is_floating_point():
        return values.half().numpy()
    fits = values.numel() == 0 or (int(values.min()) >= 0 and int(values.max()) < 256)
    return values.numpy().astype(np.uint8 if fits else np.int32)


def _write_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    write_bytes(path, buffer.getvalue())
