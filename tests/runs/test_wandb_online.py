"""Weights & Biases online, against a server of our own: what is sent, and what a refusal changes."""

import gzip
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from cbnorm.cli import main
from cbnorm.config.compose import compose_run
from cbnorm.runs import resume, wandb_content
from cbnorm.runs.execute import execute
from cbnorm.runs.identity import identity, run_id
from cbnorm.runs.interruption import RunInterruptedError
from cbnorm.runs.loggers import published
from cbnorm.runs.store import Store
from cbnorm.runs.wandb_process import Publisher

WORDS = [
    "budget=smoke",
    "dataset.train_images=20",
    "dataset.val_images=10",
    "dataset.test_images=10",
    "trainer.batch_size=10",
    "trainer.precision=fp32",
    "logger=wandb",
]


class Server(ThreadingHTTPServer):
    """As much of W&B's server as a run needs: it keeps the files of every run, line by line, as W&B does."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.bodies: list[str] = []
        self.history: dict[str, list[dict[str, Any]]] = {}
        self.exit_codes: dict[str, int | None] = {}
        self.headers: dict[str, dict[str, Any]] = {}
        self.refuse: dict[str, int] = {}

    def handle_error(self, *_: Any) -> None:
        """A client that goes away, as W&B's does at its end, is no error."""

    def stream(self, run: str, content: dict[str, Any]) -> None:
        part = content.get("files", {}).get("wandb-history.jsonl")
        if part:
            lines = self.history.setdefault(run, [])
            # A run that begins at line 0 again takes the place of the one before.
            del lines[part["offset"] :]
            lines += [json.loads(line) for line in part["content"]]
        if content.get("complete"):
            self.exit_codes[run] = content.get("exitcode")

    def rows(self, run: str) -> list[dict[str, Any]]:
        return [{k: v for k, v in row.items() if not k.startswith("_")} for row in self.history.get(run, [])]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: Any) -> None: ...

    def do_PUT(self) -> None:
        self._take()
        self._reply({})

    def do_POST(self) -> None:
        body = self._take()
        kind = "graphql" if self.path == "/graphql" else "stream"
        if kind in self.server.refuse:
            self._reply({"errors": [{"message": "refused"}]}, self.server.refuse[kind])
        elif kind == "stream":
            self.server.stream(self.path.split("/")[-2], json.loads(body))
            self._reply({"exitcode": None, "limits": {}})
        else:
            self._reply({"data": self._answer(json.loads(body))})

    def _take(self) -> str:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        text = (gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body).decode()
        self.server.bodies.append(text)
        return text

    def _reply(self, content: dict[str, Any], status: int = 200) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _answer(self, question: dict[str, Any]) -> dict[str, Any]:
        values = question["variables"]
        if "upsertBucket" in question["query"]:
            self.server.headers[values["name"]] = self.server.headers.get(values["name"], {}) | {
                key: value for key, value in values.items() if value is not None
            }
            project = {"id": "p", "name": values["project"], "entity": {"id": "e", "name": "team"}}
            empty = {"displayName": "", "description": "", "config": "{}", "sweepName": None}
            bucket = {"id": "b", "name": values["name"], "project": project, "historyLineCount": 0} | empty
            return {"upsertBucket": {"bucket": bucket, "inserted": True}}
        if "createRunFiles" in question["query"]:
            address = f"http://127.0.0.1:{self.server.server_port}/files"
            files = [{"name": name, "uploadUrl": f"{address}/{name}"} for name in values["files"]]
            return {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}
        return {}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    with Server() as running:
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        for name in ("MODE", "PROJECT", "ENTITY"):
            monkeypatch.delenv(f"WANDB_{name}", raising=False)
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{running.server_port}")
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        yield running
        running.shutdown()


def put(folder: Path, seed: int = 0, *, logger: str = "csv", ended: bool = True) -> str:
    """A run of four epochs as it would lie in a store."""
    config = compose_run(["budget=smoke", f"logger={logger}"]).model_copy(update={"seed": seed})
    store, run = Store(folder), run_id(config)
    names = {"experiment": None, "protocol": config.protocol, "budget": config.budget}
    known = names | {"identity": identity(config), "config": config.model_dump(exclude={"store"})}
    store.open_run(run, known)
    epochs = [{"epoch": n, "train_loss": 1 / n, "val_accuracy": 10.0 * n} for n in range(1, 5)]
    (store.folder(run) / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in epochs))
    if ended:
        reading = {"accuracy": 80.0, "loss": 0.5}
        moments = [{"percent": 100, "epoch": 4, "best_epoch": 3, "best": reading, "last": reading}]
        outcome = {"status": "done", "epochs": 4, "metrics": {"moments": moments}}
        outcome["data"] = {"name": "CIFAR-10", "images": {"train": 12}}
        (store.folder(run) / "record.json").write_text(json.dumps({"layout": 1, "id": run} | known | outcome))
    return run


def expected_rows(store: Store, run: str) -> list[dict[str, Any]]:
    record = store.record(run)
    return [
        *(wandb_content.epoch_row(row) for row in store.history(run)),
        *(wandb_content.reading_rows(record) if record else ()),
    ]


@pytest.fixture
def sync(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., tuple[int, str, str]]:
    def ask(*words: str) -> tuple[int, str, str]:
        status = main(["wandb", "sync", f"store={tmp_path / 'runs'}", *words])
        told = capsys.readouterr()
        return status, told.out, told.err

    return ask


def test_a_run_that_was_stopped_and_went_on_is_one_history(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its first two epochs are told while it trains; the rest, readings and summary when it went on."""
    store, run = Store(tmp_path / "runs"), compose_run([*WORDS, "norm=bn"])
    name, seen = run_id(run), iter(range(100))
    with monkeypatch.context() as patch:
        patch.setattr(resume, "requested", lambda: next(seen) == 4)
        with pytest.raises(RunInterruptedError):
            execute(run, store)
    assert [row["epoch"] for row in server.rows(name)] == [1, 2]
    assert server.exit_codes == {name: 1}
    record = execute(run, store)
    assert record is not None
    assert server.rows(name) == expected_rows(store, name)
    assert server.exit_codes == {name: 0}
    assert server.headers[name]["displayName"] == f"bn lr=0.001 digits seed=0 {name[:4]}"
    assert server.headers[name]["groupName"] == "train/smoke"
    assert capsys.readouterr().err == ""
    assert len(list(store.folder(name).glob("wandb/run-*"))) == 1
    refuse_secrets("\n".join(server.bodies), store.root)


def refuse_secrets(sent: str, store: Path) -> None:
    """Nothing of the machine, of its folders, of the code or of what was printed is sent."""
    assert "train/loss" in sent
    folders = (str(folder) for folder in (store, Path.cwd(), Path(sys.executable).parent))
    for secret in (*folders, f'"{socket.gethostname()}"'):
        assert secret not in sent
    assert not re.search(r"wandb-metadata|requirements\.txt|output\.log|diff\.patch|\.py\b", sent)


def test_a_killed_training_leaves_nobody_behind(server: Server, tmp_path: Path) -> None:
    run = put(tmp_path, ended=False)
    script = (
        "import os, sys, time; from pathlib import Path; from cbnorm.runs.wandb_process import Publisher\n"
        f"Publisher(Path({str(tmp_path / run)!r}), 'online', 'cbnorm').start(); time.sleep(0.1)\n"
        f"os.kill(os.getpid(), {int(signal.SIGKILL)})"
    )
    process = subprocess.run([sys.executable, "-c", script], check=False)
    assert process.returncode == -signal.SIGKILL
    until = time.monotonic() + 30
    while run not in server.exit_codes and time.monotonic() < until:
        time.sleep(0.05)
    assert server.exit_codes == {run: 1}
    assert server.rows(run) == expected_rows(Store(tmp_path), run)


@pytest.mark.parametrize("kind", ["graphql", "stream"])
def test_a_refusal_is_one_line_and_the_run_goes_on(
    kind: str, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.refuse[kind] = 403
    run = put(tmp_path)
    with published(compose_run(WORDS), tmp_path / run) as told:
        assert told is not None
        told({"epoch": 1})
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"cbnorm: W&B was not told all of run {run}: ")
    assert f"cbnorm wandb sync {run}" in line
    assert not (tmp_path / run / "wandb/sent.json").exists()


def test_a_server_that_does_not_answer_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = put(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        began = time.monotonic()
        answer = Publisher(tmp_path / run, "online", "cbnorm").finish(2.0)
    assert answer == (None, "no answer within 2 s")
    assert time.monotonic() - began < 10


def test_runs_are_sent_when_named_or_logged_and_once(server: Server, tmp_path: Path, sync: Any) -> None:
    store = Store(tmp_path / "runs")
    plain, logged = put(store.root, 0), put(store.root, 1, logger="wandb")
    unfinished = put(store.root, 2, logger="wandb", ended=False)
    status, out, _ = sync("dry=true")
    assert (status, server.bodies) == (0, [])
    assert logged in out
    assert plain not in out
    assert "1 to send, 0 sent before" in out
    assert sync(plain[:8])[0] == 0
    assert server.rows(plain) == expected_rows(store, plain)
    assert "1 sent, 1 sent before, 0 failed" in sync("all=true")[1]
    assert server.history.keys() == {plain, logged}
    assert "has not ended" in sync(unfinished)[2]
    calls = len(server.bodies)
    assert "0 sent, 2 sent before" in sync("all=true")[1]
    assert len(server.bodies) == calls
    assert "2 to send" in sync("dry=true", "all=true", "project=other")[1]
    record = store.folder(logged) / "record.json"
    record.write_text(record.read_text().replace('"epochs": 4', '"epochs": 5'))
    assert "1 to send, 1 sent before" in sync("dry=true", "all=true")[1]


def test_without_a_key_nothing_is_sent_and_nothing_asked(
    server: Server, tmp_path: Path, sync: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "runs", logger="wandb")
    monkeypatch.delenv("WANDB_API_KEY")
    status, _, err = sync()
    assert (status, err.count("\n")) == (2, 1)
    assert "WANDB_API_KEY" in err
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert "WANDB_MODE=disabled" in sync()[2]
    assert server.bodies == []


def test_what_fails_every_time_is_not_tried_for_ever(
    server: Server, tmp_path: Path, sync: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "missing"))
    for seed in range(4):
        put(tmp_path / "runs", seed, logger="wandb")
    status, out, _ = sync()
    assert status == 1
    assert out.count("not sent: ") == 2
    assert "the other 2 are not tried" in out
    assert "0 sent, 0 sent before, 4 failed" in out


@pytest.mark.parametrize(
    "words", [[], ["synk"], ["sync", "all=yes"], ["sync", "jobs=2"], ["sync", "--dry-rum"]]
)
def test_what_is_not_understood_is_one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["wandb", *words]) == 2
    told = capsys.readouterr()
    assert (told.out, told.err.count("\n")) == ("", 1)


def test_a_dry_look_at_runs_needs_neither_torch_nor_wandb(tmp_path: Path) -> None:
    put(tmp_path, logger="wandb")
    code = (
        "import sys; from cbnorm.cli import main\n"
        "for dry in ('dry=true', 'dry=True', '--dry-run'):\n"
        f"    assert main(['wandb', 'sync', dry, 'store={tmp_path}']) == 0\n"
        "assert not {'torch', 'wandb', 'lightning'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
