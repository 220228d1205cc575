"""What seeds and settings do on validation images."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from cbnorm.report import spread, spread_part
from cbnorm.report.collect import collect
from cbnorm.report.tables import write_tables
from cbnorm.runs.plan import plan, read_rows

record = runpy.run_path(str(Path(__file__).with_name("making.py")))["record"]
NAME = "spread"
BLOCK = {"dataset": "cifar10", "protocol": "sound", "budget": "small"}


def records(values):
    """Records of rows with these best validation accuracies for seeds 0, 1, ..."""
    rows = {row.label: row.overrides for row in read_rows(NAME)}
    return [
        record(*rows[label], f"seed={seed}", experiment=NAME, accuracy=accuracy)
        for label, accuracies in values.items()
        for seed, accuracy in enumerate(accuracies)
    ]


def block(values):
    return collect(NAME, records(values), filters=BLOCK).blocks[0]


def normal(mean, sd, seeds, seed):
    return mean + sd * np.random.default_rng(seed).standard_normal(seeds)


def test_every_contrast_is_between_rows_and_changes_one_thing():
    rows = {row.label: set(row.overrides) for row in read_rows(NAME)}
    for one in spread.read_contrasts(NAME):
        assert rows[one.b] < rows[one.a], one
        assert one.margin > 0


def test_the_rows_as_they_are_are_those_of_table5():
    own = {run.id for run in plan(NAME, labels=["BN", "UCB-Norm"])}
    assert own == {run.id for run in plan("table5", labels=["BN-1", "UCB-Norm-1"])}


@pytest.mark.parametrize(
    ("shift", "sd", "answer"),
    [
        (0.0, 0.1, "equivalent"),
        (0.0, 2.0, "can't be told"),
        (1.0, 0.1, "different"),
        (0.3, 0.1, "equivalent"),
    ],
)
def test_a_contrast_is_answered_by_two_one_sided_tests(shift, sd, answer):
    values = {"BN": normal(70, sd, 8, 1), "BN-fp32": normal(70 + shift, sd, 8, 2)}
    contrast = spread.read_contrasts(NAME)[0]
    found = spread.measure(contrast, block(values))
    assert found.answer == answer
    a, b = values["BN-fp32"], values["BN"]
    one = stats.ttest_ind(a, b + 0.5, equal_var=False, alternative="less").pvalue
    other = stats.ttest_ind(a, b - 0.5, equal_var=False, alternative="greater").pvalue
    assert found.p == pytest.approx(max(one, other))
    low, high = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert found.bounds == pytest.approx((low, high))


def test_only_seeds_that_both_rows_have_count():
    contrast = spread.read_contrasts(NAME)[0]
    found = spread.measure(contrast, block({"BN": [70, 71, 72, 73], "BN-fp32": [71, 72]}))
    assert (found.seeds, found.points, found.answer) == ((0, 1), 1.0, "too few seeds")
    assert spread.measure(contrast, block({"BN": [70, 71]})).points is None


def test_the_spread_has_the_interval_of_a_normal_sample():
    sd = np.random.default_rng(0).standard_normal((2000, 8)).std(axis=1, ddof=1)
    bounds = np.array([spread.sd_interval(one, 8) for one in sd])
    covered = ((bounds[:, 0] < 1) & (bounds[:, 1] > 1)).mean()
    assert 0.93 < covered < 0.97


def test_rows_that_share_seeds_are_correlated(tmp_path):
    values = normal(70, 1.0, 8, 3)
    found = collect(NAME, records({"BN": values, "UCB-Norm": values + 1}), filters=BLOCK)
    page = "\n".join(spread_part.markdown_part(found.blocks[0]))
    assert "| BN, UCB-Norm | 8 | 1.00 " in page
    paths = {path.name: path for path in write_tables(found, tmp_path)}
    assert page.rstrip() in paths["spread.md"].read_text(encoding="utf8")
    assert len(paths["spread-contrasts.csv"].read_text().splitlines()) == 1 + len(spread.read_contrasts(NAME))
    # Rows without spread have no correlation, and no warning.
    assert "r (95" not in "\n".join(spread_part.markdown_part(block({"BN": [70] * 8, "UCB-Norm": values})))


def test_tables_without_contrasts_have_no_such_part():
    assert spread.read_contrasts("table5") == []
    found = collect("table5", [], filters=BLOCK)
    assert spread_part.markdown_part(found.blocks[0]) == []


def test_a_table_of_some_rows_leaves_the_other_contrasts_open():
    # As after `cbnorm reproduce spread rows=BN`.
    made = records({"BN": [70, 71, 72], "BN-fp32": [70, 71, 72]})
    found = collect(NAME, made, filters=BLOCK, labels=["BN"]).blocks
    assert [row.label for row in found[0].rows] == ["BN"]
    assert "| BN-fp32 − BN | 0 |" in "\n".join(spread_part.markdown_part(found[0]))
    assert len(spread_part.as_csv(found).splitlines()) == 1 + len(spread.read_contrasts(NAME))


def test_where_nothing_varies_nothing_is_tested():
    row, base = spread.read_contrasts(NAME)[0].a, spread.read_contrasts(NAME)[0].b
    found = spread.measure(spread.read_contrasts(NAME)[0], block({row: [71.0] * 3, base: [70.0] * 3}))
    assert (found.points, found.bounds, found.p) == (1.0, None, None)
    assert found.answer == "no value varies: nothing to test"
