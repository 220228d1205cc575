"""Images per second of training: ``make bench-train [DEVICE=cuda] [ARGS=--quick]``, see README.md beside it.

The same network, data, precision, layout and threads, trained by contestants that take turns in one go:
``hand``, a PyTorch loop written for it (the limit); ``engine``, what `cbnorm` runs; ``loop``, its plain loop
(on a GPU whole steps as one CUDA graph); ``loader``, LightningModule + torchvision data set + DataLoader with
two workers at the same precision, and ``loader_fp32``; ``packed``, two engines at once, added up. Then the
shallow CNN over batch size, resolution, runs at once. Writes results/bench/train.csv and .png (train_cuda.*).
"""

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any, cast

from measuring import RESULTS, name_of, quartiles, write_rows
from train_parts import NETWORKS, Settings, environment

HERE = Path(__file__).resolve().parent
PATIENCE = 600
#: A loader's workers have so many batches ready when their turn comes, which cost nothing then.
READY = 4
BATCHES, SIZES = (32, 128, 256, 512), (32, 64, 96)
COLUMNS = (
    *("device", "threads", "torch", "part", "network", "batch", "size", "precision", "contestant", "at_once"),
    *("images_per_second", "q25", "q75", "of_limit", "of_limit_q25", "of_limit_q75", "cpu_ms", "peak_mb"),
    *("first_step_s", "reading_share", "saving_share", "rest_share", "rounds"),
)


class Contestant:
    """A process that trains when it is told to."""

    def __init__(self, kind: str, settings: Settings) -> None:
        self.kind, self.settings = kind, settings
        self.batch = settings.batch or NETWORKS[settings.network][2]
        own = environment(settings.threads)
        plain = {key: value for key, value in own.items() if key.startswith(("OMP", "MKL"))}
        self.process = subprocess.Popen(
            [
                sys.executable,
                str(HERE / "train_contestants.py"),
                kind,
                json.dumps(dataclasses.asdict(settings)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            # What one writes with Lightning is started without our allocator's settings.
            env=os.environ | (plain if kind == "loader" else own),
        )
        self.orders, self.answers = cast("IO[str]", self.process.stdin), cast("IO[str]", self.process.stdout)
        self.began, self.first = time.perf_counter(), 0.0
        self.warm = READY if kind == "loader" else 1

    def ready(self) -> None:
        """Wait for the first step."""
        self.answer()
        self.first = time.perf_counter() - self.began

    def ask(self, warm: int, steps: int) -> None:
        print(warm, steps, file=self.orders, flush=True)

    def answer(self) -> dict[str, Any]:
        line = self.answers.readline()
        if not line:
            raise SystemExit(f"{self.kind} {self.settings} stopped with {self.process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def leave(self) -> None:
        self.orders.close()
        self.process.wait(PATIENCE)
        self.answers.close()


@dataclasses.dataclass
class Entry:
    """A line of the table: contestants that train at once, and what was measured of them."""

    label: str
    members: list[Contestant]
    steps: int = 0
    speeds: list[float] = dataclasses.field(default_factory=list)
    cpu: list[float] = dataclasses.field(default_factory=list)
    peak: float = 0.0

    def turn(self, steps: int) -> float:
        """Train; seconds per step."""
        for member in self.members:
            member.ask(member.warm, steps)
        answers = [member.answer() for member in self.members]
        images = steps * self.members[0].batch
        self.speeds.append(sum(images / answer["seconds"] for answer in answers))
        self.cpu.append(1000 * sum(answer["cpu"] for answer in answers) / (images * len(answers)))
        self.peak = sum(answer["peak"] for answer in answers)
        return max(answer["seconds"] for answer in answers) / steps


def start(entries: dict[str, list[tuple[str, Settings]]], *, together: bool) -> list[Entry]:
    """Start all processes, one after the other where the time to the first step is of interest."""
    started = []
    for label, members in entries.items():
        processes = [Contestant(kind, settings) for kind, settings in members]
        if not together:
            for process in processes:
                process.ready()
        started.append(Entry(label, processes))
    if together:
        for entry in started:
            for process in entry.members:
                process.ready()
    return started


def race(
    entries: dict[str, list[tuple[str, Settings]]], rounds: int, seconds: float, *, together: bool = True
) -> list[Entry]:
    """Let contestants take turns, in another order every round."""
    started = start(entries, together=together)
    for entry in started:
        entry.steps = max(2, round(seconds / entry.turn(2)))
        entry.speeds.clear()
        entry.cpu.clear()
    for number in range(rounds):
        for entry in started[number % len(started) :] + started[: number % len(started)]:
            entry.turn(entry.steps)
    for entry in started:
        for member in entry.members:
            member.leave()
    return started


def rows_of(part: str, entries: Sequence[Entry]) -> Iterable[dict[str, object]]:
    """A line of the table per entry."""
    limit = next((entry for entry in entries if entry.label == "hand"), None)
    for entry in entries:
        settings, first = entry.members[0].settings, entry.members[0].first
        row: dict[str, object] = {
            **described(settings),
            "part": part,
            "network": settings.network,
            "batch": entry.members[0].batch,
            "size": settings.size,
            "precision": settings.precision,
            "contestant": entry.label,
            "at_once": len(entry.members),
            **quartiles(("images_per_second", "q25", "q75"), entry.speeds, 1),
            "cpu_ms": f"{statistics.median(entry.cpu):.3f}",
            "peak_mb": round(entry.peak),
            "first_step_s": f"{first:.1f}" if part == "networks" else "",
            "rounds": len(entry.speeds),
        }
        if limit is not None:
            ratios = [a / b for a, b in zip(entry.speeds, limit.speeds, strict=True)]
            row |= quartiles(("of_limit", "of_limit_q25", "of_limit_q75"), ratios, 3)
        yield row


def described(settings: Settings) -> dict[str, object]:
    """The columns that say where."""
    import torch

    device = name_of(settings.device)
    return {"device": device, "threads": settings.threads, "torch": torch.__version__}


def shares(settings: Settings) -> dict[str, str]:
    """How much of an epoch is not training steps."""
    from cbnorm.runs.limit import CHECKPOINT_INTERVAL

    alone = Contestant("epochs", settings)
    found = alone.answer()
    alone.leave()
    whole = found["training"] + found["reading"]
    return {
        "reading_share": f"{found['reading'] / whole:.3f}",
        "saving_share": f"{found['save'] / (CHECKPOINT_INTERVAL + found['save']):.4f}",
        "rest_share": f"{max(0.0, found['training'] - found['steps']) / whole:.4f}",
    }


def networks(given: argparse.Namespace, settings: Settings) -> Iterable[dict[str, object]]:
    """All contestants on each network."""
    for network in given.networks:
        here = dataclasses.replace(settings, network=network)
        full = dataclasses.replace(here, precision="fp32")
        entries = {
            "hand": [("hand", here)],
            "engine": [("engine", here)],
            "loop": [("loop", here)],
            "loader": [("loader", here)],
            "loader_fp32": [("loader", full)],
            "packed": [("engine", here), ("engine", here)],
        }
        if given.quick:
            entries = {label: entries[label] for label in ("hand", "engine")}
        found = list(rows_of("networks", race(entries, given.rounds, given.seconds, together=given.quick)))
        if not given.quick:
            found[1] |= shares(here)
        yield from found


def curves(given: argparse.Namespace, settings: Settings) -> Iterable[dict[str, object]]:
    """The shallow CNN over batch size, resolution and runs at once."""
    rounds = max(2, given.rounds - 2)
    changes = [("batch", {"batch": batch}) for batch in BATCHES]
    changes += [("resolution", {"batch": 64, "size": size}) for size in SIZES]
    for part, change in changes:
        here = dataclasses.replace(settings, **change)
        entries = {
            label: [(label, here)]
            for label in ("hand", "engine", *(["loop"] if given.device == "cuda" else []))
        }
        yield from rows_of(part, race(entries, rounds, given.seconds / 2))
    counts = (1, 2, 3, 4) if given.device == "cpu" else (1, 2, 4, 8)
    kinds = ["engine"] if given.device == "cpu" else ["engine", "loop"]
    entries = {f"{kind} {count}": [(kind, settings)] * count for kind in kinds for count in counts}
    for row in rows_of("at_once", race(entries, rounds, given.seconds)):
        yield row | {"contestant": str(row["contestant"]).split()[0]}


def draw(rows: list[dict[str, object]], path: Path) -> None:
    """Contestants by network, and the curves."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(12, 8), layout="constrained")
    by_network = [row for row in rows if row["part"] == "networks"]
    labels = list(dict.fromkeys(str(row["contestant"]) for row in by_network))
    for network, marker in zip(dict.fromkeys(row["network"] for row in by_network), "osv", strict=False):
        its = [row for row in by_network if row["network"] == network]
        middle = [float(str(row["of_limit"])) for row in its]
        low, high = ([float(str(row[f"of_limit_{q}"])) for row in its] for q in ("q25", "q75"))
        spread = [[max(0.0, a - b) for a, b in zip(middle, low, strict=True)]]
        spread += [[max(0.0, b - a) for a, b in zip(middle, high, strict=True)]]
        places = [labels.index(str(row["contestant"])) for row in its]
        limit = float(str(its[0]["images_per_second"]))
        label = f"{network}, batch {its[0]['batch']}: hand {limit:,.0f} images/s"
        axes[0, 0].errorbar(places, middle, spread, fmt=marker, capsize=3, label=label)
    axes[0, 0].set_xticks(range(len(labels)), labels)
    axes[0, 0].axhline(1, color="grey", linewidth=0.8)
    axes[0, 0].set_ylabel("images/s, of the hand-written loop's")
    axes[0, 0].set_title("medians and quartiles of rounds")
    axes[0, 0].legend(fontsize=8)
    panels = (
        ("batch", "batch", axes[0, 1]),
        ("resolution", "size", axes[1, 0]),
        ("at_once", "at_once", axes[1, 1]),
    )
    titles = {
        "batch": "images per batch",
        "resolution": "height and width, batch 64",
        "at_once": "runs at once",
    }
    for part, column, panel in panels:
        its = [row for row in rows if row["part"] == part]
        for label, marker in zip(dict.fromkeys(str(row["contestant"]) for row in its), "osv", strict=False):
            points = [
                (int(str(r[column])), float(str(r["images_per_second"])))
                for r in its
                if r["contestant"] == label
            ]
            panel.plot(*zip(*points, strict=True), marker=marker, label=label)
        values = sorted({int(str(row[column])) for row in its})
        if part != "at_once":
            panel.set_xscale("log", base=2)
        panel.set_xticks(values, [str(value) for value in values])
        panel.minorticks_off()
        panel.set_ylim(bottom=0)
        panel.set_xlabel(titles[part])
        panel.set_ylabel("images/s of all together")
        panel.set_title("shallow CNN")
        panel.grid(axis="y", linewidth=0.4)
        panel.legend(fontsize=8)
    axes[0, 0].grid(axis="y", linewidth=0.4)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure, write as it goes, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=2.5, help="of a turn")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-curves", action="store_true")
    parser.add_argument("--quick", action="store_true", help="two contestants, two tiny turns")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    settings = Settings(device=given.device, threads=given.threads)
    if given.quick:
        given.networks, given.rounds, given.seconds = ["shallow_cnn"], 2, 0.0
        settings = dataclasses.replace(settings, batch=8)
    given.out.mkdir(parents=True, exist_ok=True)
    name = "train" if given.device == "cpu" else "train_cuda"
    rows: list[dict[str, object]] = []
    check = Contestant("check", dataclasses.replace(settings, batch=8))
    print(
        "largest difference between what drives the steps, relative:", check.answer()["largest"], flush=True
    )
    check.leave()
    for found in (
        networks(given, settings),
        [] if given.quick or given.no_curves else curves(given, settings),
    ):
        for row in found:
            rows.append(row)
            print(*(row[key] for key in ("part", "network", "batch", "size")), end=" ")
            print(
                *(row.get(key, "") for key in ("contestant", "at_once", "images_per_second", "of_limit")),
                flush=True,
            )
            write_rows(rows, given.out / f"{name}.csv", COLUMNS)
    if not given.quick and not given.no_curves:
        draw(rows, given.out / f"{name}.png")


if __name__ == "__main__":
    main()
