"""Weights & Biases offline: the run file is read back, and holds what the run's own files say."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from wandb.proto import wandb_internal_pb2

from cbnorm.config.compose import compose_run
from cbnorm.config.schema import RunConfig
from cbnorm.runs import loggers, resume, wandb_content
from cbnorm.runs.claim import ClaimLostError
from cbnorm.runs.execute import execute
from cbnorm.runs.identity import identity, run_id
from cbnorm.runs.interruption import RunInterruptedError
from cbnorm.runs.store import Store
from cbnorm.runs.wandb_process import Publisher, has_key, wandb_mode

WORDS = [
    "budget=smoke",
    "experiment=table5",
    "dataset.train_images=20",
    "dataset.val_images=10",
    "dataset.test_images=10",
    "trainer.batch_size=10",
    "trainer.precision=fp32",
]


def config(*words: str) -> RunConfig:
    return compose_run([*WORDS, "norm=bn", *words])


class RunFile:
    """What a `.wandb` file holds; a LevelDB log of protocol buffers."""

    def __init__(self, path: Path) -> None:
        self.config: dict[str, Any] = {}
        self.summary: dict[str, Any] = {}
        self.history: list[dict[str, Any]] = []
        self.metrics: dict[str, Any] = {}
        self.kinds: set[str] = set()
        for record in self._records(path.read_bytes()):
            kind = record.WhichOneof("record_type")
            self.kinds.add(kind)
            if kind == "run":
                self.run = record.run
                self.config = _values(record.run.config.update)
            elif kind == "history":
                self.history.append(_values(record.history.item))
            elif kind == "summary":
                self.summary |= _values(record.summary.update)
            elif kind == "metric":
                self.metrics[record.metric.name or record.metric.glob_name] = record.metric
            elif kind == "exit":
                self.exit_code = record.exit.exit_code

    @staticmethod
    def _records(data: bytes) -> Iterator[Any]:
        assert data[:4] == b":W&B"
        place, whole, block = 7, b"", 32768
        while place + 7 <= len(data):
            if block - place % block < 7:
                place += block - place % block
                continue
            _, length, kind = struct.unpack("<IHB", data[place : place + 7])
            whole += data[place + 7 : place + 7 + length]
            place += 7 + length
            # 1 is a whole record, 4 the last part of one.
            if kind in {1, 4}:
                record = wandb_internal_pb2.Record()
                record.ParseFromString(whole)
                whole = b""
                yield record

    def rows(self) -> list[dict[str, Any]]:
        return [{k: v for k, v in row.items() if not k.startswith("_")} for row in self.history]


def _values(items: Any) -> dict[str, Any]:
    return {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}


def run_file(folder: Path) -> RunFile:
    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    return RunFile(path)


def expected_rows(store: Store, run: str) -> list[dict[str, Any]]:
    """The rows of a whole run: every epoch of the history once, then every reading of the test set."""
    record = store.record(run)
    assert record is not None
    epochs = [
        {"epoch": line["epoch"]}
        | {
            f"{part}/{what}": line[f"{part}_{what}"]
            for part in ("train", "val")
            for what in ("loss", "accuracy")
        }
        | {f"seconds/{key}": value for key, value in line["seconds"].items()}
        for line in store.history(run)
    ]
    readings = [
        {"epoch": m["epoch"]}
        | {f"test/{which}_{key}": value for which in ("best", "last") for key, value in m[which].items()}
        for m in record["metrics"]["moments"]
    ]
    return epochs + readings


@pytest.fixture(scope="module", autouse=True)
def nobody(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No key, and variables that would rename, move or resume runs if they were heeded."""
    misleading = {"NAME": "x", "TAGS": "x,y", "RUN_GROUP": "x", "RESUME": "must", "RUN_ID": "x", "NOTES": "x"}
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MODE", "API_KEY", "BASE_URL", "ENTITY", "IDENTITY_TOKEN_FILE"):
            patch.delenv(f"WANDB_{name}", raising=False)
        patch.delenv("NETRC", raising=False)
        for name, value in misleading.items():
            patch.setenv(f"WANDB_{name}", value)
        home = tmp_path_factory.mktemp("home")
        patch.setenv("HOME", str(home))
        patch.setenv("WANDB_DIR", str(home / "elsewhere"))
        patch.setenv("WANDB_PROJECT", "from-environment")
        yield
        assert not (home / "elsewhere").exists()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two runs of one process with W&B, and the first of them again without, in a store of its own."""
    store = Store(tmp_path_factory.mktemp("runs"))
    before = set(Path.cwd().iterdir())
    for seed in (0, 1):
        execute(config("logger=wandb", f"seed={seed}"), store)
    execute(config("logger=csv"), Store(store.root / "csv"))
    assert set(Path.cwd().iterdir()) == before
    return store


@pytest.mark.parametrize("seed", [0, 1])
def test_every_epoch_and_reading_is_there_once(seed: int, trained: Store) -> None:
    run = run_id(config(f"seed={seed}"))
    found = run_file(trained.folder(run))
    assert found.rows() == expected_rows(trained, run)
    assert [row["_step"] for row in found.history] == list(range(1, 9))


def test_names_group_tags_and_config_say_what_the_run_is(trained: Store) -> None:
    run = run_id(config())
    found = run_file(trained.folder(run))
    assert found.run.run_id == run
    assert found.run.display_name == f"BN-1 digits seed=0 {run[:4]}"
    assert (found.run.run_group, found.run.project) == ("table5/smoke", "from-environment")
    assert list(found.run.tags) == ["bn", "digits", "sound"]
    assert found.run.job_type == "training"
    record = trained.record(run)
    assert record is not None
    known = {"experiment": "table5", "budget": "smoke", "protocol": "sound", "row": "BN-1"}
    expected = record["identity"]["config"] | known | {"data_fingerprint": record["identity"]["data"]}
    assert {key: found.config[key] for key in expected} == expected


def test_charts_run_over_epochs(trained: Store) -> None:
    metrics = run_file(trained.folder(run_id(config()))).metrics
    assert metrics["*"].step_metric == "epoch"
    assert metrics["epoch"].options.hidden


def test_the_summary_is_the_record(trained: Store) -> None:
    run = run_id(config())
    record, found = trained.record(run), run_file(trained.folder(run))
    assert record is not None
    moments = record["metrics"]["moments"]
    table = {f"test_accuracy_{m['percent']}": m["best"]["accuracy"] for m in moments}
    assert len(table) == 4
    expected = table | {
        "test_accuracy": moments[-1]["best"]["accuracy"],
        "test_accuracy_last": moments[-1]["last"]["accuracy"],
        "val_accuracy": moments[-1]["val_accuracy"],
        "best_epoch": moments[-1]["best_epoch"],
        "epochs": 4,
        "status": "done",
        "parameters": record["parameters"],
        "images_per_second": record["seconds"]["images_per_second"],
        "data_fingerprint": record["identity"]["data"],
        "commit": record["versions"].get("commit"),
    }
    assert {key: found.summary.get(key) for key in expected} == expected
    assert found.exit_code == 0


def test_nothing_of_the_machine_is_written(trained: Store) -> None:
    found = run_file(trained.folder(run_id(config())))
    assert found.kinds <= {"header", "run", "telemetry", "metric", "summary", "history", "exit"}
    assert (found.run.host, found.run.git.commit, found.run.git.remote_url) == ("", "", "")
    files = [
        path for path in (trained.folder(run_id(config())) / "wandb").glob("*/files/**/*") if path.is_file()
    ]
    assert files == []


def test_logging_changes_neither_id_nor_numbers(trained: Store) -> None:
    run, plain = run_id(config("logger=wandb")), Store(trained.root / "csv")
    assert run == run_id(config("logger=csv"))
    with_wandb, without = trained.record(run), plain.record(run)
    assert with_wandb is not None
    assert without is not None
    assert with_wandb["metrics"] == without["metrics"]
    assert with_wandb.keys() == without.keys()
    numbers = [
        [{k: v for k, v in row.items() if k != "seconds"} for row in store.history(run)]
        for store in (trained, plain)
    ]
    assert numbers[0] == numbers[1]
    assert not (plain.folder(run) / "wandb").exists()


def test_a_run_that_was_stopped_and_went_on_is_one_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in the third epoch: there is nothing half, and in the end one whole file."""
    store, run = Store(tmp_path), config("logger=wandb", "seed=2")
    seen = iter(range(100))
    with monkeypatch.context() as patch:
        patch.setattr(resume, "requested", lambda: next(seen) == 5)
        with pytest.raises(RunInterruptedError):
            execute(run, store)
    folder = store.folder(run_id(run))
    assert not (folder / "wandb").exists()
    execute(run, store)
    assert run_file(folder).rows() == expected_rows(store, folder.name)


def test_several_at_once_do_not_mix_and_replace_what_was_there(trained: Store) -> None:
    runs = [run_id(config(f"seed={seed}")) for seed in (0, 1)]
    publishers = [Publisher(trained.folder(run), "offline", "at-once") for run in runs]
    for publisher in publishers:
        publisher.start()
    assert [publisher.finish() for publisher in publishers] == [(None, None)] * 2
    for run in runs:
        found = run_file(trained.folder(run))
        assert (found.run.run_id, found.run.project) == (run, "at-once")
        assert found.rows() == expected_rows(trained, run)


def test_disabled_means_that_nothing_happens(trained: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setattr(loggers, "Publisher", None)
    with loggers.published(config("logger=wandb"), trained.folder(run_id(config())), print) as told:
        assert told is print


def test_a_run_that_another_process_took_over_is_left_to_it(
    trained: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    class Watched:
        def __init__(self, *_: Any) -> None: ...

        def kill(self) -> None:
            done.append("killed")

    monkeypatch.setattr(loggers, "Publisher", Watched)
    run = config("logger=wandb")
    with pytest.raises(ClaimLostError), loggers.published(run, trained.folder(run_id(run))):
        raise ClaimLostError("gone")
    assert done == ["killed"]


def test_a_process_that_does_not_start_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "missing"))
    store, run = (
        Store(tmp_path / "runs"),
        config("logger=wandb", "trainer.moments=[100]", "trainer.max_epochs=1"),
    )
    record = execute(run, store)
    assert record is not None
    assert record["status"] == "done"
    (line,) = capsys.readouterr().err.splitlines()
    assert "its process did not start" in line
    assert f"cbnorm wandb sync {record['id']}" in line


def test_a_failed_run_is_told_without_its_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def burst(*_: Any) -> None:
        raise RuntimeError("/home/somebody/secret burst")

    monkeypatch.setattr("cbnorm.tasks.classification.Classification.training_step", burst)
    store, run = Store(tmp_path), config("logger=wandb")
    with pytest.raises(Exception, match="burst"):
        execute(run, store)
    found = run_file(store.folder(run_id(run)))
    assert (found.summary["status"], found.summary["error"], found.exit_code) == ("failed", "RuntimeError", 1)
    assert "secret" not in str(found.summary) + str(found.config)


def test_folders_in_the_config_become_names() -> None:
    values = {
        "dataset": {"folder": "/home/somebody/flowers", "names": ["C:\\Users\\x\\y.txt", "plain"]},
        "lr": 0.1,
    }
    expected = {"dataset": {"folder": "flowers", "names": ["y.txt", "plain"]}, "lr": 0.1}
    assert wandb_content._without_folders(values) == expected


@pytest.mark.parametrize(
    ("words", "label"),
    [
        (["norm=ucb", "optimizer.lr=0.005"], "UCB-Norm-2"),
        (["norm=ucb", "optimizer.lr=0.002"], None),
        (["norm=ucb", "trainer.batch_size=5"], "UCB-Norm-1"),
        (["norm=ln"], None),
        (["norm=uan"], None),
        (["model=densenet"], None),
        (["experiment=ucb_forms", "norm=ucb", "norm.eval_stats=params"], "printed"),
        (["experiment=table6_usps", "budget=smoke", "norm=scb", "optimizer.lr=0.03"], "AdaMatch+SCB-Norm"),
    ],
)
def test_a_row_is_known_by_what_distinguishes_it(words: list[str], label: str | None) -> None:
    run = config(*words)
    names = {"experiment": run.experiment, "protocol": run.protocol, "budget": run.budget}
    content = names | {"config": run.model_dump(), "identity": identity(run)}
    assert wandb_content.row_label(content) == label
    assert wandb_content.row_label(content | {"experiment": None}) is None


@pytest.mark.parametrize("host", ["api.wandb.ai", "api.forge.coreweave.com", "own.example"])
def test_a_key_is_found_where_wandb_finds_it(
    host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert (has_key(), wandb_mode()) == (False, "offline")
    (tmp_path / "netrc").write_text(f"machine {host}\n  login user\n  password {'0' * 40}\n")
    assert has_key() == (host != "own.example")
    monkeypatch.setenv("WANDB_BASE_URL", "https://own.example")
    assert has_key() == (host == "own.example")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    assert (has_key(), wandb_mode()) == (True, "online")
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert wandb_mode() == "offline"
