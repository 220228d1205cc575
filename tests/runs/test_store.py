"""What happens to runs that are trained anew, were left half cleaned, or diverged when they were stopped."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from cbnorm.config.compose import compose_run
from cbnorm.runs import interruption, resume
from cbnorm.runs import merge as merging
from cbnorm.runs.claim import claim
from cbnorm.runs.execute import execute
from cbnorm.runs.identity import identity, run_id
from cbnorm.runs.interruption import RunInterruptedError, requested, stop_signals
from cbnorm.runs.plan import Planned
from cbnorm.runs.store import Store
from cbnorm.runs.sweep import sweep
from cbnorm.tasks.classification import Classification

WORDS = [
    "budget=smoke",
    "dataset.train_images=12",
    "dataset.val_images=10",
    "dataset.test_images=10",
    "trainer.batch_size=5",
    "trainer.precision=fp32",
    "trainer.max_epochs=4",
]
CONFIG = compose_run([*WORDS, "norm=bn"])


def ended(store: Store, status: str) -> str:
    run = run_id(CONFIG)
    config = CONFIG.model_dump(exclude={"store"})
    known = {"experiment": None, "protocol": "sound", "budget": "smoke", "identity": identity(CONFIG)}
    store.open_run(run, known | {"config": config})
    outcome: dict[str, Any] = {
        "data": {"name": "Digits", "images": {"train": 12}},
        "metrics": {"moments": []},
    }
    if status == "failed":
        outcome = {"error": {"message": "burst"}}
    record = {"layout": 1, "id": run, "status": status, "config": config} | known | outcome
    (store.folder(run) / "record.json").write_text(json.dumps(record))
    return run


@pytest.mark.parametrize(
    ("status", "aside"), [("done", "replaced"), ("diverged", "replaced"), ("failed", "failed")]
)
def test_a_run_that_is_trained_anew_keeps_its_record_under_another_name(
    status: str, aside: str, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    run = ended(store, status)
    before = (store.folder(run) / "record.json").read_bytes()
    assert store.status(run) == status
    store.set_aside(run)
    assert store.status(run) is None
    assert (store.folder(run) / f"record.{aside}.json").read_bytes() == before


def test_no_result_pushes_out_an_earlier_one(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for value in range(3):
        run = ended(store, "done")
        path = store.folder(run) / "record.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"epochs": value}))
        store.set_aside(run)
    kept = [f"record.replaced{number}.json" for number in ("", "-2", "-3")]
    assert [json.loads((store.folder(run) / name).read_text())["epochs"] for name in kept] == [0, 1, 2]


def test_a_failure_elsewhere_takes_nothing_from_what_is_unfinished_here(tmp_path: Path) -> None:
    here, there = Store(tmp_path / "here"), Store(tmp_path / "there")
    run = ended(there, "failed")
    here.open_run(run, there.description(run))
    (here.folder(run) / "checkpoint.pt").write_bytes(b"work")
    found = merging.merge(here, there)
    assert found.skipped == {run: "failed there and is unfinished here"}
    assert (here.folder(run) / "checkpoint.pt").read_bytes() == b"work"
    assert here.status(run) is None


def test_grids_of_samples_are_merged_too(tmp_path: Path) -> None:
    here, there = Store(tmp_path / "here"), Store(tmp_path / "there")
    run = ended(there, "done")
    (there.folder(run) / "last_epoch1_samples.png").write_bytes(b"grid")
    assert merging.merge(here, there).copied == [run]
    assert (here.folder(run) / "last_epoch1_samples.png").read_bytes() == b"grid"


def test_a_run_that_ends_here_while_it_is_merged_keeps_its_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = Store(tmp_path / "here"), Store(tmp_path / "there")
    run = ended(there, "done")
    own = there.record(run) | {"status": "diverged"}

    def ends_meanwhile(folder: Path) -> dict[str, bytes]:
        ended(here, "done")
        (here.folder(run) / "record.json").write_text(json.dumps(own))
        return files(folder)

    files = merging._files
    monkeypatch.setattr(merging, "_files", ends_meanwhile)
    found = merging.merge(here, there)
    assert (found.copied, list(found.conflicts)) == ([], [run])
    assert here.record(run) == own
    assert not (here.folder(run) / "record.replaced.json").exists()


def test_a_sweep_anew_trains_every_run_once_however_many_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The records are set aside before the first worker starts, so that none does again what another did."""
    store = Store(tmp_path)
    run = ended(store, "done")

    class Worker:
        exitcode, pid = 0, None

        def __init__(self, planned: list[Planned], worker_store: Store, _limit: object) -> None:
            if worker_store.status(planned[0].id) is None:
                trained.append(planned[0].id)
                ended(worker_store, "done")

        def is_alive(self) -> bool:
            return False

        def terminate(self) -> None: ...

        def join(self) -> None: ...

    trained: list[str] = []
    monkeypatch.setattr("cbnorm.runs.sweep._start", Worker)
    plan = [Planned("a", CONFIG, run), Planned("b", CONFIG, run)]
    assert sweep(plan, store, jobs=2)
    assert trained == []
    assert sweep(plan, store, jobs=2, again=True)
    assert trained == [run]


def test_what_a_kill_right_after_the_record_left_is_tidied(tmp_path: Path) -> None:
    store = Store(tmp_path)
    run = ended(store, "done")
    left = [
        store.folder(run) / name for name in ("checkpoint.pt", "checkpoint.previous.pt", ".x.json.0a.part")
    ]
    for path in left:
        path.write_bytes(b"half")
    assert sweep([Planned("row", CONFIG, run)], store)
    assert not any(path.exists() for path in left)
    assert store.status(run) == "done"


def test_a_finished_run_of_another_process_is_not_tidied_away(tmp_path: Path) -> None:
    store = Store(tmp_path)
    run = ended(store, "done")
    (store.folder(run) / "checkpoint.pt").write_bytes(b"in use")
    with claim(store.folder(run)):
        assert sweep([Planned("row", CONFIG, run)], store)
    assert (store.folder(run) / "checkpoint.pt").exists()


def test_a_run_that_is_stopped_after_it_diverged_ends_as_diverged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, seen, chances = Classification.training_step, iter(range(100)), iter(range(100))

    def seventh_loss_is_nan(self: Classification, batch: Any, index: int) -> Any:
        return step(self, batch, index) * (float("nan") if next(seen) == 6 else 1)

    store, run = Store(tmp_path), run_id(CONFIG)
    with monkeypatch.context() as patch:
        patch.setattr(Classification, "training_step", seventh_loss_is_nan)
        # The ninth chance to stop comes after the third epoch, in which the loss burst.
        patch.setattr(resume, "requested", lambda: next(chances) == 8)
        with pytest.raises(RunInterruptedError):
            execute(CONFIG, store)
    assert store.status(run) is None
    record = execute(CONFIG, store)
    assert (record["status"], record["epochs"]) == ("diverged", 3)
    assert len(store.history(run)) == 3


def test_a_request_to_stop_lasts_to_the_end_of_the_outermost_block_and_no_longer() -> None:
    with stop_signals():
        with stop_signals():
            signal.raise_signal(signal.SIGUSR1)
        with stop_signals():
            assert requested()
    with stop_signals():
        assert not requested()
    assert signal.getsignal(signal.SIGUSR1) is not interruption._request
