"""What a record must hold so that it can be believed and read."""

import math
from typing import Any

from cbnorm.runs.identity import digest

Record = dict[str, Any]
TERMINAL = frozenset({"done", "failed", "diverged"})


def problem(content: Record, run: str) -> str | None:
    """What is wrong with the record of a run, in a few words; None when nothing is.

    The id is computed from the identity again, so that a record that was edited, or lies in another run's
    folder, is never taken for this run's.

    Args:
        content: The record; with status None, what is known of a run before its end.
        run: The id of the run, the name of its folder.
    """
    for check in (_names, _identity, _beside, _outcome):
        if wrong := check(content, run):
            return wrong
    return None


def _names(content: Record, _run: str) -> str | None:
    status = content.get("status", "")
    if not isinstance(status, str | None) or status not in TERMINAL | {None}:
        return "no terminal status"
    for key in ("protocol", "budget"):
        if not isinstance(content.get(key), str):
            return f"no {key}"
    if not isinstance(content.get("experiment"), str | None):
        return "no experiment"
    return None


def _identity(content: Record, run: str) -> str | None:
    identity = content.get("identity")
    if not isinstance(identity, dict) or not isinstance(identity.get("config"), dict):
        return "no identity"
    names = (_at(content, "config", group, "name") for group in ("dataset", "model", "norm", "task"))
    if not all(isinstance(name, str) for name in names) or not isinstance(
        _at(identity, "config", "seed"), int
    ):
        return "no config"
    if not content.get("id") == digest(identity) == run:
        return "its id is not that of its content"
    return None


def _beside(content: Record, _run: str) -> str | None:
    """What not every version wrote is there in the right form or not at all."""
    for key in ("versions", "hardware", "seconds"):
        if not isinstance(content.get(key, {}), dict):
            return f"no {key}"
    if not isinstance(content.get("partition"), dict | None):
        return "no partition"
    versions = content.get("versions", {})
    return (
        None if all(isinstance(value, str) for value in versions.values()) else "versions that are no words"
    )


def _outcome(content: Record, _run: str) -> str | None:
    if content["status"] == "failed":
        return None if isinstance(_at(content, "error", "message"), str) else "no error"
    if content["status"] is None:
        return None
    images = _at(content, "data", "images", "train")
    if not isinstance(_at(content, "data", "name"), str) or not isinstance(images, int):
        return "no data"
    moments = _at(content, "metrics", "moments")
    if not isinstance(moments, list):
        return "no metrics"
    return next((wrong for entry in moments if (wrong := _moment(entry))), None)


def _moment(entry: Any) -> str | None:
    percent, epoch = _at(entry, "percent"), _at(entry, "epoch")
    if not isinstance(percent, int | None) or not isinstance(epoch, int) or "percent" not in entry:
        return "a moment without a place"
    if not all(isinstance(_at(entry, key), int | float | None) for key in ("best_epoch", "val_accuracy")):
        return "a moment without its validation"
    if not all(_is_reading(_at(entry, reading)) for reading in ("best", "last")):
        return "a moment without a reading, or an accuracy that is not in per cent"
    return None


def _is_reading(metrics: Any) -> bool:
    """Whether these are numbers by name, some of them there, accuracies between 0 and 100."""
    if not isinstance(metrics, dict) or not any(value is not None for value in metrics.values()):
        return False
    numbers = [value for value in metrics.values() if value is not None]
    accuracies = [value for key, value in metrics.items() if key.rpartition(".")[2] == "accuracy"]
    return all(isinstance(value, int | float) and math.isfinite(value) for value in numbers) and all(
        value is not None and 0 <= value <= 100 for value in accuracies
    )


def agree(one: Any, other: Any) -> bool:
    """Whether two records' metrics have the same numbers wherever both have one.

    Earlier versions measured less.

    >>> agree({"a": 1, "b": [2]}, {"a": 1, "c": 3}), agree({"a": 1}, {"a": 2})
    (True, False)
    """
    if isinstance(one, dict) and isinstance(other, dict):
        return all(agree(one[key], other[key]) for key in one.keys() & other.keys())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(agree, one, other))
    return bool(one == other)


def headline(metrics: dict[str, Any]) -> tuple[str, float | None]:
    """The number by which a reading is told in a line: its accuracy, else its first metric.

    >>> headline({"loss": 1.5, "accuracy": 70.0}), headline({"frechet_pixels": 2.0, "coverage": 9.0})
    (('accuracy', 70.0), ('frechet_pixels', 2.0))
    """
    name = "accuracy" if "accuracy" in metrics else next(iter(metrics))
    return name, metrics[name]


def _at(content: Any, *keys: str) -> Any:
    for key in keys:
        content = content.get(key) if isinstance(content, dict) else None
    return content
