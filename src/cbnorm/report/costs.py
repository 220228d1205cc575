"""Claims about cost: answered by the timings of the layers under results/bench, or by counting."""

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


def read_ratios(path: Path, shape: str) -> dict[str, Ratio]:
    """Time of every layer relative to batch normalization, for one shape, K = 3."""
    lines = read_table(path, dict)
    found = {
        line["layer"]: (float(line["ratio_q25"]), float(line["ratio"]), float(line["ratio_q75"]))
        for line in lines
        if (line["shape"], line["layout"], line["variant"], line["K"])
        == (shape, _LAYOUT, _VARIANT, _COMPONENTS)
    }
    return found | {"bn": (1.0, 1.0, 1.0)}


def cost_verdict(claim: Claim, path: Path | None = None) -> dict[str, Any]:
    """What the timings say: quartiles that don't overlap decide, on the machine of the timings.

    Args:
        claim: That layer `a` costs less than layer `b` for tensors of the shape `dataset`.
        path: The timings; those of the checkout if not given.
    """
    try:
        ratios = read_ratios(path or bench_file(), claim.dataset)
        own, other = ratios[claim.a], ratios[claim.b]
    except (CbnormError, KeyError):
        return {"verdict": "not run", "remark": "no timings: make bench-norms"}
    low, high = own[0] / other[2], own[2] / other[0]
    verdict = "supported" if high < 1 else "refuted" if low > 1 else "inconclusive"
    times = f"{own[1] / other[1]:.2f} times the time of {claim.b} (quartiles {low:.2f} to {high:.2f})"
    place = f"{_LAYOUT}, as in runs, on the machine of results/bench"
    return {"verdict": verdict, "remark": f"{times}, {place}", "method": "quartiles"}


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
