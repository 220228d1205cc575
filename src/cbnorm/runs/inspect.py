"""Runs of a store as plain text: a list, one run, the difference of two. Never imports torch."""

from typing import Any

from cbnorm.config.canonical import differences, flatten
from cbnorm.errors import CbnormError
from cbnorm.runs.claim import holder
from cbnorm.runs.moments import called
from cbnorm.runs.records import Record, headline
from cbnorm.runs.store import Store

_COLUMNS = "{:<12}  {:<11}  {:<9}  {:>6}  {:<10}  {:>4}  {:<6}  {:<8}  {:>9}  {}"
_PLACE = ("versions", "hardware", "seconds")


def find(store: Store, word: str) -> str:
    """The id that begins with a word.

    Raises:
        CbnormError: None does, or several do.
    """
    runs = store.runs()
    fitting = [run for run in runs if run.startswith(word.lower())] if word else []
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        raise CbnormError(f"no run in {store.root} begins with '{word}': see cbnorm runs list")
    shown = ", ".join(fitting[:4]) + (", ..." if len(fitting) > 4 else "")
    raise CbnormError(f"'{word}' fits {len(fitting)} runs ({shown}): write more of the id")


def overview(store: Store) -> str:
    """A line per run, then what is wrong with those that can't be read."""
    lines, damaged = [], []
    for run in store.runs():
        try:
            lines.append(_line(store, run))
        except CbnormError as error:
            lines.append(f"{run:<12}  damaged")
            damaged.append(str(error))
    if not lines:
        return f"{store.root} holds no runs"
    head = _COLUMNS.format(
        "id", "status", "norm", "rate", "data", "seed", "budget", "protocol", "epochs", "test %"
    )
    return "\n".join([head, *lines, *(["", *damaged] if damaged else [])])


def _line(store: Store, run: str) -> str:
    record = store.record(run)
    content = record or store.description(run)
    values = flatten(content["identity"]["config"])
    epochs = content["epochs"] if "epochs" in content else store.epochs(run)
    cells = (
        run,
        record["status"] if record else state(store, run),
        _name(values, "norm"),
        values.get("optimizer.lr", "?"),
        _name(values, "dataset"),
        values.get("seed", "?"),
        content["budget"],
        content["protocol"],
        f"{epochs}/{values.get('trainer.max_epochs', '?')}",
        _accuracy(content),
    )
    return _COLUMNS.format(*(_short(cell) for cell in cells)).rstrip()


def _name(values: dict[str, Any], group: str) -> str:
    """What was chosen, without the package that it may come from: there is no room for it."""
    return str(values.get(f"{group}.name", "?")).rpartition(":")[2]


def state(store: Store, run: str) -> str:
    """What a run without a record is doing: ``running`` or ``unfinished``."""
    return "running" if holder(store.folder(run)) else "unfinished"


def _accuracy(content: Record) -> str:
    moments = content.get("metrics", {}).get("moments", [])
    metric, value = headline(moments[-1]["best"]) if moments else ("", None)
    return "" if value is None else f"{value:.2f}" if metric == "accuracy" else f"{metric} {value:.4g}"


def show(store: Store, run: str) -> str:
    """Everything that is known of a run."""
    record = store.record(run)
    content = record or store.description(run)
    status = record["status"] if record else state(store, run)
    lines = [f"run {run}: {status}", f"folder {store.folder(run)}"]
    if living := holder(store.folder(run)):
        lines.append(f"worked on by process {living.get('pid')} on {living.get('host')}")
    lines += _block("config", flatten(content["identity"]["config"]))
    lines += _block("names", _names(content) | {"data": content["identity"].get("data")})
    lines += _moments(content)
    lines += _last_epoch(store, run) if record is None else []
    for key in ("partition", *_PLACE):
        if isinstance(content.get(key), dict):
            lines += _block(key, flatten(content[key]))
    if "error" in content:
        last = content["error"].get("last_lines", [])
        lines += [
            "",
            f"error: {_short(content['error']['message'], 200)}",
            *(f"  {_short(line, 200)}" for line in last),
        ]
    return "\n".join(lines)


def _last_epoch(store: Store, run: str) -> list[str]:
    try:
        history = store.history(run)
    except CbnormError as error:
        return ["", str(error)]
    return _block(f"epoch {len(history)}", flatten(history[-1])) if history else []


def _block(title: str, values: dict[str, Any]) -> list[str]:
    width = max((len(key) for key in values), default=0)
    return ["", title, *(f"  {key:<{width}}  {_short(value)}" for key, value in values.items())]


def _short(value: Any, width: int = 60) -> str:
    text = f"{value:.8g}" if isinstance(value, float) else str(value)
    # A record from elsewhere must not steer the terminal.
    text = "".join(sign if sign.isprintable() else "?" for sign in text)
    return text if len(text) <= width else text[: width - 3] + "..."


def _moments(content: Record) -> list[str]:
    moments = content.get("metrics", {}).get("moments", [])
    if not moments:
        return []
    metric, _ = headline(moments[0]["best"])
    title = "test accuracy in per cent" if metric == "accuracy" else metric
    lines = ["", title, "  moment   epoch   best weights so far   last weights"]
    for entry in moments:
        best, last = (_number(entry[reading].get(metric)) for reading in ("best", "last"))
        lines.append(f"  {called(entry):<6}  {entry['epoch']:>6}   {best:>19}   {last:>12}")
    return lines


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def compare(store: Store, first: str, second: str) -> str:
    """Differences of two runs: of config, of metrics, and of where they were computed."""
    a, b = (store.record(run) or store.description(run) for run in (first, second))
    sections = {
        "config": (a["identity"], b["identity"]),
        "names": (_names(a), _names(b)),
        "outcome": (_outcome(store, first, a), _outcome(store, second, b)),
        "place and time": tuple({key: c.get(key, {}) for key in _PLACE} for c in (a, b)),
    }
    lines = [f"{'':<34}  {first:<28}  {second:<28}".rstrip()]
    for title, (left, right) in sections.items():
        found = differences(left, right)
        lines += ["", title if found else f"{title}: the same"]
        lines += [
            f"  {key:<32}  {_short(x, 28):<28}  {_short(y, 28):<28}".rstrip() for key, (x, y) in found.items()
        ]
    return "\n".join(lines)


def _names(content: Record) -> dict[str, Any]:
    return {key: content.get(key) for key in ("experiment", "protocol", "budget")}


def _outcome(store: Store, run: str, content: Record) -> dict[str, Any]:
    outcome: dict[str, Any] = {"status": content.get("status") or state(store, run)}
    outcome["epochs"] = content["epochs"] if "epochs" in content else store.epochs(run)
    for entry in content.get("metrics", {}).get("moments", []):
        for reading in ("best", "last"):
            outcome |= flatten({f"{called(entry)} {reading}": entry[reading]})
    return outcome
