"""What a process may use of its machine, which is not all that the machine has."""

import os
from pathlib import Path

import pytest

from cbnorm import machine


def test_cores_are_those_that_a_scheduler_gave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: {3, 7}, raising=False)
    assert machine.cores() == 2


@pytest.mark.parametrize(
    ("groups", "files", "limits"),
    [
        ("0::/job/step", {"job/memory.max": "2000", "job/step/memory.max": "max"}, [2000]),
        ("5:memory:/job\n1:cpu:/job", {"memory/job/memory.limit_in_bytes": "3000"}, [3000]),
        ("0::/", {"memory.max": "4000"}, [4000]),
        ("0::/", {}, []),
    ],
)
def test_memory_is_what_control_groups_leave(
    groups: str, files: dict[str, str], limits: list[int], tmp_path: Path
) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{content}\n")
    assert list(machine._limits(groups, tmp_path)) == limits
    assert 0 < machine.memory() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@pytest.mark.parametrize(
    ("device", "shown", "build", "there"),
    [
        ("nvidia0", None, "2.13.0", True),
        ("nvidia1", "1", "2.13.0+cu130", True),
        ("dxg", None, "2.13.0", True),
        ("nvidiactl", None, "2.13.0", False),
        ("nvidia0", "-1", "2.13.0", False),
        ("nvidia0", "", "2.13.0", False),
        ("nvidia0", None, "2.13.0+cpu", False),
    ],
)
def test_a_gpu_counts_that_torch_could_use(
    device: str, shown: str | None, build: str, there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / device).touch()
    monkeypatch.setattr(machine, "_DEVICES", tmp_path)
    monkeypatch.setattr(machine, "version", lambda _package: build)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if shown is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
    assert machine.has_gpu() is there
    assert machine.device_of("auto") == ("cuda" if there else "cpu")
