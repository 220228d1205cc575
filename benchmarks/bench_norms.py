"""Time and memory of every layer as ratios to nn.BatchNorm2d: ``python benchmarks/bench_norms.py [--quick]``.

Forward and backward, same process, layout and precision, interleaved: every round times batch normalization
and each layer once, and a ratio is the median over rounds of ratios within a round, so that a noisy machine
disturbs both. Writes norms.png and, ahead of what other machines measured, results/bench/norms.csv. Variants:
``kernel`` (what the library does by itself on this device), ``plain`` (tensor operations only), on CUDA also
``compiled`` (torch.compile of the plain definitions).
"""

import argparse
import datetime as dt
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from measuring import RESULTS, name_of, of_other_machines, quartiles, start_with, write_rows
from torch import nn

from cbnorm.norms import apply_norm, create_norm, native

ENVIRONMENT = {
    # Without these glibc returns every large tensor to the system and the next one is zeroed page by page.
    "MALLOC_MMAP_THRESHOLD_": str(1 << 32),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 32),
    # The profiler that counts memory prints a line whenever it starts and stops.
    "KINETO_LOG_LEVEL": "99",
}
SHAPES = [(256, 128, 8, 8), (128, 64, 32, 32), (32, 256, 56, 56)]
CUDA_SHAPES = [*SHAPES, (1024, 128, 32, 32)]
COMPONENTS = (1, 3, 5, 16, 64)
LARGEST_TEMPORARY = 1 << 29  # bytes; a plain version that needs a larger (N, K, C, H, W) is left out


@dataclass(frozen=True)
class Entry:
    """A layer of the table: how it is made, and the passes over the tensor it cannot do without.

    Passes count reads and writes of one activation, forward plus backward, when nothing stays in cache.
    """

    label: str
    name: str
    option: str
    passes: int
    target: float | None = None
    extra: tuple[tuple[str, object], ...] = ()
    grows: bool = False  # the plain version makes (N, K, C, H, W) temporaries

    def make(self, channels: int, k: int) -> nn.Module:
        options = dict(self.extra) | {self.option: k}
        if self.label == "mn, mixture given":
            generator = torch.Generator().manual_seed(0)
            means = 0.3 * torch.randn(k, channels, generator=generator)
            options["mixture"] = (torch.ones(k), means, torch.ones(k, channels))
        return create_norm(self.name, channels, **options)


ENTRIES = [
    Entry("scb", "scb", "num_clusters", 5, 0.9),
    Entry("scb_base", "scb_base", "num_clusters", 5, 1.0),
    Entry("cluster_bn", "cluster_bn", "num_clusters", 8),
    Entry("conditional_bn", "conditional_bn", "num_clusters", 8),
    Entry("mode", "mode", "num_components", 8, 2.0),
    Entry("mn, mixture given", "mn", "num_components", 8, 2.0),
    Entry("mn, with EM", "mn", "num_components", 8),
    Entry("ucb joint", "ucb", "num_components", 8, 2.5, (("posterior", "joint"),)),
    Entry("ucb per_channel", "ucb", "num_components", 8, 5.0, (("posterior", "per_channel"),), grows=True),
]


class Problem:
    """One tensor, its cotangent and ids; runs a layer forward and backward on them."""

    def __init__(self, shape: tuple[int, ...], layout: str, device: str) -> None:
        self.shape, self.layout, self.device = shape, layout, device
        generator = torch.Generator().manual_seed(0)
        order = torch.channels_last if layout == "channels_last" else torch.contiguous_format
        draw = torch.randn(shape, generator=generator) + torch.randn(shape[0], 1, 1, 1, generator=generator)
        self.x = draw.to(device).contiguous(memory_format=order).requires_grad_()
        self.grad = torch.randn(shape, generator=generator).to(device).contiguous(memory_format=order)
        self.draws = torch.randint(0, 1 << 30, (shape[0],), generator=generator).to(device)

    def step(self, layer: nn.Module, k: int) -> None:
        self.x.grad = None
        apply_norm(layer, self.x, self.draws % k).backward(self.grad)
        if self.device == "cuda":
            torch.cuda.synchronize()

    def seconds(self, layer: nn.Module, k: int) -> float:
        start = time.perf_counter()
        self.step(layer, k)
        return time.perf_counter() - start

    def memory(self, layer: nn.Module, k: int) -> float:
        """Peak of what is allocated during a step, in activations; output and gradient are two of them."""
        unit = self.x.numel() * self.x.element_size()
        self.x.grad = None
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            self.step(layer, k)
            return (torch.cuda.max_memory_allocated() - before) / unit
        with torch.profiler.profile(profile_memory=True) as profile:
            self.step(layer, k)
        held = peak = 0
        for event in profile.profiler.kineto_results.events():
            if event.name() == "[memory]":
                held += event.nbytes()
                peak = max(peak, held)
        return peak / unit


def bandwidth(problem: Problem) -> float:
    """Bytes a second of copying this tensor, read and write counted."""
    target, times = torch.empty_like(problem.grad), []
    for _ in range(10):
        start = time.perf_counter()
        target.copy_(problem.grad)
        if problem.device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return 2 * target.numel() * target.element_size() / statistics.median(times)


def candidates(problem: Problem, k: int) -> Iterator[tuple[Entry, str, nn.Module]]:
    """Entry, variant and layer for everything that is timed on this problem."""
    bytes_of_temporary = 4 * problem.x.numel() * k
    for entry in ENTRIES:
        layer = entry.make(problem.shape[1], k).to(problem.device)
        if problem.device == "cpu" and native.library() is not None:
            yield entry, "kernel", layer
        if k in (1, 3) and not (entry.grows and bytes_of_temporary > LARGEST_TEMPORARY):
            yield entry, "plain", entry.make(problem.shape[1], k).to(problem.device)
        if problem.device == "cuda":
            problem.step(layer, k)  # seeds a mixture outside the compiler
            yield entry, "compiled", torch.compile(layer)


def chosen(variant: str) -> Callable[[], None]:
    """What switches the kernels on or off before a layer is run."""

    def switch() -> None:
        native.SMALLEST = sys.maxsize if variant == "plain" else 0

    return switch


def measure(problem: Problem, k: int, seconds: float) -> Iterator[dict[str, object]]:
    """Rounds over batch normalization and all layers until the time is up; one row a layer."""
    baseline = nn.BatchNorm2d(problem.shape[1]).to(problem.device)
    layers = list(candidates(problem, k))
    for _, variant, layer in layers:
        chosen(variant)()
        problem.step(layer, k)
    times: list[list[float]] = [[] for _ in layers]
    reference: list[float] = []
    end = time.perf_counter() + seconds
    while len(reference) < 5 or time.perf_counter() < end:
        problem.step(baseline, k)
        reference.append(problem.seconds(baseline, k))
        for index, (_, variant, layer) in enumerate(layers):
            chosen(variant)()
            times[index].append(problem.seconds(layer, k))
    limit = problem.x.numel() * problem.x.element_size() / bandwidth(problem)
    for (entry, variant, layer), spent in zip(layers, times, strict=True):
        chosen(variant)()
        yield {
            **describe(problem, k, entry, variant),
            **summary("ms", [1e3 * t for t in spent]),
            **summary("ratio", [t / r for t, r in zip(spent, reference, strict=True)]),
            "ratio_of_fastest": f"{min(spent) / min(reference):.3f}",
            "bn_ms": f"{1e3 * statistics.median(reference):.3f}",
            "traffic_limit_ms": f"{1e3 * limit * entry.passes:.3f}",
            "peak_activations": f"{problem.memory(layer, k):.2f}",
            "rounds": len(reference),
        }


def describe(problem: Problem, k: int, entry: Entry, variant: str) -> dict[str, object]:
    """The columns that say what was measured."""
    return {
        "device": name_of(problem.device),
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "dtype": "float32",
        "shape": "x".join(map(str, problem.shape)),
        "layout": problem.layout,
        "K": k,
        "layer": entry.label,
        "variant": variant,
        "target": entry.target if k == 3 and entry.target else "",
    }


def summary(name: str, values: list[float]) -> dict[str, str]:
    """Median and quartiles."""
    return quartiles((name, f"{name}_q25", f"{name}_q75"), values)


def worst(rows: list[dict[str, object]], variant: str) -> dict[str, tuple[float, str]]:
    """Worst ratio over shapes and layouts at K = 3, and where."""
    found: dict[str, tuple[float, str]] = {}
    for row in rows:
        if row["K"] == 3 and row["variant"] == variant:
            where = f"{row['shape']} {row['layout']} (of the fastest rounds {row['ratio_of_fastest']})"
            here = (float(str(row["ratio"])), where)
            found[str(row["layer"])] = max(found.get(str(row["layer"]), (0.0, "")), here)
    return found


def report(rows: list[dict[str, object]]) -> None:
    """Print worst ratios against targets."""
    print("\nworst ratio to nn.BatchNorm2d at K = 3")
    print(f"{'layer':20} {'target':>7} {'variant':>9} {'ratio':>6}  where")
    for entry in ENTRIES:
        for variant in sorted({str(row["variant"]) for row in rows}):
            if entry.label in (found := worst(rows, variant)):
                ratio, where = found[entry.label]
                met = "met" if ratio <= (entry.target or 0) else "missed"
                verdict = met if entry.target and variant != "plain" else ""
                target = entry.target or ""
                print(f"{entry.label:20} {target!s:>7} {variant:>9} {ratio:6.2f}  {where} {verdict}")


def draw(rows: list[dict[str, object]], path: Path) -> None:
    """Ratios at K = 3 with targets, and ratios against K."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    import matplotlib.ticker

    fast = [row for row in rows if row["variant"] != "plain"] or rows
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
    labels = [entry.label for entry in ENTRIES]
    for index, entry in enumerate(ENTRIES):
        for layout, marker in (("contiguous", "o"), ("channels_last", "x")):
            rows_of = [r for r in fast if r["layer"] == entry.label and r["K"] == 3 and r["layout"] == layout]
            label = layout if index == 0 else None
            ratios = [float(str(r["ratio"])) for r in rows_of]
            left.plot([index] * len(ratios), ratios, marker, color="tab:blue", label=label)
        if entry.target:
            label = "target" if index == 0 else None
            left.plot([index - 0.35, index + 0.35], [entry.target] * 2, color="tab:red", label=label)
    left.set_xticks(range(len(labels)), labels, rotation=35, ha="right")
    left.set_title("K = 3, a mark per shape")
    left.legend(fontsize=8)
    for entry, marker in zip(ENTRIES, "osv^D*Pxd", strict=False):
        ks = sorted({int(str(row["K"])) for row in fast})
        ratios = [
            statistics.median(
                float(str(r["ratio"])) for r in fast if r["layer"] == entry.label and r["K"] == k
            )
            for k in ks
        ]
        right.plot(ks, ratios, marker=marker, label=entry.label)
    right.set_xscale("log")
    right.set_xticks([1, 3, 5, 16, 64], ["1", "3", "5", "16", "64"], minor=False)
    right.minorticks_off()
    right.set_xlabel("clusters or components K")
    right.set_title("median over shapes and layouts")
    right.legend(fontsize=8)
    for axes in (left, right):
        axes.axhline(1, color="grey", linewidth=0.8)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(mpl.ticker.NullFormatter())
        axes.yaxis.set_major_locator(mpl.ticker.LogLocator(subs=(1, 2, 5)))
        axes.grid(axis="y", linewidth=0.4)
        axes.set_ylabel("time / time of nn.BatchNorm2d")
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="K = 3 and one shape only, seconds")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=12.0, help="time for one shape, layout and K")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    start_with(ENVIRONMENT)
    torch.set_num_threads(arguments.threads)
    torch._dynamo.config.recompile_limit = 1000  # noqa: SLF001  (one graph a shape, layer and K is meant)
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    rows: list[dict[str, object]] = []
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "norms.csv"
    others = of_other_machines(path, *map(name_of, devices))
    for device in devices:
        shapes = CUDA_SHAPES if device == "cuda" else SHAPES
        for shape in shapes[:1] if arguments.quick else shapes:
            for layout in ("contiguous", "channels_last"):
                problem = Problem(shape, layout, device)
                for k in (3,) if arguments.quick else COMPONENTS:
                    rows += measure(problem, k, 2.0 if arguments.quick else arguments.seconds)
                    print(device, shape, layout, f"K = {k}", f"bn {rows[-1]['bn_ms']} ms", flush=True)
                    write_rows([*rows, *others], path)
    report(rows)
    draw(rows, arguments.out / "norms.png")


if __name__ == "__main__":
    main()
