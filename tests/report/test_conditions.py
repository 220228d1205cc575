"""Rows that share a run, read under several conditions; tables about something other than accuracy."""

import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cbnorm.errors import CbnormError
from cbnorm.report.collect import collect
from cbnorm.report.endpoints import Endpoint, read_endpoint
from cbnorm.report.evidence import Evidence
from cbnorm.report.ledger import read_cells, read_claims
from cbnorm.report.samples import Sample, sample
from cbnorm.report.tables import long_form, paper_layout
from cbnorm.report.words import markdown
from cbnorm.runs.plan import plan, read_rows
from cbnorm.runs.records import problem

record = runpy.run_path(str(Path(__file__).with_name("making.py")))["record"]

ROWS = """row,overrides,dataset,reading
BN,norm=bn,SVHN,target
BN,norm=bn,MNIST,source
SCB,norm=scb,SVHN,target
"SCB, own ids",norm=scb,SVHN,own
"""
ENDPOINT = "metric,weights,better,epochs\nerror,last,lower,200\nf1,last,higher,200\n"
CELLS = "dataset,row,moment,metric,value,bold,note\nSVHN,BN,200,error,0.5,,\nMNIST,BN,end,error,0.25,,\n"
CLAIM = "c,where,what,difference,f,SVHN,SCB,BN,error,200,lower,0.1,0,0.01,5,\n"
HEAD = "id,where,what,kind,family,dataset,a,b,metric,moment,better,gap,at_least,margin,seeds,testable\n"


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An experiment called table5 of two runs that fill four rows."""
    folder = tmp_path / "table5"
    folder.mkdir()
    for name, text in (("rows", ROWS), ("endpoint", ENDPOINT), ("cells", CELLS), ("claims", HEAD + CLAIM)):
        (folder / f"{name}.csv").write_text(text)
    monkeypatch.setattr("cbnorm.config.choices.experiments_dir", lambda: tmp_path)
    return folder


def run(norm: str, seed: int, **errors: float) -> dict[str, Any]:
    """A record whose last weights have these errors by condition; those of the best weights are 0.9."""
    made: dict[str, Any] = record(f"norm={norm}", "budget=full", f"seed={seed}")
    for entry in made["metrics"]["moments"]:
        entry["last"] = {f"{name}.error": value for name, value in errors.items()}
        entry["last"] |= {f"{name}.f1": 6.0 for name in errors}
        entry["best"] = dict.fromkeys(entry["last"], 0.9)
    return made


def records() -> list[dict[str, Any]]:
    return [
        made
        for seed in range(5)
        for made in (
            run("bn", seed, target=0.5 + seed / 100, source=0.2),
            run("scb", seed, target=0.3, own=0.1),
        )
    ]


def test_a_run_with_two_readings_is_trained_once(table: Path) -> None:
    planned = plan("table5", ["budget=smoke"], seeds=[0, 1])
    assert [(item.row, item.config.seed) for item in planned] == [
        ("BN", 0),
        ("SCB", 0),
        ("BN", 1),
        ("SCB", 1),
    ]
    assert [row.label for row in read_rows("table5")] == ["BN", "BN", "SCB", "SCB, own ids"]


def test_rows_are_filled_by_what_they_read(table: Path) -> None:
    block = collect("table5", records(), filters={}).blocks[0]
    means = {(row.label, row.dataset): row.main[-1].mean for row in block.rows}
    assert means == {
        ("BN", "SVHN"): pytest.approx(0.52),
        ("BN", "MNIST"): pytest.approx(0.2),
        ("SCB", "SVHN"): pytest.approx(0.3),
        ("SCB, own ids", "SVHN"): pytest.approx(0.1),
    }
    published = {(row.label, row.dataset): row.main[-1].paper for row in block.rows}
    assert published["BN", "SVHN"] == 0.5
    assert published["BN", "MNIST"] == 0.25
    assert published["SCB", "SVHN"] is None


def test_layouts_show_the_tables_own_metric_and_the_others_beside_it(table: Path) -> None:
    found = collect("table5", records(), filters={})
    lines = paper_layout(found.blocks).splitlines()
    assert lines[0].endswith(",100 %,f1")
    assert lines[1].split(",")[-2:] == ["0.5200", "6.00"]
    assert "| BN (SVHN) |" in markdown(found)
    assert "Test error of the last weights" in markdown(found)
    assert "last epoch" not in markdown(found)
    assert "SVHN" in long_form(found.blocks)


def test_a_further_metric_that_no_run_has_takes_no_column(table: Path) -> None:
    (table / "endpoint.csv").write_text(ENDPOINT + "fid,last,lower,200\n")
    found = collect("table5", records(), filters={})
    assert paper_layout(found.blocks).splitlines()[0].endswith(",100 %,f1")
    assert "fid" not in markdown(found)
    reason = sample(replace(read_claims("table5")[0], metric="fid"), found.blocks[0], Evidence([]))
    assert reason == "not run: no run records fid"


def test_blocks_about_several_metrics_name_them(table: Path) -> None:
    full = collect("table5", records(), filters={}).blocks[0]
    rows = tuple(
        replace(row, endpoint=Endpoint("f1", "last", "higher", 200, ("error",))) for row in full.rows
    )
    head, *lines = paper_layout([full, replace(full, rows=rows)]).splitlines()
    assert ",epochs,metric,25 %" in head
    assert head.endswith(",100 %,f1,error")
    assert lines[0].split(",")[-2:] == ["6.00", "0.5200"]
    assert lines[len(full.rows)].split(",")[-2:] == ["6.00", "0.5200"]


def test_claims_compare_what_they_name(table: Path) -> None:
    block = collect("table5", records(), filters={}).blocks[0]
    taken = sample(read_claims("table5")[0], block, Evidence([]))
    assert isinstance(taken, Sample)
    assert taken.take(5).mean(-1) @ taken.weights == pytest.approx(0.22)


def test_speed_by_a_distance_is_told_at_the_moments(table: Path) -> None:
    speed = replace(read_claims("table5")[0], kind="speed", moment="reaching BN", metric="error")
    made = records()
    for one in made:
        slow = one["config"]["norm"]["name"] == "bn"
        for entry, error in zip(one["metrics"]["moments"], [0.9, 0.7, 0.5, 0.3], strict=True):
            entry["last"]["target.error"] = error + (0.1 if slow else 0.0)
    taken = sample(speed, collect("table5", made, filters={}).blocks[0], Evidence([]))
    assert isinstance(taken, Sample)
    # BN ends at 0.4, which it reaches then, and SCB passes at 75 % no sooner than 0.5: at 100 %.
    assert taken.take(3).tolist() == [[100.0] * 3, [100.0] * 3]
    for one in made:
        if one["config"]["norm"]["name"] == "scb":
            one["metrics"]["moments"][1]["last"]["target.error"] = 0.4
    taken = sample(speed, collect("table5", made, filters={}).blocks[0], Evidence([]))
    assert isinstance(taken, Sample)
    assert taken.take(3).tolist() == [[50.0] * 3, [100.0] * 3]


def test_places_of_the_paper_are_per_cent_of_its_epochs(table: Path) -> None:
    assert read_endpoint("table5") == Endpoint("error", "last", "lower", 200, ("f1",))
    assert read_cells("table5") == {("SVHN", "BN", 100, "error"): 0.5, ("MNIST", "BN", 100, "error"): 0.25}
    assert Endpoint(epochs=200).percent("113") == 56
    assert Endpoint().percent("reaching BN") is None


def test_a_budget_may_be_about_another_metric(table: Path) -> None:
    lines = ["metric,weights,better,epochs,budget", "pixels,last,lower,200,smoke", "error,last,lower,200,"]
    lines += ["pixels,last,lower,200,", "f1,last,higher,200,"]
    (table / "endpoint.csv").write_text("\n".join(lines))
    assert read_endpoint("table5") == Endpoint("error", "last", "lower", 200, ("pixels", "f1"))
    assert read_endpoint("table5", "small") == read_endpoint("table5")
    assert read_endpoint("table5", "smoke") == Endpoint("pixels", "last", "lower", 200, ("error", "f1"))


def test_rows_of_one_name_must_be_one_run(table: Path) -> None:
    (table / "rows.csv").write_text(ROWS.replace("BN,norm=bn,MNIST", "BN,norm=mn,MNIST"))
    with pytest.raises(CbnormError, match="two rows are called 'BN', but differ"):
        plan("table5")


@pytest.mark.parametrize(
    "line", ["error,first,lower,200", "error,last,sideways,200", "error,last,lower,many"]
)
def test_a_damaged_endpoint_is_one_line(line: str, table: Path) -> None:
    (table / "endpoint.csv").write_text(f"metric,weights,better,epochs\n{line}\n")
    with pytest.raises(CbnormError, match=r"endpoint\.csv"):
        read_endpoint("table5")


def test_records_without_accuracy_are_records_and_those_without_numbers_are_not() -> None:
    made = run("bn", 0, target=0.5)
    assert problem(made, made["id"]) is None
    made["metrics"]["moments"][0]["last"] = {"target.error": None}
    assert problem(made, made["id"]) == "a moment without a reading, or an accuracy that is not in per cent"
    made["metrics"]["moments"][0]["last"] = {"target.accuracy": 101.0}
    assert problem(made, made["id"]) == "a moment without a reading, or an accuracy that is not in per cent"
