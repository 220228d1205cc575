"""Only what is worth believing becomes evidence; the tables follow from it."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from cbnorm.cli import main
from cbnorm.errors import CbnormError
from cbnorm.report.publish import publish, rebuild
from cbnorm.runs.identity import digest
from cbnorm.runs.store import Store

ROWS = {"SCB-Norm-1": [72.0, 73.0], "BN-1": [70.0, 70.4]}


@pytest.fixture
def store(making: SimpleNamespace, tmp_path: Path) -> Callable[..., Store]:
    def write(*more: dict, **options: object) -> Store:
        return Store(making.write(tmp_path / "runs", [*making.table(ROWS), *more], **options))

    return write


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_records_are_copied_once_with_their_small_artifacts(
    store: Callable[..., Store], tmp_path: Path
) -> None:
    runs, to = store(images=50), tmp_path / "results"
    big = runs.runs()[0]
    (runs.root / big / "clusters.npz").write_bytes(b"\0" * (2 * 2**20 + 1))
    (runs.root / big / "checkpoint.pt").write_bytes(b"weights")
    found = publish(runs, to)
    assert (len(found.copied), found.present, found.refused) == (4, [], {})
    for run in found.copied:
        assert names(to / "records" / run) == {"record.json", "history.jsonl", "predictions.npz"}
    again = publish(runs, to)
    assert (again.copied, len(again.present)) == ([], 4)


def test_of_the_grids_of_samples_the_last_are_copied(store: Callable[..., Store], tmp_path: Path) -> None:
    runs, to = store(), tmp_path / "results"
    run = runs.runs()[0]
    record = json.loads((runs.root / run / "record.json").read_text())
    epoch = record["metrics"]["moments"][-1]["epoch"]
    for name in (f"last_epoch{epoch}_samples.png", "last_epoch1_samples.png", "other.png"):
        (runs.root / run / name).write_bytes(b"grid")
    publish(runs, to)
    assert {name for name in names(to / "records" / run) if name.endswith("png")} == {
        f"last_epoch{epoch}_samples.png"
    }


def test_tables_follow_and_nothing_is_removed(store: Callable[..., Store], tmp_path: Path) -> None:
    to = tmp_path / "results"
    (to / "table5").mkdir(parents=True)
    (to / "table5" / "notes.md").write_text("mine")
    publish(store(), to)
    rebuild(to)
    assert {"table5.csv", "table5-long.csv", "table5.md", "table5-claims.csv", "notes.md"} <= names(
        to / "table5"
    )
    table = (to / "table5" / "table5.csv").read_bytes()
    rebuild(to)
    assert (to / "table5" / "table5.csv").read_bytes() == table
    assert b"70.20" in table


def odd(making: SimpleNamespace, what: str) -> dict:
    entry = making.record("norm=mn", status="failed" if what == "failed" else "done")
    if what == "failed":
        entry |= {"error": {"message": "out of memory"}}
    if what == "dirty":
        entry["versions"]["commit"] = "0123456789ab-dirty"
    if what == "customised":
        entry = making.record("norm=mn", "trainer.batch_size=128")
    if what == "incomplete":
        del entry["metrics"]["moments"][1]
    if what == "of no table":
        entry["experiment"] = None
    return entry


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("failed", "failed: out of memory"),
        ("dirty", "trained by uncommitted code (0123456789ab-dirty)"),
        ("customised", "customised: trainer.batch_size=128 (not 256)"),
        ("incomplete", "incomplete: no reading at 50 %"),
        ("of no table", "of no table"),
    ],
)
def test_what_is_not_worth_believing_is_refused_unless_forced(
    store: Callable[..., Store], making: SimpleNamespace, tmp_path: Path, what: str, reason: str
) -> None:
    entry = odd(making, what)
    runs, to = store(entry), tmp_path / "results"
    found = publish(runs, to)
    assert found.refused == {entry["id"]: reason}
    assert len(found.copied) == 4
    assert not (to / "records" / entry["id"]).exists()
    assert publish(runs, to, force=True).copied == [entry["id"]]


def test_numbers_of_two_versions_never_lie_together_unless_forced(
    store: Callable[..., Store], making: SimpleNamespace, tmp_path: Path
) -> None:
    to, old = tmp_path / "results", making.record("norm=mn")
    old["identity"]["numerics_version"] = 0
    old["id"] = digest(old["identity"])
    making.write(to / "records", [old])
    with pytest.raises(CbnormError, match=r"versions 0, .* would lie together"):
        publish(store(), to)
    assert names(to / "records") == {old["id"]}
    assert len(publish(store(), to, force=True).copied) == 4


def test_a_published_record_is_never_replaced(
    store: Callable[..., Store], making: SimpleNamespace, tmp_path: Path
) -> None:
    runs, to = store(), tmp_path / "results"
    publish(runs, to)
    run = runs.runs()[0]
    changed = json.loads((runs.root / run / "record.json").read_text())
    changed["metrics"]["moments"][-1]["best"]["accuracy"] = 99.0
    (runs.root / run / "record.json").write_text(json.dumps(changed))
    before = (to / "records" / run / "record.json").read_bytes()
    for force in (False, True):
        assert "in conflict" in publish(runs, to, force=force).refused[run]
    assert (to / "records" / run / "record.json").read_bytes() == before


def test_one_table_at_a_time(store: Callable[..., Store], making: SimpleNamespace, tmp_path: Path) -> None:
    other = making.record("norm=ucb", "norm.posterior=joint", experiment="ucb_forms")
    found = publish(store(other), tmp_path / "results", ["ucb_forms"])
    assert found.copied == [other["id"]]
    with pytest.raises(CbnormError, match="holds no runs of table5_rates"):
        publish(store(other), tmp_path / "results", ["table5_rates"])


def test_several_tables_at_once(
    store: Callable[..., Store], making: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = store(making.record("norm=ucb", "norm.posterior=joint", experiment="ucb_forms"))
    to = tmp_path / "results"
    assert main(["publish", "table5", "ucb_forms", f"store={runs.root}", f"to={to}"]) == 0
    assert "5 copied, 0 there already, 0 refused" in capsys.readouterr().out
    assert main(["publish", "table5", "ucb_from", f"store={runs.root}", f"to={to}"]) == 2
    assert "did you mean 'ucb_forms'" in capsys.readouterr().err


def test_the_command_says_what_it_did(
    store: Callable[..., Store], making: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = odd(making, "dirty")
    runs, to = store(entry), tmp_path / "results"
    assert main(["publish", f"store={runs.root}", f"to={to}"]) == 1
    told = capsys.readouterr().out
    assert f"{entry['id']}  refused: trained by uncommitted code" in told
    assert "4 copied, 0 there already, 1 refused" in told
    assert main(["publish", f"store={to / 'records'}", f"to={to}"]) == 2
    assert "published already" in capsys.readouterr().err


def test_a_failed_record_gives_way_to_one_with_numbers(
    store: Callable[..., Store], making: SimpleNamespace, tmp_path: Path
) -> None:
    runs, to = store(), tmp_path / "results"
    run = runs.runs()[0]
    whole = json.loads((runs.root / run / "record.json").read_text())
    failed = {key: value for key, value in whole.items() if key not in {"metrics", "data"}}
    failed |= {"status": "failed", "error": {"type": "RuntimeError", "message": "no luck"}}
    (runs.root / run / "record.json").write_text(json.dumps(failed))
    assert run in publish(runs, to, force=True).copied
    (runs.root / run / "record.json").write_text(json.dumps(whole))
    assert run in publish(runs, to).copied
    assert json.loads((to / "records" / run / "record.json").read_text()) == whole
    (runs.root / run / "record.json").write_text(json.dumps(failed))
    assert publish(runs, to, force=True).refused[run].startswith("in conflict")


def test_a_run_whose_epochs_are_damaged_is_not_published(store: Callable[..., Store], tmp_path: Path) -> None:
    runs, to = store(), tmp_path / "results"
    run, *others = runs.runs()
    (runs.root / run / "history.jsonl").write_text('{"epoch": 1, "val_accuracy": "high"}\n')
    found = publish(runs, to, force=True)
    assert sorted(found.copied) == others
    assert "history.jsonl, line 1 is no epoch of a run" in found.refused[run]
