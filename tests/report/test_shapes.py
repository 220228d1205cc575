"""Claims about how channels are distributed, which looks at networks tell, not records."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cbnorm.report.collect import collect
from cbnorm.report.evidence import Evidence
from cbnorm.report.verdicts import Verdict, judge
from cbnorm.runs.records import Record
from cbnorm.runs.store import Store

ROWS = ("BN-1", "MN-1", "SCB-Norm-1", "UCB-Norm-1")
#: Distances of three channels per norm; the median counts, whatever the outer ones do.
CHANNELS = {"bn": [0.0, 0.02, 9.0], "mn": [0.0, 0.03, 9.0], "scb": [0.01, 0.02, 0.04], "ucb": [0.1, 0.2, 0.3]}


@pytest.fixture
def records(making: SimpleNamespace) -> list[Record]:
    """Five seeds of four rows, equally accurate."""
    made = making.table(dict.fromkeys(ROWS, [37.0] * 5), "dataset=cifar100")
    return list(made)


def look_at(records: list[Record], folder: Path, seeds: int = 5) -> None:
    folder.mkdir(exist_ok=True)
    noise = np.random.default_rng(0)
    for record in records:
        config = record["config"]
        if config["seed"] < seeds:
            values = np.array(CHANNELS[config["norm"]["name"]]) + 0.001 * noise.normal(size=3)
            # What is skewed to the left is as skewed as what is skewed to the right.
            answers = np.zeros((1, 4))
            arrays = {"distance": values, "skewness": -values, "predicted": answers, "labels": answers[0]}
            np.savez(folder / f"{record['id']}.npz", **arrays)


def judged(records: list[Record], root: Path, making: SimpleNamespace) -> dict[str, Verdict]:
    evidence = Evidence([Store(making.write(root / "runs", records))], root / "looks")
    told = judge(collect("table5", evidence.records, filters={}), evidence)
    return {verdict.claim.id: verdict for verdict in told if verdict.claim.id.startswith("fig2-")}


def test_the_median_over_channels_is_compared_seed_by_seed(
    records: list[Record], tmp_path: Path, making: SimpleNamespace
) -> None:
    look_at(records, tmp_path / "looks")
    told = judged(records, tmp_path, making)
    clear = told["fig2-normal-ucb-bn"]
    assert clear.told == "refuted at budget small only"
    assert clear.difference == pytest.approx(-0.18, abs=0.002)
    assert clear.used == 5
    assert told["fig2-skew-ucb-mn"].difference == pytest.approx(-0.17, abs=0.002)
    assert told["fig2-normal-scb-mn"].told == "supported at budget small only"
    # Equal to a hundredth: within the margin, which refutes that it is closer by as much.
    assert told["fig2-normal-scb-bn"].told == "refuted at budget small only"
    assert told["fig2-normal"].told == told["fig2-skew"].told == "refuted at budget small only"


def test_seeds_count_that_were_looked_at_in_every_row(
    records: list[Record], tmp_path: Path, making: SimpleNamespace
) -> None:
    few = [record for record in records if record["config"]["norm"]["name"] == "bn"]
    look_at(records, tmp_path / "looks")
    for record in few[3:]:
        (tmp_path / "looks" / f"{record['id']}.npz").unlink()
    told = judged(records, tmp_path, making)
    assert told["fig2-normal-ucb-bn"].remark == "3 of 5 seeds so far"
    assert told["fig2-normal-ucb-mn"].verdict == "refuted"


@pytest.mark.parametrize("damage", ["nothing", "no folder", "not an array", "half a file"])
def test_without_looks_nothing_is_told(
    records: list[Record], tmp_path: Path, making: SimpleNamespace, damage: str
) -> None:
    if damage != "no folder":
        (tmp_path / "looks").mkdir()
    if damage == "not an array":
        for record in records:
            (tmp_path / "looks" / f"{record['id']}.npz").write_bytes(b"PK")
    if damage == "half a file":
        look_at(records, tmp_path / "looks")
        for path in (tmp_path / "looks").iterdir():
            path.write_bytes(path.read_bytes()[:300])
    verdict = judged(records, tmp_path, making)["fig2-normal-ucb-bn"]
    assert verdict.verdict == "not run"
    assert verdict.remark == "no seed for which networks of UCB-Norm-1, BN-1 were all looked at"
