"""A run has one living owner; dead owners are recognised wherever they died."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from cbnorm.errors import CbnormError
from cbnorm.runs import claim as module
from cbnorm.runs.claim import ClaimLostError, claim, holder


def left_behind(folder: Path, *, age: float = 0.0, **changes: Any) -> None:
    """A claim as a process leaves it that had no time to give it back."""
    with claim(folder):
        content = json.loads((folder / "claim.json").read_text())
    (folder / "claim.json").write_text(json.dumps(content | changes))
    then = time.time() - age
    os.utime(folder / "claim.json", (then, then))


def granted(folder: Path) -> bool:
    with claim(folder) as held:
        return held is not None


def test_a_claim_is_granted_once_and_given_back(tmp_path: Path) -> None:
    with claim(tmp_path / "run") as held:
        assert held is not None
        assert holder(tmp_path / "run")["pid"] == os.getpid()
        assert not granted(tmp_path / "run")
    assert holder(tmp_path / "run") is None
    assert granted(tmp_path / "run")
    assert not (tmp_path / "run/claim.json").exists()


def test_of_many_at_once_one_is_granted(tmp_path: Path) -> None:
    answers, together, done = [], threading.Barrier(8), threading.Barrier(8)

    def ask() -> None:
        together.wait()
        with claim(tmp_path) as held:
            answers.append(held is not None)
            done.wait()

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [False] * 7 + [True]


@pytest.mark.parametrize(
    ("changes", "age", "free"),
    [
        ({"pid": 2**22 + 1}, 0, True),  # gone
        ({"started": "1"}, 0, True),  # the number is another process's by now
        ({}, 10_000, False),  # this process, however long it slept
        ({"place": "elsewhere", "host": "other"}, 0, False),  # can't be looked at, and fresh
        ({"place": "elsewhere", "host": "other"}, 179, False),
        ({"place": "elsewhere", "host": "other"}, 181, True),
        ({"place": "elsewhere"}, 0, False),  # a host of the same name, or the same one restarted
        ({"place": "elsewhere", "lifetime": 1e9}, 200, True),  # nobody claims for years
        ({"place": "elsewhere", "lifetime": "x"}, 200, True),
        ({"place": "elsewhere"}, -10_000, True),  # touched in the future: nobody renews it
        ({"pid": "x"}, 0, True),
        ({"pid": -1}, 0, True),
        ({"pid": 10**30}, 0, True),
    ],
)
def test_whose_claims_are_stale(changes: dict[str, Any], age: float, free: bool, tmp_path: Path) -> None:
    left_behind(tmp_path, age=age, **changes)
    assert granted(tmp_path) == free


def test_clocks_of_machines_need_not_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left_behind(tmp_path, place="elsewhere")
    monkeypatch.setattr(module.time, "time", lambda: 4e9)
    assert not granted(tmp_path)


def test_a_killed_process_frees_its_claim_at_once(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from cbnorm.runs.claim import claim\n"
        "with claim(Path(sys.argv[1])): print('mine', flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "mine\n"
        assert not granted(tmp_path)
        other.kill()
        other.wait()
    assert granted(tmp_path)


def test_a_claim_is_renewed(tmp_path: Path) -> None:
    with claim(tmp_path, lifetime=0.15) as held:
        os.utime(tmp_path / "claim.json", (0, 0))
        limit = time.monotonic() + 30
        while (tmp_path / "claim.json").stat().st_mtime == 0 and time.monotonic() < limit:
            time.sleep(0.01)
        assert (tmp_path / "claim.json").stat().st_mtime > 0
        held.check()


def test_a_claim_is_renewed_three_times_in_its_lifetime(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited, wait = [], threading.Event.wait
    patched = lambda event, timeout=None: waited.append(timeout) or wait(event, timeout)  # noqa: E731
    monkeypatch.setattr(module.threading.Event, "wait", patched)
    with claim(tmp_path, lifetime=96.0):
        pass
    assert 32.0 in waited


def test_nobody_renews_the_claim_of_another(tmp_path: Path) -> None:
    with claim(tmp_path, lifetime=0.03):
        path = tmp_path / "claim.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"token": "another"}))
        os.utime(path, (0, 0))
        time.sleep(0.3)
        assert path.stat().st_mtime == 0


def test_a_lock_is_of_the_file_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, seen, flock = tmp_path / ".claim.lock", iter(range(100)), module.fcntl.flock

    def removed_before_it_was_granted(descriptor: int, how: int) -> None:
        if next(seen) == 0:
            path.unlink()
        flock(descriptor, how)

    monkeypatch.setattr(module.fcntl, "flock", removed_before_it_was_granted)
    descriptor = module._lock(path, make=True)
    assert os.path.samestat(os.fstat(descriptor), path.stat())
    os.close(descriptor)


def test_who_slept_while_another_took_over_writes_nothing_and_leaves_the_other_be(tmp_path: Path) -> None:
    with claim(tmp_path) as asleep:
        (tmp_path / "claim.json").unlink()
        with claim(tmp_path) as other:
            other.check()
            with pytest.raises(ClaimLostError, match="taken over"):
                asleep.check()
            asleep.release()
            other.check()


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("kept")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/.claim.lock").symlink_to(precious)
    with pytest.raises(CbnormError, match="cannot write"), claim(tmp_path / "run"):
        pass
    assert precious.read_text() == "kept"
