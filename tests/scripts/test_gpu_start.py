"""A session on a borrowed machine leaves a whole store, however it ends, and the next one goes on from it."""

import errno
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
PIECE = 300
#: Stands for cbnorm: it saves when it is asked to stop, once, and says where the store is.
COMMAND = """
import os, signal, sys, time
from pathlib import Path

store = Path(sys.argv[-1].removeprefix("store="))
run = store / "0123456789ab"
run.mkdir(parents=True)
(run / "words.txt").write_text(" ".join(sys.argv[1:-1]))
if "wait" not in sys.argv:
    sys.exit(7)
asked = []
signal.signal(signal.SIGINT, lambda *_: asked.append(1))
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
(run / "begun.txt").touch()
until = time.monotonic() + 30
while not asked and time.monotonic() < until:
    time.sleep(0.01)
(run / "record.json").write_text("saved")
# While Python tidies up, a request that is handed on late would still kill.
os._exit(75)
"""


class KilledError(BaseException):
    """The process is gone: nothing that catches errors or tidies up sees this."""


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import gpu_start

    monkeypatch.setattr(gpu_start, "PIECE", PIECE)
    return gpu_start


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """The script in a bundle whose cbnorm is :data:`COMMAND`."""
    part = tmp_path / "bundle" / "part-01"
    part.mkdir(parents=True)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:xz") as archive:
        for name, text in {"__init__.py": "", "__main__.py": COMMAND}.items():
            member = tarfile.TarInfo(f"src/cbnorm/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    source = packed.getvalue()
    (part / "source.tar.xz").write_bytes(source)
    item = {"name": "source", "pieces": ["source.tar.xz"], "sha256": hashlib.sha256(source).hexdigest()}
    (part / "manifest.json").write_text(json.dumps({"source": item, "wheels": [], "data": []}))
    (part / "start.py").write_bytes((SCRIPTS / "gpu_start.py").read_bytes())
    return part / "start.py"


def filled(store: Path, kind: int, size: int) -> dict[str, bytes]:
    """Make a store of two runs; what no compression makes smaller decides the number of its pieces."""
    content = np.random.default_rng(kind).integers(0, 256, size, np.uint8).tobytes()
    files = {f"{kind:012}/checkpoint.pt": content, "ffffffffffff/record.json": b"%d" % kind}
    for name, data in files.items():
        (store / name).parent.mkdir(parents=True, exist_ok=True)
        (store / name).write_bytes(data)
    return files


def held(store: Path) -> dict[str, bytes]:
    return {str(path.relative_to(store)): path.read_bytes() for path in store.rglob("*") if path.is_file()}


def left(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


def called(monkeypatch: pytest.MonkeyPatch, number: int, instead: Callable[..., None]) -> list[str]:
    """Do something else at a numbered change of a folder.

    Returns:
        The names of the changes, filled as they come.
    """
    seen: list[str] = []

    def watched(name: str) -> Callable[..., Any]:
        original = getattr(Path, name)

        def change(path: Path, *args: Any, **options: Any) -> Any:
            seen.append(name)
            if len(seen) == number + 1:
                instead(name, path, *args)
            return original(path, *args, **options)

        return change

    for name in ("mkdir", "write_bytes", "unlink", "rename", "replace", "rmdir"):
        monkeypatch.setattr(Path, name, watched(name))
    return seen


def killed(name: str, path: Path, *args: Any) -> None:
    if name == "write_bytes":
        with path.open("wb") as file:
            file.write(args[0][: len(args[0]) // 2])
    raise KilledError


@pytest.mark.parametrize("failing", range(4))
def test_a_full_disk_costs_nothing_of_the_session_before(
    start: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    store, out = tmp_path / "runs", tmp_path / "out"
    out.mkdir()
    before = filled(tmp_path / "earlier", 1, 700)
    start.leave(tmp_path / "earlier", out)
    pieces = left(out)
    filled(store, 2, 1000)

    def full(name: str, *_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        seen = called(patched, failing, full)
        with pytest.raises(SystemExit, match=r"the store is not packed .*No space left on device"):
            start.leave(store, out)
    assert seen[0] == "mkdir"
    assert set(seen[1 : failing + 1]) <= {"write_bytes"}
    assert left(out) == pieces
    start.restore(out, tmp_path / "there")
    assert held(tmp_path / "there") == before


@pytest.mark.parametrize(("old", "new"), [(200, 800), (800, 200), (500, 500)])
def test_a_kill_while_packing_leaves_one_of_the_two_stores_whole(
    start: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: int, new: int
) -> None:
    earlier, later, last = (tmp_path / name for name in ("earlier", "later", "last"))
    before, after, newest = filled(earlier, 1, old), filled(later, 2, new), filled(last, 3, 1000)
    outcomes = []
    for moment in range(100):
        out = tmp_path / f"out-{moment}"
        out.mkdir()
        start.leave(earlier, out)
        with monkeypatch.context() as patched:
            called(patched, moment, killed)
            try:
                start.leave(later, out)
            except KilledError:
                over = False
            else:
                over = True
        start.restore(out, tmp_path / f"there-{moment}")
        outcomes.append(held(tmp_path / f"there-{moment}"))
        assert outcomes[-1] in (before, after)
        # The next session goes on in the same folder, and may be killed there once more.
        for again in range(100):
            with monkeypatch.context() as patched:
                called(patched, again, killed)
                try:
                    start.leave(last, out)
                    break
                except KilledError:
                    pass
            place = tmp_path / f"again-{moment}-{again}"
            start.restore(out, place)
            assert held(place) in (before, after, newest)
        assert all(name.startswith("store.tar.gz.") for name in left(out))
        start.restore(out, tmp_path / f"last-{moment}")
        assert held(tmp_path / f"last-{moment}") == newest
        if over:
            break
    assert outcomes[0] == before
    assert outcomes[-1] == after
    # Once the newer store is whole, no later kill brings the older one back.
    assert outcomes == sorted(outcomes, key=lambda outcome: outcome == after)


def test_without_a_store_what_was_left_before_stays(start: ModuleType, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    filled(tmp_path / "earlier", 1, 700)
    start.leave(tmp_path / "earlier", out)
    pieces = left(out)
    start.leave(tmp_path / "nowhere", out)
    assert left(out) == pieces


def test_a_half_restored_store_is_none(
    start: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, store = tmp_path / "out", tmp_path / "to" / "runs"
    out.mkdir()
    files = filled(tmp_path / "earlier", 1, 700)
    start.leave(tmp_path / "earlier", out)

    def some(archive: tarfile.TarFile, path: Path, **_: Any) -> None:
        archive.extract(archive.getmembers()[0], path, filter="data")
        (path / "of another time").touch()
        raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr(tarfile.TarFile, "extractall", some)
        with pytest.raises(KilledError):
            start.restore(out, store)
    assert not store.exists()
    start.restore(out, store)
    assert held(store) == files
    assert [path.name for path in store.parent.iterdir()] == ["runs"]


@pytest.mark.parametrize("damage", ["lost", "first lost", "changed", "of another store"])
def test_pieces_that_do_not_make_a_store_are_refused(start: ModuleType, tmp_path: Path, damage: str) -> None:
    out, store = tmp_path / "out", tmp_path / "runs"
    out.mkdir()
    filled(tmp_path / "earlier", 1, 1000)
    start.leave(tmp_path / "earlier", out)
    pieces = sorted(out.iterdir())
    if damage == "lost":
        pieces[-1].unlink()
    elif damage == "first lost":
        pieces[0].unlink()
    elif damage == "changed":
        data = bytearray(pieces[1].read_bytes())
        data[150] ^= 1
        pieces[1].write_bytes(data)
    else:
        (tmp_path / "other").mkdir()
        filled(tmp_path / "later", 2, 1000)
        start.leave(tmp_path / "later", tmp_path / "other")
        pieces[0].write_bytes((tmp_path / "other" / pieces[0].name).read_bytes())
    with pytest.raises(SystemExit, match="is damaged"):
        start.restore(out, store)
    assert not store.exists()


def test_pieces_copied_over_those_of_a_larger_store_are_enough(start: ModuleType, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    filled(tmp_path / "earlier", 1, 1800)
    start.leave(tmp_path / "earlier", old)
    files = filled(tmp_path / "later", 2, 700)
    start.leave(tmp_path / "later", new)
    assert len(left(new)) < len(left(old))
    for name, data in left(new).items():
        (old / name).write_bytes(data)
    start.restore(old, tmp_path / "runs")
    assert held(tmp_path / "runs") == files


def test_a_store_without_files_comes_back_as_one(start: ModuleType, tmp_path: Path) -> None:
    for name in ("empty", "out"):
        (tmp_path / name).mkdir()
    start.leave(tmp_path / "empty", tmp_path / "out")
    start.restore(tmp_path / "out", tmp_path / "runs")
    assert held(tmp_path / "runs") == {}


@pytest.mark.parametrize(
    ("number", "all_together"),
    [(signal.SIGTERM, False), (signal.SIGTERM, True), (signal.SIGINT, False), (signal.SIGINT, True)],
)
def test_who_is_asked_to_stop_lets_the_command_save_and_packs_the_store(
    start: ModuleType, script: Path, tmp_path: Path, number: signal.Signals, all_together: bool
) -> None:
    to, out = tmp_path / "to", tmp_path / "out"
    command = [sys.executable, str(script), f"to={to}", f"out={out}", "wait"]
    # In a session of its own, so that Ctrl-C for all reaches only these two.
    with subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True) as process:
        until = time.monotonic() + 30
        while not (to / "runs/0123456789ab/begun.txt").exists() and time.monotonic() < until:
            time.sleep(0.01)
        (os.killpg if all_together else os.kill)(process.pid, number)
        _, told = process.communicate(timeout=30)
    assert process.returncode == 75, told
    assert "Traceback" not in told
    start.restore(out, tmp_path / "there")
    assert held(tmp_path / "there")["0123456789ab/record.json"] == b"saved"


def test_no_request_to_stop_ends_what_comes_after_the_command(start: ModuleType, tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with start.Stop() as stop:
        assert stop.wait(subprocess.Popen([sys.executable, "-c", ""])) == 0
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.raise_signal(number)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_request_before_the_command_is_there_reaches_it(start: ModuleType) -> None:
    with start.Stop() as stop:
        signal.raise_signal(signal.SIGTERM)
        command = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)"])
        assert stop.wait(command) == 128 + signal.SIGTERM


def test_the_store_is_left_when_the_command_can_not_be_carried_out(
    start: ModuleType, script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to, out = tmp_path / "to", tmp_path / "out"
    files = filled(to / "runs", 1, 700)

    def broken(*_: Any) -> int:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(start, "run", broken)
    monkeypatch.setattr(start, "__file__", str(script))
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "argv", ["start.py", f"to={to}", f"out={out}"])
    with pytest.raises(OSError, match="Cannot allocate memory"):
        start.main()
    start.restore(out, tmp_path / "there")
    assert held(tmp_path / "there") == files


@pytest.mark.parametrize("limit", [["time_limit=540"], ["--time-limit", "540"], ["--time-limit=540"]])
def test_a_time_limit_is_shortened_however_it_is_written(
    start: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: list[str]
) -> None:
    monkeypatch.setattr(start.time, "monotonic", lambda: 160.0)
    words = start.spelled(["campaign", *limit, "table5"])
    assert start.adjusted(words, tmp_path, 100.0) == [
        "campaign",
        "time_limit=475",
        "table5",
        f"store={tmp_path}",
    ]


def test_the_command_gets_its_words_and_its_status_is_handed_on(
    start: ModuleType, script: Path, tmp_path: Path
) -> None:
    command = [sys.executable, str(script), "to=to", "out=out", "campaign", "--time-limit", "540"]
    told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert told.returncode == 7, told.stderr
    start.restore(tmp_path / "out", tmp_path / "there")
    name, limit = held(tmp_path / "there")["0123456789ab/words.txt"].decode().split()
    assert name == "campaign"
    assert 500 < float(limit.removeprefix("time_limit=")) < 540


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["campaign", "time_limit=abc"], "time_limit=abc must be a number of seconds, such as 540"),
        (["campaign", "time_limit="], "time_limit= must be a number"),
        (["campaign", "time_limit=nan"], "time_limit=nan must be a number"),
        (["campaign", "time_limit=inf"], "time_limit=inf must be a number"),
        (["campaign", "time_limit=-5"], "time_limit=-5 must be a number"),
        (["campaign", "--time-limit"], "time_limit= must be a number"),
        (["campaign", "--time-limit", "soon"], "time_limit=soon must be a number"),
        (["campaign", "--time-limit=0"], "time_limit=0 must be a number"),
        (["to="], "to= needs a folder"),
        (["out=", "campaign"], "out= needs a folder"),
        (["to=a-file"], "a-file"),
        (["out=a-file/below"], "a-file"),
    ],
)
def test_what_can_not_be_meant_is_answered_by_one_line_before_anything_is_set_up(
    start: ModuleType,
    script: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    line: str,
) -> None:
    (tmp_path / "a-file").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(start, "__file__", str(script))
    monkeypatch.setattr(start, "set_up", lambda *_: pytest.fail("set up"))
    monkeypatch.setattr(sys, "argv", ["start.py", *words])
    assert start.main() == 2
    told = capsys.readouterr()
    assert not told.out
    assert len(told.err.splitlines()) == 1
    assert line in told.err
