"""Table I measured: what layers cost against K, C and n: ``python benchmarks/bench_table1.py [--quick]``.

Time of a training step (forward and backward), memory and number of values, with one of K (clusters or
components), C (channels) and n (vectors: batch times positions) varied at a time, the others as in the third
layer of the shallow CNN. Batch normalization is timed in every round, so that ratios hold on a noisy machine.
Writes results/bench/table1.csv, ahead of what other machines measured; ``cbnorm figures`` draws the first.
"""

import argparse
import datetime as dt
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from bench_norms import ENTRIES, ENVIRONMENT, Entry, Problem, summary
from measuring import RESULTS, name_of, of_other_machines, start_with, write_rows
from torch import nn

LAYERS = ("scb", "scb_base", "mn, with EM", "ucb joint", "ucb per_channel")
#: Mixture normalization as section III-C has it: k-means++ and ten steps of EM on all vectors of every batch.
REFITTED = Entry(
    "mn, refitted", "mn", "num_components", 8, extra=(("refit_every", 1), ("fit_samples", 1 << 30))
)
CONTESTANTS = [*(entry for entry in ENTRIES if entry.label in LAYERS), REFITTED]
#: Batch, channels, height, width, K of the middle of all sweeps; n is 16,384.
BATCH, CHANNELS, SIDE, K = 256, 128, 8, 3
SWEEPS = {
    "K": (1, 2, 3, 5, 8, 16, 32, 64),
    "C": (16, 32, 64, 128, 256, 512),
    "n": (1024, 4096, 16384, 65536, 262144),
}


def points(quick: bool) -> Iterator[tuple[str, int, int, int, int]]:
    """Which of K, C, n is varied; K, channels and batch."""
    for name, values in SWEEPS.items():
        for value in values[1:5:2] if quick else values:
            k, channels, batch = K, CHANNELS, BATCH
            if name == "K":
                k = value
            elif name == "C":
                channels = value
            else:
                batch = value // SIDE**2
            yield name, value, k, channels, batch


def count(layer: nn.Module) -> tuple[int, int]:
    """Trained values, and values that are kept without being trained."""
    kept = sum(buffer.numel() for name, buffer in layer.named_buffers() if buffer.is_floating_point())
    return sum(parameter.numel() for parameter in layer.parameters()), kept


def measure(problem: Problem, k: int, seconds: float) -> Iterator[dict[str, object]]:
    """Rounds over batch normalization and all layers until the time is up; one row a layer."""
    channels = problem.shape[1]
    layers: dict[str, nn.Module] = {"bn": nn.BatchNorm2d(channels)}
    layers |= {entry.label: entry.make(channels, k) for entry in CONTESTANTS}
    for layer in layers.values():
        problem.step(layer, k)
    times: dict[str, list[float]] = {name: [] for name in layers}
    end = time.perf_counter() + seconds
    while len(times["bn"]) < 5 or time.perf_counter() < end:
        for name, layer in layers.items():
            times[name].append(problem.seconds(layer, k))
    for name, layer in layers.items():
        ratios = [own / bn for own, bn in zip(times[name], times["bn"], strict=True)]
        trained, kept = count(layer)
        yield {
            "layer": name,
            **summary("ms", [1e3 * own for own in times[name]]),
            "fastest_ms": f"{1e3 * min(times[name]):.3f}",
            "ratio": f"{statistics.median(ratios):.3f}",
            "peak_activations": f"{problem.memory(layer, k):.2f}",
            "parameters": trained,
            "buffers": kept,
            "rounds": len(ratios),
        }


def main() -> None:
    """Measure and write; what was measured stays when it is interrupted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two points a sweep, seconds")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=12.0, help="time for one point")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    start_with(ENVIRONMENT)
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "table1.csv"
    others = of_other_machines(path, name_of("cpu"))
    rows: list[dict[str, object]] = []
    for name, value, k, channels, batch in points(arguments.quick):
        problem = Problem((batch, channels, SIDE, SIDE), "channels_last", "cpu")
        place = {"device": name_of("cpu"), "date": dt.datetime.now(dt.UTC).date().isoformat()}
        place |= {"threads": arguments.threads, "torch": torch.__version__, "varied": name, "value": value}
        place |= {"K": k, "C": channels, "n": batch * SIDE**2}
        rows += [place | row for row in measure(problem, k, 0.5 if arguments.quick else arguments.seconds)]
        print(f"{name} = {value}: bn {rows[-1 - len(CONTESTANTS)]['ms']} ms", flush=True)
        write_rows([*rows, *others], path)


if __name__ == "__main__":
    main()
