"""cbnorm.mixtures against scikit-learn: same data, same start, same tolerance, one process.

    python benchmarks/bench_mixtures.py            every size (many minutes)
    python benchmarks/bench_mixtures.py --quick    two sizes (about a minute)

Ours and theirs take turns, so that the load of the machine hits both; a ratio above 1 means that
ours is faster. "step" is the time of one update within a fit of a few. Peak memory above the data
is measured in processes of their own (rows "memory"). scikit-learn is given float32, as ours is.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from sklearn.cluster import KMeans
from sklearn.cluster import kmeans_plusplus as sklearn_seeding
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from torch import Tensor

from cbnorm.mixtures import MixtureFit, fit_mixture, kmeans, kmeans_plusplus

FLOOR = 1e-3


@dataclass(frozen=True)
class Size:
    n: int
    width: int
    k: int


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_data(size: Size) -> Tensor:
    """Twelve overlapping groups whose features have a decaying spectrum, as images have."""
    generator = seeded(0)
    spectrum = torch.arange(1, size.width + 1).float() ** -0.5
    means = torch.randn(12, size.width, generator=generator) * spectrum
    data = torch.randn(size.n, size.width, generator=generator)
    # In pieces, so that making the data does not set the peak of memory.
    for rows in data.split(1000):
        ids = torch.randint(12, (len(rows),), generator=generator)
        rows.mul_(spectrum + 0.1).add_(means[ids])
    return data


def start_of(data: Tensor, k: int) -> tuple[Tensor, MixtureFit]:
    centers = kmeans_plusplus(data, k, generator=seeded(1))
    return centers, fit_mixture(data, k, init=centers, max_iter=1, tol=0, floor=FLOOR)


def our_kmeans(data: Tensor, centers: Tensor, updates: int, tol: float) -> Any:
    return kmeans(data, len(centers), init=centers, max_iter=updates, tol=tol)


def their_kmeans(data: Tensor, centers: Tensor, updates: int, tol: float) -> Any:
    return KMeans(len(centers), init=centers.numpy(), n_init=1, max_iter=updates, tol=tol).fit(data.numpy())


def our_mixture(data: Tensor, start: MixtureFit, updates: int, tol: float) -> Any:
    return fit_mixture(data, len(start.weights), init=start, max_iter=updates, tol=tol, floor=FLOOR)


def their_mixture(data: Tensor, start: MixtureFit, updates: int, tol: float) -> Any:
    model = GaussianMixture(
        len(start.weights),
        covariance_type="diag",
        max_iter=updates,
        tol=tol,
        reg_covar=0,
        init_params="random_from_data",
        weights_init=(start.weights / start.weights.sum()).numpy(),
        means_init=start.means.float().numpy(),
        precisions_init=start.covariances.reciprocal().float().numpy(),
    )
    return model, model.fit_predict(data.numpy())


def inertia_of(data: Tensor, centers: Any, labels: Any) -> float:
    """In float64: scikit-learn sums squares of float32 data in float32."""
    means, ids = torch.as_tensor(centers).double(), torch.as_tensor(labels).long()
    pieces = zip(data.split(1000), ids.split(1000), strict=True)
    return sum(float((rows.double() - means[own]).square().sum()) for rows, own in pieces)


def seconds(function: Callable[[], Any]) -> tuple[float, Any]:
    begin = time.perf_counter()
    result = function()
    return time.perf_counter() - begin, result


def compare(
    ours: Callable[[], Any], theirs: Callable[[], Any], repeats: int
) -> tuple[float, float, Any, Any]:
    """Median seconds of each, taking turns, and their last results."""
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(repeats)]
    a = statistics.median(pair[0][0] for pair in pairs)
    b = statistics.median(pair[1][0] for pair in pairs)
    return a, b, pairs[-1][0][1], pairs[-1][1][1]


def report(size: Size, what: str, ours: float, theirs: float, note: str = "") -> None:
    print(
        f"{size.n:>6} x {size.width:<5} K={size.k:<3} {what:<16} {ours:9.4f} s {theirs:9.4f} s"
        f" {theirs / ours:7.2f}x  {note}",
        flush=True,
    )


def bench_seeding(size: Size, data: Tensor, repeats: int) -> None:
    ours, theirs, _, _ = compare(
        lambda: kmeans_plusplus(data, size.k, generator=seeded(2)),
        lambda: sklearn_seeding(data.numpy(), size.k, random_state=2),
        repeats,
    )
    report(size, "seeding", ours, theirs)


def bench_kmeans(size: Size, data: Tensor, centers: Tensor, updates: int, repeats: int) -> None:
    few = 5
    ours, theirs, _, _ = compare(
        lambda: our_kmeans(data, centers, few, 0.0), lambda: their_kmeans(data, centers, few, 0.0), repeats
    )
    report(size, "k-means step", ours / few, theirs / few)
    ours, theirs, mine, other = compare(
        lambda: our_kmeans(data, centers, updates, 1e-4),
        lambda: their_kmeans(data, centers, updates, 1e-4),
        1,
    )
    equal = float((mine.labels.numpy() == other.labels_).mean())
    gap = abs(mine.inertia / inertia_of(data, other.cluster_centers_, other.labels_) - 1)
    note = f"{mine.iterations}/{other.n_iter_} updates, labels {equal:.5f}, inertia {gap:.1e}"
    report(size, "k-means fit", ours, theirs, note)


def bench_mixture(size: Size, data: Tensor, start: MixtureFit, updates: int, repeats: int) -> None:
    few = 3
    ours, theirs, _, _ = compare(
        lambda: our_mixture(data, start, few, 0.0), lambda: their_mixture(data, start, few, 0.0), repeats
    )
    report(size, "EM step", ours / few, theirs / few)
    ours, theirs, mine, (model, labels) = compare(
        lambda: our_mixture(data, start, updates, 1e-3), lambda: their_mixture(data, start, updates, 1e-3), 1
    )
    equal = float((mine.labels.numpy() == labels).mean())
    gap = abs(mine.mean_log_likelihood / float(model.score(data.numpy())) - 1)
    note = f"{mine.iterations}/{model.n_iter_} updates, labels {equal:.5f}, likelihood {gap:.1e}"
    report(size, "EM fit", ours, theirs, note)


def peak() -> float:
    """Peak resident memory in MiB; getrusage would count the parent process before exec, too."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def memory_of(side: str, size: Size) -> None:
    """Print the MiB by which two updates of each algorithm raise the peak (run in a fresh process)."""
    data = make_data(size)
    centers = data[: size.k].clone()
    covariances = torch.ones(size.k, size.width, dtype=torch.float64)
    start = fit_mixture(data[:1000], size.k, init=centers, max_iter=1)
    start = MixtureFit(**{**vars(start), "covariances": covariances})
    fits = {"ours": (our_kmeans, our_mixture), "theirs": (their_kmeans, their_mixture)}[side]
    before = peak()
    fits[0](data, centers, 2, 0.0)
    after_kmeans = peak()
    fits[1](data, start, 2, 0.0)
    print(json.dumps([after_kmeans - before, peak() - before]))


def bench_memory(size: Size) -> None:
    for side in ("ours", "theirs"):
        command = [sys.executable, __file__, "--memory", side, str(size.n), str(size.width), str(size.k)]
        answer = subprocess.run(command, check=True, capture_output=True, text=True)
        means, both = json.loads(answer.stdout)
        print(
            f"{size.n:>6} x {size.width:<5} K={size.k:<3} memory {side:<9}"
            f" k-means {means:6.0f} MiB, then EM {both:6.0f} MiB above"
            f" data of {size.n * size.width * 4 / 2**20:.0f} MiB"
        )


def bench(size: Size, updates: int, repeats: int) -> None:
    data = make_data(size)
    bench_seeding(size, data, repeats)
    centers, start = start_of(data, size.k)
    bench_kmeans(size, data, centers, updates, repeats)
    bench_mixture(size, data, start, updates, repeats)
    bench_memory(size)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="10,000 points, two widths, at most 10 updates")
    parser.add_argument("--points", type=int, default=50_000)
    parser.add_argument("--widths", type=int, nargs="+", default=[48, 128, 3072])
    parser.add_argument("--clusters", type=int, nargs="+", default=[3, 5, 20])
    parser.add_argument("--updates", type=int, default=100, help="largest number of updates of a whole fit")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--memory", nargs=4, metavar=("SIDE", "N", "D", "K"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    if arguments.memory:
        side, *numbers = arguments.memory
        memory_of(side, Size(*map(int, numbers)))
        return
    points, widths, clusters, updates = (
        (10_000, [48, 3072], [3], 10)
        if arguments.quick
        else (arguments.points, arguments.widths, arguments.clusters, arguments.updates)
    )
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; columns: ours, scikit-learn, ratio")
    for width in widths:
        for k in clusters:
            bench(Size(points, width, k), updates, arguments.repeats)


if __name__ == "__main__":
    main()
