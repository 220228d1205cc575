"""Claims about cost: answered by the timings of the layers under results/bench, or by counting."""

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from cbnorm.errors import CbnormError
from cbnorm.report.ledger import Claim
from cbnorm.runs.files import read_table

#: Timings relative to torch's batch normalization in the same round: lower quartile, median, upper quartile.
Ratio = tuple[float, float, float]
#: Runs keep their images channel by channel of a pixel, so that is the layout that counts.
_LAYOUT, _VARIANT, _COMPONENTS = "channels_last", "kernel", "3"


def bench_file() -> Path:
    """Where `make bench-norms` leaves its timings in a checkout; absent from an installed package."""
    return Path(__file__).resolve().parents[3] / "results" / "bench" / "norms.csv"


@dataclass(frozen=True)
class _Timing:
    """A line of the timings: where it belongs, the layer, how it was timed, and its time relative to BN."""

    place: tuple[str, ...]
    layer: str
    machine: str
    dtype: str
    threads: int
    ratio: Ratio


def _timing(line: dict[str, str]) -> _Timing:
    place = (line["shape"], line["layout"], line["variant"], line["K"])
    ratio = (float(line["ratio_q25"]), float(line["ratio"]), float(line["ratio_q75"]))
    made = line.get("device", ""), line.get("dtype", ""), int(line.get("threads") or 0)
    return _Timing(place, line["layer"], *made, ratio)


def _timings(path: Path, shape: str) -> list[_Timing]:
    """Those of one shape, all made under the conditions of the first of them, on any machine."""
    place = (shape, _LAYOUT, _VARIANT, _COMPONENTS)
    own = [timing for timing in read_table(path, _timing) if timing.place == place]
    return [timing for timing in own if (timing.dtype, timing.threads) == (own[0].dtype, own[0].threads)]


@dataclass(frozen=True)
class Measurement:
    """Layers that were timed in turns, relative to BN or in milliseconds, in one benchmark on one machine."""

    benchmark: str
    machine: str
    times: dict[str, Ratio]


def measurements(path: Path, shape: str) -> list[Measurement]:
    """Everything that was measured of one shape, K = 3, the newest of each benchmark first.

    Args:
        path: The timings of `make bench-norms`, beside which those of `make bench-table1` may lie.
        shape: As ``256x128x8x8``.

    Raises:
        CbnormError: A file is damaged; names the line.
    """
    found: dict[tuple[str, str, str], dict[str, Ratio]] = {}
    for timing in _timings(path, shape):
        own = found.setdefault((path.name, timing.machine, ""), {"bn": (1.0, 1.0, 1.0)})
        own[timing.layer] = timing.ratio
    samples, channels, *places = (int(part) for part in shape.split("x"))
    wanted = str(samples * prod(places)), str(channels), _COMPONENTS
    beside = path.with_name("table1.csv")
    for place, machine, varied, layer, times in read_table(beside, _time) if beside.exists() else []:
        if place == wanted:
            found.setdefault((beside.name, machine, varied), {})[layer] = times
    return [Measurement(benchmark, machine, times) for (benchmark, machine, _), times in found.items()]


def _time(line: dict[str, str]) -> tuple[tuple[str, ...], str, str, str, Ratio]:
    times = float(line["ms_q25"]), float(line["ms"]), float(line["ms_q75"])
    return (line["n"], line["C"], line["K"]), line.get("device", ""), line["varied"], line["layer"], times


def read_ratios(path: Path, shape: str) -> dict[str, Ratio]:
    """Time of every layer relative to batch normalization on the machine that measured last.

    Raises:
        CbnormError: The file is damaged; names the line.
    """
    return next((found.times for found in measurements(path, shape) if found.benchmark == path.name), {})


def conditions(path: Path, shape: str) -> str:
    """How these were timed, in words.

    Raises:
        CbnormError: As :func:`read_ratios`.
    """
    known = next(iter(_timings(path, shape)), None)
    threads = known.threads if known else 0
    told = f"{threads} thread{'s' * (threads > 1)}" if threads else ""
    return ", ".join(filter(None, [_LAYOUT, known.dtype if known else "", told]))


def cost_verdict(claim: Claim, path: Path | None = None) -> dict[str, Any]:
    """What the timings say, on their machines: quartiles that overlap in no measurement decide.

    Args:
        claim: That layer `a` costs less than layer `b` for tensors of the shape `dataset`.
        path: The timings of `make bench-norms`, beside which those of `make bench-table1` may lie; those of
            the checkout if not given.
    """
    path = path or bench_file()
    try:
        known = measurements(path, claim.dataset)
    except CbnormError:
        what = "no timings that can be read" if path.exists() else "no timings"
        return {"verdict": "not run", "remark": f"{what}: make bench-norms"}
    both = [found for found in known if {claim.a, claim.b} <= found.times.keys()]
    if not both:
        lacking = " and ".join(dict.fromkeys([claim.a, claim.b]))
        return {"verdict": "not run", "remark": f"no timings of {lacking} together: make bench-table1"}
    pairs = [(found.times[claim.a], found.times[claim.b]) for found in both]
    lows, highs = [own[0] / other[2] for own, other in pairs], [own[2] / other[0] for own, other in pairs]
    verdict = "supported" if max(highs) < 1 else "refuted" if min(lows) > 1 else "inconclusive"
    medians = sorted(own[1] / other[1] for own, other in pairs)
    shown = " to ".join(dict.fromkeys(f"{median:.2f}" for median in (medians[0], medians[-1])))
    told = f"{shown} times the time of {claim.b} (quartiles {min(lows):.2f} to {max(highs):.2f})"
    count = f"{len(pairs)} measurement{'s' * (len(pairs) > 1)}"
    if len(pairs) > 1:
        benchmarks = len({(found.benchmark, found.machine) for found in both})
        count += f" in {benchmarks} benchmark{'s' * (benchmarks > 1)}"
    named = dict.fromkeys(found.machine for found in both if found.machine)
    machines = " and ".join(named) or "the machine of results/bench"
    place = f"layer alone, {conditions(path, claim.dataset)}, {count} on {machines}"
    return {
        "verdict": verdict,
        "remark": f"{told}, {place}",
        "method": "quartiles",
        "times": (medians[0], medians[-1]),
    }


def parameters(layer: str, channels: int, clusters: int) -> int:
    """Number of trained values of a layer with learned parameters.

    >>> parameters("scb_base", 128, 3), parameters("scb", 128, 3)
    (1024, 768)
    """
    return 2 * channels * (clusters + (1 if layer == "scb_base" else 0))


def count_verdict(claim: Claim, channels: int = 128, clusters: int = 3) -> dict[str, Any]:
    """What counting says: that layer `a` has fewer parameters than layer `b`."""
    own, other = (parameters(layer, channels, clusters) for layer in (claim.a, claim.b))
    remark = f"{own:,} against {other:,} for {channels} channels and {clusters} clusters"
    return {"verdict": "supported" if own < other else "refuted", "remark": remark, "method": "count"}
