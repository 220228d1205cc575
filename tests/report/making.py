"""Records such as runs would leave, made without training; loaded by path, because tests are no package."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cbnorm.config.compose import compose_run
from cbnorm.config.schema import RunConfig
from cbnorm.data import catalog
from cbnorm.runs.identity import digest, identity
from cbnorm.runs.moments import moment_epochs
from cbnorm.runs.plan import row_configs

Record = dict[str, Any]


def record(
    *words: str,
    accuracy: float = 80.0,
    status: str = "done",
    data: str | None = None,
    experiment: str = "table5",
    config: RunConfig | None = None,
) -> Record:
    """A record of a run of these words, or of this config, on data with this fingerprint."""
    config = config or compose_run([f"experiment={experiment}", *words])
    content = identity(config, data)
    name = f"{catalog.find(config.dataset.name).name}{f' of {data}' if data else ''}"
    moments = [
        {
            "percent": percent,
            "epoch": epoch,
            "best_epoch": epoch,
            "val_accuracy": accuracy,
            "best": {"accuracy": accuracy + percent / 100},
            "last": {"accuracy": accuracy},
        }
        for percent, epoch in moment_epochs(config.trainer.moments, config.trainer.max_epochs).items()
    ]
    return {
        "layout": 1,
        "id": digest(content),
        "status": status,
        "experiment": config.experiment,
        "protocol": config.protocol,
        "budget": config.budget,
        "identity": json.loads(json.dumps(content)),
        "config": config.model_dump(exclude={"store": True}),
        "data": {"name": name, "images": {"train": config.dataset.train_images or 45_000}},
        "metrics": {"moments": moments},
        "versions": {"cbnorm": "0.1.0", "commit": "0123456789ab"},
        "hardware": {"cpu": "made up"},
    }


def table(values: Mapping[str, Sequence[float | None]], *words: str, **more: Any) -> list[Record]:
    """Records of rows of Table V with these final accuracies for seeds 0, 1, ...; None: no run."""
    # In the order in which tables are collected: composed configs are remembered by their words.
    place = {"dataset": "cifar10", "protocol": "sound", "budget": "small"}
    place |= {key: value for key, _, value in (word.partition("=") for word in words) if key in place}
    others = [word for word in words if word.partition("=")[0] not in place]
    configs = row_configs("table5", [*(f"{k}={v}" for k, v in place.items()), *others], list(values))
    return [
        record(accuracy=value - 1, config=configs[label].model_copy(update={"seed": seed}), **more)
        for label, row in values.items()
        for seed, value in enumerate(row)
        if value is not None
    ]


def write(
    root: Path,
    records: Sequence[Record],
    *,
    history: Mapping[str, Sequence[float]] | None = None,
    images: int = 0,
) -> Path:
    """A store with these records, validation accuracies by epoch, and predictions of so many images."""
    for entry in records:
        folder = root / entry["id"]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "record.json").write_text(json.dumps(entry))
        read = entry["metrics"]["moments"]
        epochs = (history or {}).get(entry["id"], [read[-1]["val_accuracy"] if read else None])
        lines = [{"epoch": n, "val_accuracy": value} for n, value in enumerate(epochs, 1)]
        (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        if images:
            np.savez(folder / "predictions.npz", **_predictions(entry, images))
    return root


def _predictions(entry: Record, images: int) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(int(entry["id"], 16))
    moments = entry["metrics"]["moments"]
    right = {f"best_epoch{m['epoch']}": draw.random(images) * 100 < m["best"]["accuracy"] for m in moments}
    return {"labels": np.ones(images, np.uint8)} | {k: v.astype(np.uint8) for k, v in right.items()}
