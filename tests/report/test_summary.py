"""All tables at once: the same bytes in any order, and every record accounted for."""

import csv
import random
from pathlib import Path
from types import SimpleNamespace

import pytest

from cbnorm.cli import main
from cbnorm.report.evidence import Evidence
from cbnorm.report.pool import Records
from cbnorm.report.summary import collect_all
from cbnorm.runs.identity import digest
from cbnorm.runs.store import Store

ROWS = {"SCB-Norm-1": [72.0, 73.0, 72.5, 72.2, 72.8], "BN-1": [70.0, 70.4, 70.2, 69.9, 70.1], "MN-1": [70.0]}


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def left_out(folder: Path) -> dict[str, str]:
    with (folder / "left-out.csv").open(newline="") as file:
        return {line["run"]: line["reason"] for line in csv.DictReader(file)}


@pytest.fixture
def odd(making: SimpleNamespace) -> dict[str, dict]:
    """Records that fill no cell, or not all of theirs, by what is odd about them."""
    failed = making.record("norm=ucb", status="failed") | {"error": {"message": "out of memory"}}
    stale, foreign = making.record("norm=mn", "seed=7"), making.record("norm=mn", "seed=8")
    stale["identity"]["numerics_version"] = 0
    foreign["identity"]["data"] = "something else"
    for entry in (stale, foreign):
        entry["id"] = digest(entry["identity"])
    incomplete = making.record("norm=mn", "seed=9")
    del incomplete["metrics"]["moments"][1]
    return {
        "failed: out of memory": failed,
        "stale: numbers of version 0": stale,
        "foreign: computed on other data": foreign,
        "incomplete: no reading at 50 %": incomplete,
        "customised: trainer.batch_size=128 (not 256)": making.record("norm=bn", "trainer.batch_size=128"),
        "of no experiment": making.record("norm=bn", "optimizer.lr=0.3") | {"experiment": None},
        "of an experiment that is not here": making.record("norm=bn", "optimizer.lr=0.4")
        | {"experiment": "x"},
    }


def test_every_record_fills_a_cell_or_is_listed_with_the_reason(
    making: SimpleNamespace, odd: dict[str, dict], tmp_path: Path
) -> None:
    making.write(tmp_path / "runs", [*making.table(ROWS), *odd.values()])
    (tmp_path / "runs" / ("0" * 12)).mkdir()
    (tmp_path / "runs" / ("0" * 12) / "record.json").write_text("{")
    told = collect_all(Evidence.of(str(tmp_path / "runs")), {}, tmp_path / "out")
    reasons = left_out(tmp_path / "out")
    for reason, entry in odd.items():
        assert reasons[entry["id"]].startswith(reason)
    assert reasons["0" * 12].startswith("damaged")
    assert len(reasons) == len(odd) + 1
    assert "18 records; 8 left out or incomplete" in told


def test_the_order_of_records_does_not_change_a_byte(
    making: SimpleNamespace, odd: dict[str, dict], tmp_path: Path
) -> None:
    records = [*making.table(ROWS), *odd.values()]
    evidence = Evidence([Store(making.write(tmp_path / "runs", records))])
    for seed in range(3):
        evidence.records = Records(random.Random(seed).sample(records, len(records)))
        collect_all(evidence, {}, tmp_path / str(seed))
    first = files(tmp_path / "0")
    assert {"table5/table5.csv", "table5/table5-long.csv", "table5/table5.md", "left-out.csv"} <= first.keys()
    assert {"table5/table5-claims.csv", "table5/table5-claims.md", "cost/cost-claims.md"} <= first.keys()
    assert first == files(tmp_path / "1") == files(tmp_path / "2")
    assert b"supported at budget small only" in first["table5/table5-claims.csv"]


def test_the_same_run_with_other_numbers_is_in_conflict_and_counts_nowhere(
    making: SimpleNamespace, tmp_path: Path
) -> None:
    here, there = making.table({"BN-1": [70.0, 71.0]}), making.table({"BN-1": [70.0, 72.0]})
    making.write(tmp_path / "a", here)
    making.write(tmp_path / "b", there)
    outputs = []
    for stores in ("a,b", "b,a"):
        evidence = Evidence.of(",".join(str(tmp_path / name) for name in stores.split(",")))
        collect_all(evidence, {}, tmp_path / f"out {stores}")
        outputs.append(files(tmp_path / f"out {stores}"))
    reasons = left_out(tmp_path / "out a,b")
    assert list(reasons) == [here[1]["id"]]
    assert reasons[here[1]["id"]].startswith("in conflict")
    assert outputs[0] == outputs[1]
    long = outputs[0]["table5/table5-long.csv"].decode()
    assert "BN-1,row,bn,0.001,100,20,best,,accuracy,70.00,,1," in long


def test_filters_leave_other_blocks_out(
    making: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    making.write(tmp_path / "runs", [*making.table(ROWS), *making.table(ROWS, "budget=full")])
    words = ["collect", "all", f"store={tmp_path / 'runs'}", f"out={tmp_path / 'out'}"]
    assert main([*words, "budget=full"]) == 0
    table = (tmp_path / "out" / "table5" / "table5.csv").read_text()
    assert "full" in table
    assert "small" not in table
    assert main([*words, "budget=ful"]) == 2
    assert "did you mean 'full'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["collect"], "which table?"),
        (["collect", "table5", "table6"], "which table?"),
        (["collect", "cost"], "cost has no rows to train"),
        (["collect", "all", "seeds=3"], "'seeds=3' means nothing to collect"),
        (["collect", "all", "store=a,b"], "there is no store a"),
        (["collect", "table5", "store=nowhere"], "there is no store nowhere"),
        (["explain", "table5", "cifar10", "BN-1", "store=nowhere"], "there is no store nowhere"),
        (["explain"], "write cbnorm explain"),
        (["explain", "table5", "cifar10"], "write cbnorm explain"),
        (["publish", "table5", "tabel6"], "did you mean 'table6'?"),
        (["publish", "force=yes"], "force=yes must be true or false"),
        (["publish", "store=nowhere"], "there is no store nowhere"),
    ],
)
def test_what_makes_no_sense_is_one_line(
    words: list[str],
    told: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    line = capsys.readouterr().err
    assert told in line
    assert line.count("\n") == 1
