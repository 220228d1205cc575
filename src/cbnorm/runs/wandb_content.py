"""What Weights & Biases is told of a run: made from the run's files alone, so at any time."""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import PurePath, PurePosixPath, PureWindowsPath
from typing import Any

from cbnorm.config.canonical import canonical, flatten
from cbnorm.errors import CbnormError
from cbnorm.runs.identity import digest
from cbnorm.runs.plan import row_configs
from cbnorm.runs.records import Record, headline

#: Sections of the dashboard; the first word of a history's key names one.
_SECTIONS = ("train", "val", "test")


def header(content: Record) -> dict[str, Any]:
    """Name, group, tags and config of a run, as ``wandb.init`` takes them.

    Args:
        content: The run's record, or before its end what ``run.json`` holds.
    """
    values = content["identity"]["config"]
    names = {key: content.get(key) for key in ("experiment", "protocol", "budget")}
    norm, dataset = values["norm"]["name"], values["dataset"]["name"]
    row = row_label(content)
    what = row or f"{norm} lr={flatten(values).get('optimizer.lr', 0):g}"
    place = content.get("experiment") or "train"
    return {
        # The id makes the name unique, and is what `cbnorm runs show` takes.
        "name": f"{what} {dataset} seed={values['seed']} {content['id'][:4]}",
        "group": f"{place}/{content['budget']}",
        "tags": [norm, dataset, content["protocol"]],
        "notes": f"cbnorm run {content['id']} (arXiv 2403.16798v2): protocol {content['protocol']}, "
        f"budget {content['budget']}; accuracies in per cent",
        "job_type": "training",
        "config": _without_folders(values)
        | names
        | {
            "row": row,
            "data_fingerprint": content["identity"].get("data"),
            "numerics_version": content["identity"].get("numerics_version"),
        },
    }


def _without_folders(value: Any) -> Any:
    """The same values with names of files in place of whole paths."""
    if isinstance(value, dict):
        return {key: _without_folders(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_folders(item) for item in value]
    if isinstance(value, str):
        kind: type[PurePath] = PureWindowsPath if "\\" in value else PurePosixPath
        return kind(value).name if "/" in value or "\\" in value else value
    return value


def row_label(content: Record) -> str | None:
    """Label of the row of its table that a run belongs to, which others may share with it; None for none.

    A run belongs to a row with which it agrees in everything that rows differ in, whatever else it was told.
    Of rows that share a run, which differ in how it is read, the first is meant.
    """
    d = content["config"]["dataset"]
    words = [f"dataset={d['name']}", *(f"{key}={content[key]}" for key in ("protocol", "budget"))]
    # Whose folder it is decides nothing here.
    words += ["dataset.folder=unknown"] if d.get("folder") else []
    try:
        configs = row_configs(str(content.get("experiment")), words, ["all"])
    except CbnormError:  # of a package that is broken or gone, or of a preset that is
        return None
    own = flatten(content["identity"]["config"])
    rows = {label: flatten(canonical(config)) for label, config in configs.items()}
    first, *others = rows.values()
    telling = {key for row in others for key in row.keys() | first.keys() if row.get(key) != first.get(key)}
    telling |= {"model.name", "norm.name", "task.name"}
    fitting = (label for label, row in rows.items() if all(row.get(key) == own.get(key) for key in telling))
    return next(fitting, None)


def epoch_row(row: Mapping[str, Any]) -> dict[str, float]:
    """A line of the history under the names of the dashboard.

    >>> epoch_row({"epoch": 1, "train_loss": 0.5, "val_loss": None, "seconds": {"training": 2.0}})
    {'epoch': 1, 'train/loss': 0.5, 'seconds/training': 2.0}
    """
    named = {}
    for key, value in flatten(dict(row)).items():
        first, _, rest = key.replace(".", "_", 1).partition("_")
        section = first in (*_SECTIONS, "seconds") and rest
        if _is_number(value):
            named[f"{first}/{rest}" if section else key] = value
    return named


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def reading_rows(record: Record) -> list[dict[str, float]]:
    """The readings of the test set, each at its epoch, with the best weights so far and with the last."""
    rows = {}
    for entry in record.get("metrics", {}).get("moments", []):
        readings = {f"test/{which}_{k}": v for which in ("best", "last") for k, v in entry[which].items()}
        rows[entry["epoch"]] = {k: v for k, v in readings.items() if _is_number(v)}
    return [{"epoch": epoch} | row for epoch, row in rows.items()]


def summary(record: Record) -> dict[str, Any]:
    """What the table of runs shows: the accuracies of the paper's table first.

    Names are plain words with underscores, because W&B sorts and filters by no others.
    """
    seconds, hardware = record.get("seconds", {}), record.get("hardware", {})
    found = _accuracies(record.get("metrics", {}).get("moments", [])) | {
        "status": record["status"],
        "epochs": record.get("epochs"),
        "parameters": record.get("parameters"),
        "images_per_second": seconds.get("images_per_second"),
        "seconds_training": seconds.get("training"),
        "device": hardware.get("gpu") or hardware.get("cpu"),
        "data_fingerprint": record["identity"].get("data"),
        "commit": record.get("versions", {}).get("commit"),
        "cbnorm": record.get("versions", {}).get("cbnorm"),
        # Only what kind of error: its message may name folders.
        "error": record.get("error", {}).get("type"),
    }
    return {key: value for key, value in found.items() if value is not None}


def _accuracies(moments: Sequence[dict[str, Any]]) -> dict[str, Any]:
    if not moments:
        return {}
    final = moments[-1]
    metric, value = headline(final["best"])
    table = {f"test_{metric}_{m['percent']}": m["best"].get(metric) for m in moments if m["percent"]}
    return {
        f"test_{metric}": value,
        f"test_{metric}_last": final["last"].get(metric),
        "val_accuracy": final.get("val_accuracy"),
        "best_epoch": final.get("best_epoch"),
    } | table


def place() -> dict[str, str]:
    """Server and team that the environment names, by W&B's own variables."""
    return {key: os.environ.get(f"WANDB_{key.upper()}", "") for key in ("base_url", "entity")}


def fingerprint(record: Record, history: Sequence[Mapping[str, Any]]) -> str:
    """Digest of all that W&B is told of an ended run: equal when there is nothing new to tell."""
    rows = [*(epoch_row(row) for row in history), *reading_rows(record)]
    return digest({"header": header(record), "rows": rows, "summary": summary(record)})
