"""What is compared: read from a run's record and history, by rules that were fixed before looking.

The primary endpoint is one metric at 100 % of the budget's epochs: the test accuracy of the weights with the
best validation accuracy, unless the experiment's ``endpoint.csv`` says otherwise. Every other moment, reading
and metric is descriptive.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from cbnorm.config.choices import experiment_dir
from cbnorm.runs.files import read_table

Record = dict[str, Any]
#: Readings of the test set: weights of the best validation accuracy so far, and last weights.
READINGS = ("best", "last")
PRIMARY_PERCENT, PRIMARY_METRIC = 100, "accuracy"
#: Metrics in per cent.
PER_CENT = frozenset(
    f"{kind}{name}"
    for kind in ("", "threshold_", "confident_", "weighted_")
    for name in (PRIMARY_METRIC, "precision", "recall", "f1", "top5")
) | {"sample_precision", "sample_recall", "coverage"}


@dataclass(frozen=True)
class Endpoint:
    """What a table is about.

    Attributes:
        metric: The metric that is compared.
        weights: Whose: ``best`` on validation, or ``last``.
        better: ``higher`` or ``lower``.
        epochs: Epochs of the paper's runs, which turn its moments into per cent.
        further: Metrics that are shown beside it.
    """

    metric: str = PRIMARY_METRIC
    weights: str = "best"
    better: str = "higher"
    epochs: int = 100
    further: tuple[str, ...] = ()

    def percent(self, moment: str) -> int | None:
        """Per cent of the epochs at which the paper's moment lies; None for one that is no place in time.

        >>> Endpoint(epochs=200).percent("80"), Endpoint().percent("end"), Endpoint().percent("reaching BN")
        (40, 100, None)
        """
        if moment == "end":
            return PRIMARY_PERCENT
        return round(100 * int(moment) / self.epochs) if moment.isdecimal() else None


def read_endpoint(experiment: str, budget: str = "") -> Endpoint:
    """The endpoint of an experiment: the first line of ``endpoint.csv``; the others name further metrics.

    Args:
        experiment: Its name.
        budget: Whose lines, in the column ``budget``, count too; those without a budget count for all.

    Raises:
        CbnormError: The file is damaged; names the line.
    """
    path = experiment_dir(experiment) / "endpoint.csv"
    lines = read_table(path, _endpoint) if path.exists() else [("", Endpoint())]
    first, *others = [endpoint for of, endpoint in lines if of in {"", budget}]
    further = tuple(e.metric for e in others if e.metric != first.metric)
    return Endpoint(first.metric, first.weights, first.better, first.epochs, further)


def _endpoint(line: dict[str, str]) -> tuple[str, Endpoint]:
    if line["weights"] not in READINGS or line["better"] not in {"higher", "lower"}:
        raise ValueError("weights must be best or last, better must be higher or lower")
    made = Endpoint(line["metric"], line["weights"], line["better"], int(line["epochs"]))
    return line.get("budget", ""), made


def value_at(record: Record, percent: int, reading: str, metric: str = PRIMARY_METRIC) -> float | None:
    """A metric at a moment; a diverged run counts with what it had when it ended, or as one that guesses."""
    readings = record["metrics"]["moments"]
    for entry in readings:
        if entry["percent"] == percent:
            return _number(entry, reading, metric)
    if record["status"] != "diverged":
        return None
    last = readings[-1] if readings else {reading: _guessing(record, metric)}
    return _number(last, reading, metric)


def _guessing(record: Record, metric: str) -> dict[str, float]:
    """What a run that diverged before anything was read counts with: the accuracy of guessing."""
    classes = record["data"].get("classes")
    lead = metric.rpartition(".")[0]
    return {f"{lead}.{PRIMARY_METRIC}".removeprefix("."): 100 / classes} if classes else {}


def _number(entry: Record, reading: str, metric: str) -> float | None:
    # Runs record accuracies; some tables of the paper have errors, as shares.
    if metric.endswith("test_error"):
        accuracy = entry[reading].get(metric.removesuffix("test_error") + "accuracy")
        return None if accuracy is None else 1 - float(accuracy) / 100
    value = entry[reading].get(metric)
    return None if value is None else float(value)


def best_validation(record: Record) -> float | None:
    """Best validation accuracy of the whole run, in per cent."""
    moments = record["metrics"]["moments"]
    if not moments and record["status"] == "diverged":
        return _guessing(record, PRIMARY_METRIC).get(PRIMARY_METRIC)
    value = moments[-1].get("val_accuracy") if moments else None
    return None if value is None else float(value)


def _validation(row: Record) -> float:
    """Validation accuracy of an epoch; a diverging one may have none."""
    value = row.get("val_accuracy")
    return 0.0 if value is None else float(value)


def _by_loss(row: Record) -> float:
    """The validation loss of an epoch with the other sign."""
    value = row.get("val_loss")
    return -math.inf if value is None else -float(value)


class Reached(NamedTuple):
    """When a run reached a validation accuracy: in epochs, or not within the budget."""

    epochs: int
    censored: bool


def epochs_to_reach(history: Sequence[Record], accuracy: float, max_epochs: int) -> Reached:
    """Epochs until a validation accuracy is reached, the budget's epochs where it never is.

    Args:
        history: The run's epochs, each with ``epoch`` and ``val_accuracy`` in per cent.
        accuracy: The validation accuracy to reach; for convergence, the mean over BN's seeds of the best one.
        max_epochs: The budget; a run that diverged before counts as one that never reached it.

    >>> epochs_to_reach([{"epoch": 1, "val_accuracy": 40.0}, {"epoch": 2, "val_accuracy": 60.0}], 50, 2)
    Reached(epochs=2, censored=False)
    """
    for row in history:
        if _validation(row) >= accuracy:
            return Reached(int(row["epoch"]), censored=False)
    return Reached(max_epochs, censored=True)


class Stopped(NamedTuple):
    """Where early stopping would have ended a run, and the weights that it would have kept."""

    epoch: int
    best_epoch: int
    val_accuracy: float
    test_accuracy: float | None


def early_stopping(record: Record, history: Sequence[Record], patience: int) -> Stopped:
    """Read a run that trained to its end as if it had stopped early.

    Args:
        record: The run's record.
        history: Its epochs.
        patience: Epochs without a better validation accuracy (or loss, where the run selects by it) after
            which training would have stopped.

    Returns:
        The test accuracy is known where a reading of the test set used the same weights, else None.

    Raises:
        ValueError: The run has no epochs, or the patience is not positive.
    """
    if patience < 1 or not history:
        raise ValueError(f"patience {patience} and {len(history)} epochs: both must be positive")
    best = history[0]
    stop = history[-1]["epoch"]
    by_loss = record.get("config", {}).get("task", {}).get("select") == "loss"
    score = _by_loss if by_loss else _validation
    for row in history:
        if score(row) > score(best):
            best = row
        elif row["epoch"] - best["epoch"] >= patience:
            stop = row["epoch"]
            break
    tested = [e for e in record["metrics"]["moments"] if e.get("best_epoch") == best["epoch"]]
    test = _number(tested[0], "best", PRIMARY_METRIC) if tested else None
    return Stopped(int(stop), int(best["epoch"]), _validation(best), test)
