"""What happens to runs that are trained anew, were left half cleaned, or diverged when they were stopped."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cbnorm.config.compose import compose_run
from cbnorm.errors import CbnormError
from cbnorm.runs import checkpoint, files, interruption, resume
from cbnorm.runs import execute as execution
from cbnorm.runs import merge as merging
from cbnorm.runs.claim import ClaimLostError, claim
from cbnorm.runs.device import exact_float32
from cbnorm.runs.execute import RunFailedError, execute
from cbnorm.runs.identity import identity, run_id
from cbnorm.runs.interruption import RunInterruptedError, requested, stop_signals
from cbnorm.runs.plan import Planned
from cbnorm.runs.store import Store
from cbnorm.runs.sweep import sweep
from cbnorm.runs.worker import work
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


@pytest.mark.parametrize("where", ["training", "loading"])
def test_who_lost_a_run_in_its_sleep_leaves_the_other_s_history_alone(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = compose_run([*WORDS, "norm=bn", "trainer.keep=moments"])
    whole, store = Store(tmp_path / "whole"), Store(tmp_path / "store")
    execute(config, whole)
    done, folder = whole.folder(run_id(config)), store.folder(run_id(config))
    shutil.copytree(done, tmp_path / "copy")
    slept: list[str] = []

    def asleep(step: Callable[..., Any]) -> Callable[..., Any]:
        def wake_up_late(*words: Any, **options: Any) -> Any:
            if not slept:
                slept.append(where)
                (folder / "claim.json").unlink()
                shutil.copytree(tmp_path / "copy", folder, dirs_exist_ok=True)
            return step(*words, **options)

        return wake_up_late

    owner, name = {"training": (Classification, "training_step"), "loading": (execution, "build")}[where]
    monkeypatch.setattr(owner, name, asleep(getattr(owner, name)))
    before = {path.name: path.read_bytes() for path in done.iterdir() if path.is_file()}
    with pytest.raises(ClaimLostError):
        execute(config, store)
    assert slept
    after = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert {name: after.get(name) for name in before} == before


def test_the_record_is_the_last_that_a_merge_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = Store(tmp_path / "here"), Store(tmp_path / "there")
    run = ended(there, "done")
    (there.folder(run) / "predictions.npz").write_bytes(b"some bytes")
    (there.folder(run) / "weights.pt").write_bytes(b"more bytes")
    names: list[str] = []
    monkeypatch.setattr(merging, "write_bytes", lambda path, _data: names.append(path.name))
    merging.merge(here, there)
    assert names == ["predictions.npz", "weights.pt", "record.json"]


def test_a_record_that_changes_is_read_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for status in ("failed", "done", "diverged"):
        assert store.status(ended(store, status)) == status


def test_a_sweep_whose_run_failed_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Worker:
        exitcode, pid = 1, None

        def __init__(self, *_: object) -> None:
            ended(store, "failed")

        def is_alive(self) -> bool:
            return False

        def terminate(self) -> None: ...

        def join(self) -> None: ...

    store = Store(tmp_path)
    monkeypatch.setattr("cbnorm.runs.sweep._start", Worker)
    assert not sweep([Planned("row", CONFIG, run_id(CONFIG))], store, jobs=1)


def test_a_worker_with_a_run_that_failed_exits_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object) -> None:
        raise RunFailedError("it burst")

    monkeypatch.setattr("cbnorm.runs.execute.execute", fails)
    with pytest.raises(SystemExit) as exited:
        work([Planned("row", CONFIG, run_id(CONFIG))], Store(tmp_path), os.getppid())
    assert exited.value.code == 1
    assert "row seed 0: it burst" in capsys.readouterr().err


def test_a_checkpoint_of_another_run_is_set_aside(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, {"run": "0123456789ab"})
    assert list(checkpoint.states(tmp_path, run="ba9876543210")) == []
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.damaged.pt"]


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


def test_a_run_asks_for_its_own_number_of_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def begin(*_: object) -> None:
        raise CbnormError("enough is known")

    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    monkeypatch.setattr(execution, "_begin", begin)
    with pytest.raises(CbnormError, match="enough"):
        execute(compose_run([*WORDS, "norm=bn", "trainer.threads=2"]), Store(tmp_path))
    assert asked == [2]


def test_float32_is_float32_on_every_device() -> None:
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    exact_float32()
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


def test_content_is_safe_on_disk_before_it_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    replace = Path.replace
    monkeypatch.setattr(files.os, "fsync", lambda _: done.append("sync"))
    monkeypatch.setattr(Path, "replace", lambda *given: done.append("replace") or replace(*given))
    files.write_bytes(tmp_path / "a", b"1")
    files.write_bytes(tmp_path / "a", b"2", keep=tmp_path / "before")
    files.write_bytes(tmp_path / "a", b"3", durable=False)
    assert done == ["sync", "replace", "sync", "replace", "replace", "replace"]


def test_who_lost_a_run_saves_no_checkpoint_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, folder = Store(tmp_path), Store(tmp_path).folder(run_id(CONFIG))
    step = Classification.training_step

    def taken_over(self: Classification, batch: Any, index: int) -> Any:
        (folder / "claim.json").write_text('{"token": "another"}')
        return step(self, batch, index)

    monkeypatch.setattr(Classification, "training_step", taken_over)
    monkeypatch.setattr(resume, "INTERVAL", 0.0)
    with pytest.raises(ClaimLostError):
        execute(CONFIG, store)
    assert not list(folder.glob("checkpoint*"))
    assert store.status(folder.name) is None


def test_an_ended_run_is_told_where_what_a_kill_left_cannot_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    run = ended(store, "done")
    (store.folder(run) / "checkpoint.pt").write_bytes(b"half")

    def refuse(*_: object) -> None:
        raise CbnormError("cannot write")

    monkeypatch.setattr("cbnorm.runs.claim.claim", refuse)
    assert execute(CONFIG, store)["id"] == run
    assert sweep([Planned("row", CONFIG, run)], store)
