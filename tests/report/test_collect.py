"""Records fill cells by what they computed, never by what they are called; nothing is hidden."""

import copy
import csv
import io
import random
import runpy
from pathlib import Path
from typing import Any

import pytest

from cbnorm.cli import main
from cbnorm.report import reproduce as reproduction
from cbnorm.report.blocks import Collection
from cbnorm.report.collect import collect
from cbnorm.report.evidence import Evidence
from cbnorm.report.ledger import read_cells
from cbnorm.report.tables import long_form, paper_layout, write_tables
from cbnorm.report.verdicts import judge
from cbnorm.report.words import markdown
from cbnorm.runs.plan import read_rows, row_configs

Record = dict[str, Any]


record = runpy.run_path(str(Path(__file__).with_name("making.py")))["record"]


def table(*records: Record, **filters: str) -> Any:
    return collect("table5", records, filters=filters)


def cell(found: Any, row: str, percent: int, reading: str = "best") -> Any:
    rows = {r.label: r for r in found.blocks[0].rows}
    return next(c for c in rows[row].at(reading) if c.percent == percent)


def test_a_run_fills_the_cells_of_its_row() -> None:
    found = table(record("norm=ucb", "optimizer.lr=0.005", accuracy=70))
    assert cell(found, "UCB-Norm-2", 100).values == (71.0,)
    assert cell(found, "UCB-Norm-2", 100, "last").values == (70.0,)
    assert found.blocks[0].empty == 36
    assert found.left_out == []


def test_names_of_presets_do_not_matter_but_values_do() -> None:
    shortened = record("norm=bn", "budget=full", "trainer.max_epochs=4")
    found = table(shortened)
    assert found.blocks == []
    assert found.left_out == [(shortened["id"], "customised: trainer.max_epochs=4 (not 100)")]
    # The same values under another name are the same run, hence the same cell.
    spelled_out = record("norm=bn", "budget=full", "trainer.max_epochs=20", "dataset.train_images=10000")
    found = table(spelled_out, dataset="cifar10", budget="small", protocol="sound")
    assert cell(found, "BN-1", 25).values == (80.25,)


def test_a_run_of_no_experiment_fills_a_cell_too() -> None:
    plain = record("norm=bn") | {"experiment": None}
    assert cell(table(plain, dataset="cifar10", budget="small", protocol="sound"), "BN-1", 100).values == (
        81.0,
    )


def test_seeds_are_averaged() -> None:
    found = table(*(record("norm=bn", f"seed={seed}", accuracy=a) for seed, a in enumerate((79, 80, 84))))
    entry = cell(found, "BN-1", 100)
    assert (entry.mean, len(entry.values), len(entry.runs)) == (82.0, 3, 3)
    assert entry.sd == pytest.approx(7**0.5)


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_records_does_not_change_a_byte(seed: int, tmp_path: Path) -> None:
    records = [record(f"norm={n}", f"seed={s}", accuracy=70 + s) for n in ("bn", "scb") for s in range(3)]
    shuffled = random.Random(seed).sample(records, len(records))
    for folder, given in (("a", records), ("b", shuffled)):
        write_tables(table(*given), tmp_path / folder)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_paper_values_stand_only_beside_full_budget_runs() -> None:
    rows = list(
        csv.DictReader(io.StringIO(long_form(table(record("norm=bn", "budget=full", accuracy=85)).blocks)))
    )
    first = next(r for r in rows if r["row"] == "BN-1" and r["percent"] == "100" and r["reading"] == "best")
    assert (first["mean"], first["paper"], first["difference"]) == ("86.00", "86.90", "-0.90")
    small = csv.DictReader(io.StringIO(long_form(table(record("norm=bn")).blocks)))
    assert {(r["paper"], r["difference"]) for r in small} == {("", "")}


def test_failed_stale_and_foreign_records_are_listed() -> None:
    failed = record("norm=bn", status="failed") | {"error": {"message": "out of memory"}}
    stale = record("norm=mn")
    stale["identity"]["numerics_version"] = 0
    foreign = record("norm=ucb")
    foreign["identity"]["data"] = "something else"
    found = table(failed, stale, foreign, record("norm=scb"))
    reasons = dict(found.left_out)
    assert reasons[failed["id"]] == "failed: out of memory"
    assert reasons[stale["id"]].startswith("stale")
    assert reasons[foreign["id"]].startswith("foreign")
    assert all(run in markdown(found) for run in reasons)


def test_a_diverged_run_counts_with_what_it_had() -> None:
    diverged = record("norm=bn", status="diverged", accuracy=50)
    diverged["metrics"]["moments"] = copy.deepcopy(diverged["metrics"]["moments"][:1])
    found = table(diverged)
    assert [cell(found, "BN-1", p).values for p in (25, 100)] == [(50.25,), (50.25,)]
    assert "BN-1 (diverged)" in markdown(found)


def test_a_run_that_diverged_before_any_reading_lacks_nothing() -> None:
    diverged = record("norm=bn", status="diverged")
    diverged["metrics"]["moments"] = []
    found = table(diverged)
    assert found.left_out == []
    assert cell(found, "BN-1", 100).values == ()
    assert "BN-1 (diverged)" in markdown(found)
    stopped = record("norm=bn")
    stopped["metrics"]["moments"] = []
    assert dict(table(stopped).left_out)[stopped["id"]].startswith("incomplete: no reading at 25 %, 50 %")


def test_layout_is_the_papers_with_empty_cells_empty() -> None:
    lines = list(csv.reader(io.StringIO(paper_layout(table(record("norm=bn")).blocks))))
    assert [line[3] for line in lines[1:]] == [row.label for row in read_rows("table5")]
    assert lines[1][:3] == ["CIFAR-10 (10,000 training images)", "small", "sound"]
    assert lines[1][6:] == ["80.25", "80.50", "80.75", "81.00"]
    assert lines[2][6:] == ["", "", "", ""]


def test_the_ledger_holds_every_published_cell() -> None:
    cells = read_cells("table5")
    assert len(cells) == 3 * 10 * 4
    assert {row for _, row, _, _ in cells} == {row.label for row in read_rows("table5")}
    assert cells["CIFAR-10", "UCB-Norm-1", 100, "accuracy"] == 87.97
    assert cells["Tiny ImageNet", "BN-1", 25, "accuracy"] == 37.17


def test_controls_stand_below_the_table_and_only_with_runs() -> None:
    assert not any(row.control for row in table(record("norm=bn")).blocks[0].rows)
    found = table(record("norm=bn"), record("norm=none", accuracy=60))
    labels = [row.label for row in found.blocks[0].rows if row.control]
    assert labels == ["No-norm-1"]
    assert found.blocks[0].empty == 36
    text = markdown(found)
    assert text.index("Controls, none of them the paper's") < text.index("| No-norm-1 | 0.001 | 60.25 |")
    kinds = {r["row"]: r["kind"] for r in csv.DictReader(io.StringIO(long_form(found.blocks)))}
    assert (kinds["BN-1"], kinds["No-norm-1"]) == ("row", "control")


def test_the_best_validation_accuracy_stands_beside_the_row() -> None:
    assert "| BN-1 | 0.001 | 80.25 | 80.50 | 80.75 | 81.00 | 80.00 | 80.00 | 1 |" in markdown(
        table(record("norm=bn"))
    )


def test_data_sets_of_other_content_never_share_a_block() -> None:
    found = table(
        record("norm=bn", "dataset=tinyimagenet", data="150 images", accuracy=30),
        record("norm=mn", "dataset=tinyimagenet", data="150 images", accuracy=31),
        record("norm=bn", "dataset=tinyimagenet", data="500 images", accuracy=40),
        record("norm=bn", "dataset=imagefolder", "dataset.folder=mine", data="holidays", accuracy=50),
    )
    accuracies = {
        block.dataset: [row.at("best")[-1].values for row in block.rows if row.at("best")[-1].values]
        for block in found.blocks
    }
    assert accuracies == {
        "Tiny ImageNet of 150 images": [(31.0,), (32.0,)],
        "Tiny ImageNet of 500 images": [(41.0,)],
        "Image folder of holidays": [(51.0,)],
    }
    assert found.left_out == []


def test_an_open_data_set_that_is_not_here_gives_an_empty_block() -> None:
    found = table(dataset="tinyimagenet", budget="small", protocol="sound")
    assert [(block.title, block.empty) for block in found.blocks] == [
        ("Tiny ImageNet (10,000 training images)", 40)
    ]


def test_a_part_of_a_data_set_is_not_compared_with_the_paper() -> None:
    words = ("norm=bn", "dataset=tinyimagenet", "budget=full")
    whole = record(*words, data="x") | {"data": {"name": "Tiny ImageNet", "images": {"train": 95_000}}}
    for entry, papers in ((whole, {37.17}), (record(*words, data="y"), {None})):
        row = table(entry).blocks[0].rows[0]
        assert {cell.paper for cell in row.at("best")} == papers


def test_a_choice_is_made_on_validation_and_test_plays_no_part() -> None:
    low, high = (
        record("experiment=table5_rates", "norm=bn", f"optimizer.lr={rate}", accuracy=accuracy)
        for rate, accuracy in ((0.0003, 70), (0.002, 60))
    )
    for entry, validation in ((low, 50.0), (high, 55.0)):
        for moment in entry["metrics"]["moments"]:
            moment["val_accuracy"] = validation
    found = collect("table5_rates", [low, high], filters={})
    assert [choice.row.label for choice in found.blocks[0].chosen()] == ["BN at 0.002"]
    told = "| rate of BN | BN at 0.002 | 2 of 5 rows | 55.00 | 5.00 over BN at 0.0003 (1 seed) | 61.00 | 1 |"
    assert told in markdown(found)


def test_a_choice_compares_on_seeds_that_both_rows_have() -> None:
    lucky, better = (
        [
            record("experiment=table5_rates", "norm=bn", f"optimizer.lr={rate}", f"seed={seed}")
            for seed in seeds
        ]
        for rate, seeds in ((0.0003, (0, 1)), (0.002, (0,)))
    )
    for entry, validation in zip([*lucky, *better], (50.0, 70.0, 55.0), strict=True):
        for moment in entry["metrics"]["moments"]:
            moment["val_accuracy"] = validation
    (chosen,) = collect("table5_rates", [*lucky, *better], filters={}).blocks[0].chosen()
    # The other one's mean, 60, is over a seed that this one doesn't have.
    assert (chosen.row.label, chosen.lead) == ("BN at 0.002", 5.0)


@pytest.mark.parametrize(
    ("words", "marked"),
    [
        (["norm=ucb"], False),
        (["norm=ucb", "norm.eval_stats=batch"], True),
        (["norm=bn"], False),
    ],
)
def test_what_looks_at_other_test_images_is_marked(words: list[str], marked: bool) -> None:
    place = ("experiment=ucb_forms",) if len(words) > 1 else ()
    name = "ucb_forms" if place else "table5"
    found = collect(name, [record(*place, *words, experiment=name)], filters={})
    rows = [row for block in found.blocks for row in block.rows if row.main[-1].values]
    assert [row.marks for row in rows] == [("transductive",) * marked]
    assert ("Transductive: a test image was read with" in markdown(found)) is marked
    assert ("(transductive)" in markdown(found)) is marked


def test_runs_of_another_table_make_a_block_of_their_own_where_they_fill_cells() -> None:
    words = ["optimizer.lr=0.001", "norm=ucb"]
    found = collect("spread", [record(*words, accuracy=70)], filters={})
    (block,) = found.blocks
    assert {row.label for row in block.rows if row.cells[0].values} == {"UCB-Norm"}
    assert found.left_out == []
    assert collect("spread", [record(*words)], filters={}, shared=False).blocks == []
    # A table of another network, or of other values, is none of theirs.
    assert collect("densenet", [record(*words)], filters={}).blocks == []
    assert collect("k_sweep", [record("norm=mn")], filters={}).blocks == []


def test_other_images_never_stand_under_the_papers_name() -> None:
    words = ["norm=scb", "optimizer.lr=0.03", "budget=smoke"]
    on_digits = record(*words, experiment="table6")
    (block,) = collect("table6", [on_digits], filters={}).blocks
    assert block.datasets == {"in place of MNIST", "in place of SVHN"}
    told = judge(Collection("table6", [block]), Evidence([]))
    assert {verdict.seeds for verdict in told} == {0}
    assert {verdict.verdict for verdict in told} == {"not run", "not testable"}
    # What was adapted to USPS is no result on SVHN, though all rows agree but for the images.
    to_usps = record("norm=scb", "optimizer.lr=0.03", experiment="table6_usps")
    assert collect("table6", [to_usps], filters={}).blocks == []
    (block,) = collect("table6_usps", [to_usps], filters={}).blocks
    assert block.datasets == {"MNIST", "USPS"}


@pytest.mark.parametrize(
    ("words", "custom"),
    [
        (["logger=wandb", "logger.project=mine", "trainer.accelerator=cpu", "model.depth=100"], []),
        (["optimizer.weight_decay=0.1"], ["optimizer.weight_decay=0.1"]),
    ],
)
def test_only_what_changes_runs_makes_a_table_customised(
    words: list[str], custom: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(reproduction, "sweep", lambda *_, **__: True)
    monkeypatch.setattr(reproduction, "collect", lambda *_, overrides, **__: seen.append(overrides))
    monkeypatch.setattr(reproduction, "write", lambda *_: None)
    assert main(["reproduce", "table5", "budget=smoke", f"store={tmp_path}", *words]) == 0
    assert seen == [custom]


def test_errors_that_are_shares_keep_their_decimals() -> None:
    config = next(iter(row_configs("densenet", ["budget=full"]).values()))
    records = [
        record(config=config.model_copy(update={"seed": seed}), experiment="densenet", accuracy=accuracy)
        for seed, accuracy in enumerate([70.0, 70.03])
    ]
    found = collect("densenet", records, filters={})
    with io.StringIO(long_form(found.blocks)) as text:
        lines = [line for line in csv.DictReader(text) if line["metric"] == "test_error" and line["n"] == "2"]
    last = [line for line in lines if (line["reading"], line["percent"]) == ("last", "100")]
    assert [(line["mean"], line["sd"]) for line in last] == [("0.2999", "0.00021")]
    assert all(len(line["difference"].rpartition(".")[2]) == 4 for line in last)
