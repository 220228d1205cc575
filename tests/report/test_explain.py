"""Where a number comes from is told whole, down to the command that repeats it."""

import shlex
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from cbnorm.cli import main
from cbnorm.runs.plan import parse_seeds, plan

ROWS = {"UCB-Norm-1": [71.0, 72.0, 73.0], "BN-1": [70.0, 70.5, 69.5]}


@pytest.fixture
def told(making: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> object:
    records = [*making.table(ROWS), making.record("norm=ucb", "trainer.batch_size=128")]
    making.write(tmp_path, records)

    def ask(*words: str) -> str:
        assert main(["explain", *words, f"store={tmp_path}"]) == 0
        return capsys.readouterr().out

    ask.records = records
    return ask


def test_a_cell_is_explained_by_its_runs(told: object) -> None:
    text = told("table5", "CIFAR-10", "UCB-Norm-1", "100")
    assert "published: 87.97" in text
    for entry in told.records[:3]:
        assert entry["id"] in text
    assert "mean 72.00, standard deviation 1.00, n = 3, 95 % interval 69.52 to 74.48" in text
    assert "0123456789ab  made up, numbers of version" in text
    assert "config differences from the row: none" in text
    assert "not comparable with the published number" in text
    assert f"{told.records[-1]['id']}  budget small: customised: trainer.batch_size=128 (not 256)" in text


def test_the_command_that_repeats_a_cell_plans_its_runs(told: object) -> None:
    text = told("table5", "cifar10", "ucb-norm-1")
    line = next(line for line in text.splitlines() if "repeat it" in line)
    words = shlex.split(line.partition(": ")[2])
    assert words[:3] == ["cbnorm", "reproduce", "table5"]
    own = dict(word.split("=", 1) for word in words[3:])
    planned = plan(
        "table5",
        [f"{key}={own[key]}" for key in ("dataset", "protocol", "budget")],
        seeds=parse_seeds(own["seeds"]),
        labels=own["rows"].split(","),
    )
    assert {run.id for run in planned} == {entry["id"] for entry in told.records[:3]}


def test_a_cell_without_runs_says_how_to_get_them(told: object) -> None:
    text = told("table5", "CIFAR-100", "UCB-Norm-1", "100")
    assert "published: 61.10" in text
    assert "no runs yet" in text
    assert "cbnorm reproduce table5 dataset=cifar100 protocol=sound budget=small rows=UCB-Norm-1" in text


def test_a_claim_is_explained_by_its_values_and_rules(told: object) -> None:
    text = told("c10-ucb-1-bn")
    assert "UCB-Norm is more accurate than BN at rate 0.001" in text
    assert "3 of 5 seeds so far" in text
    assert "UCB-Norm-1: mean 72.00" in text
    assert "(seed: accuracy 0: 71.00, 1: 72.00, 2: 73.00)" in text
    assert "rows=UCB-Norm-1,BN-1 seeds=0..4" in text


def test_a_claim_says_why_its_seeds_are_compared_in_pairs_and_what_hangs_on_it(
    making: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    luck = np.array([0.0, 2.0, -1.0, 1.0, -2.0])
    ours, theirs = 71.5 + luck + [0.1, -0.1, 0.2, 0.0, -0.2], 71.0 + luck
    rows = {"UCB-Norm-1": ours, "BN-1": theirs, "MN-1": 70 + luck, "SCB-Norm-1": 70 + luck + luck**2}
    making.write(tmp_path, making.table({name: list(values) for name, values in rows.items()}))
    assert main(["explain", "c10-ucb-1-bn", f"store={tmp_path}"]) == 0
    told = capsys.readouterr().out
    r = np.corrcoef(rows["MN-1"], rows["SCB-Norm-1"])[0, 1]
    assert f"pairs: the 2 other rows with these seeds correlate by {r:.2f} (in pairs above 0.31)" in told
    pairs = stats.ttest_rel(ours, theirs, alternative="greater").pvalue
    pairs_against = stats.ttest_rel(ours - 0.2, theirs, alternative="less").pvalue
    apart = stats.ttest_ind(ours, theirs, equal_var=False, alternative="greater").pvalue
    apart_against = stats.ttest_ind(ours - 0.2, theirs, equal_var=False, alternative="less").pvalue
    line = f"in pairs {pairs:.4f} for, {pairs_against:.4f} against"
    assert f"{line}; without pairs {apart:.4f} for, {apart_against:.4f} against" in told


def test_without_two_other_rows_nothing_is_said_of_pairs(told: object) -> None:
    assert "pairs" not in told("c10-ucb-1-bn")


def test_a_claim_that_no_run_can_answer_says_why(told: object) -> None:
    assert "the superclass of a test image is given" in told("vit-all")
    assert "rows=" not in told("vit-all")


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["tabel5", "cifar10", "BN-1"], "did you mean 'table5'?"),
        (["table5", "CIFAR-11", "BN-1"], "did you mean 'CIFAR-10"),
        (["table5", "cifar10", "UCBNorm-1"], "did you mean 'UCB-Norm-1'?"),
        (["table5", "cifar10", "BN-1", "x"], "write 25, 50, 75 or 100"),
        (["table5"], "table5 is a table: name a cell of it"),
        (["c10-scb-1-bnn"], "did you mean 'c10-scb-1-bn'?"),
    ],
)
def test_misspelt_words_get_the_nearest_name(
    words: list[str], hint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", *words, f"store={tmp_path}"]) == 2
    line = capsys.readouterr().err
    assert hint in line
    assert line.count("\n") == 1


def test_a_moment_without_a_reading_names_those_that_there_are(told: object) -> None:
    assert "no reading there; there are readings at 25, 50, 75, 100 %" in told(
        "table5", "cifar10", "BN-1", "33"
    )


def test_a_row_that_is_read_on_two_data_sets_is_explained_by_either(
    making: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["norm=scb", "optimizer.lr=0.03"]
    making.write(tmp_path, [making.record(*words, experiment="table6_usps", accuracy=90.0)])
    assert main(["explain", "table6_usps", "usps", "AdaMatch+SCB-Norm", f"store={tmp_path}"]) == 0
    assert "dataset=mnist_usps" in capsys.readouterr().out.partition("repeat it")[2]
    for words in (["table6", "SVHN", "AdaMatch"], ["da-scb-svhn"]):
        assert main(["explain", *words, f"store={tmp_path}"]) == 0
        told = capsys.readouterr().out
        assert "cbnorm reproduce table6 dataset=mnist_svhn" in told
        assert "seeds so far" not in told
    assert main(["explain", "table6", "mnist_svhn", "AdaMatch", f"store={tmp_path}"]) == 2
    assert "AdaMatch is read on MNIST and SVHN; name one of them" in capsys.readouterr().err


def test_suggested_commands_work_and_keep_the_store(told: object, tmp_path: Path) -> None:
    assert f"budget=smoke rows=BN-1 seeds=0..4 store={tmp_path}" in told("table5", "digits", "BN-1")
    assert f" store={tmp_path}" in told("table5", "cifar10", "BN-1").partition("repeat it")[2]


def test_commands_never_train_into_published_records(
    making: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = making.write(tmp_path / "records", making.table(ROWS))
    assert main(["explain", "table5", "cifar10", "BN-1", f"store={store}"]) == 0
    assert "store=" not in capsys.readouterr().out


def test_a_table_about_last_weights_is_explained_by_them(
    making: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = making.record("norm=scb", "optimizer.lr=0.03", experiment="table6_usps", accuracy=90.0)
    for moment in entry["metrics"]["moments"]:
        moment["best"]["accuracy"] = 50.0
    making.write(tmp_path, [entry])
    assert main(["explain", "table6_usps", "usps", "AdaMatch+SCB-Norm", f"store={tmp_path}"]) == 0
    told = capsys.readouterr().out
    assert "90.00, one seed: no interval (accuracy, last weights)" in told
    line = next(line for line in told.splitlines() if line.lstrip().startswith(entry["id"]))
    assert line.split()[2:4] == ["90.00", "50.00"]
    assert told.index("last weights") < told.index("best on validation")


def test_a_claim_of_speed_is_explained_by_epochs(
    making: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = making.table(ROWS)
    epochs = records[0]["config"]["trainer"]["max_epochs"]
    # BN's best is 70 (less 1 as made) on average: UCB-Norm is there at a quarter of the epochs.
    curves = {
        entry["id"]: [10.0] * (epochs // 4 - 1) + [90.0] * (epochs - epochs // 4 + 1)
        if entry["config"]["norm"]["name"] == "ucb"
        else [10.0] * epochs
        for entry in records
    }
    making.write(tmp_path, records, history=curves)
    assert main(["explain", "c10-ucb-1-bn-speed", f"store={tmp_path}"]) == 0
    told = capsys.readouterr().out
    share = f"{100 * (epochs // 4) / epochs:.2f}"
    assert f"(seed: % of the epochs until reaching BN-1 0: {share}, 1: {share}, 2: {share})" in told
    assert "BN-1: mean 100.00" in told


def test_a_claim_is_explained_by_the_seeds_that_its_rows_share(
    making: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    making.write(tmp_path, making.table({"UCB-Norm-1": [71.0, 72.0, 73.0, 74.0], "BN-1": [70.0, None, 69.5]}))
    assert main(["explain", "c10-ucb-1-bn", f"store={tmp_path}"]) == 0
    told = capsys.readouterr().out
    assert "UCB-Norm-1: mean 72.00" in told
    assert "(seed: accuracy 0: 71.00, 2: 73.00)" in told
    assert "(seed: accuracy 0: 70.00, 2: 69.50)" in told
    making.write(tmp_path / "apart", making.table({"UCB-Norm-1": [71.0, 72.0], "BN-1": [None, None, 69.5]}))
    assert main(["explain", "c10-ucb-1-bn", f"store={tmp_path / 'apart'}"]) == 0
    told = capsys.readouterr().out
    assert "UCB-Norm-1: mean 71.50" in told
    assert "BN-1: 69.50, one seed" in told


@pytest.mark.parametrize("claim", ["c10-amount", "c10-mean"])
def test_a_claim_without_a_test_is_explained_by_what_there_is(
    claim: str, making: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        f"{norm}-{rate}" for norm in ("SCB-Norm-base", "SCB-Norm", "UCB-Norm", "BN", "MN") for rate in (1, 2)
    ]
    records = [
        r
        for d in ("cifar10", "cifar100")
        for r in making.table({row: [70.0, 71.0] for row in rows}, f"dataset={d}")
    ]
    making.write(tmp_path, records)
    assert main(["explain", claim, f"store={tmp_path}"]) == 0
    assert "BN-1: mean 70.50, standard deviation 0.71, n = 2" in capsys.readouterr().out
