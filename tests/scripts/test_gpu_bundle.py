"""What is packed for a machine without network comes out there byte for byte, or not at all."""

import json
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
PIXELS = 3 * 32 * 32


@pytest.fixture
def bundle(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import gpu_bundle

    return gpu_bundle


@pytest.fixture
def start(bundle: ModuleType) -> ModuleType:
    return bundle.start


def noise(count: int, width: int) -> bytes:
    return np.random.default_rng(0).integers(0, 256, (count, width), np.uint8).tobytes()


def test_records_of_a_label_and_an_image_survive(bundle: ModuleType, start: ModuleType) -> None:
    data = noise(130, 1 + PIXELS)
    layout, parts = bundle.coded(data)
    assert layout == {"images": 130, "lead": 1, "head": 0}
    # The labels, then one sheet with room for 200 images.
    assert len(parts) == 2
    assert start.decode(layout, parts) == data


def test_images_inside_a_pickle_survive(bundle: ModuleType, start: ModuleType) -> None:
    pixels = np.tile(np.arange(PIXELS, dtype=np.uint8), 10_000)
    data = b"\x80\x02}q\x01U\x04dataT" + len(pixels).to_bytes(4, "little") + pixels.tobytes() + b"the rest."
    layout, parts = bundle.coded(data)
    assert layout["images"] == 10_000
    assert sum(map(len, parts)) < len(data) / 20
    assert start.decode(layout, parts) == data


def test_other_files_survive(bundle: ModuleType, start: ModuleType) -> None:
    assert start.decode(*bundle.coded(b"names of classes" * 9)) == b"names of classes" * 9
    assert start.decode(*bundle.coded(b"")) == b""


def test_parts_are_small_enough_and_a_large_file_goes_in_pieces(
    bundle: ModuleType, start: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle, "PART", 1_010_000)
    files: dict[str, bytes] = {}
    large = bundle._file("large", noise(1, 25_000), files)
    small = bundle._file("small", b"x" * 900_000, files)
    assert large["pieces"] == ["large.00", "large.01", "large.02"]
    sizes = bundle.write(tmp_path, {"manifest.json": b"{}"}, files)
    assert max(sizes) <= 1_010_000
    found = {path.name: path for path in tmp_path.glob("part-*/*")}
    assert sum(path.stat().st_size for path in found.values()) == sum(sizes)
    assert start.joined(large, found) == noise(1, 25_000)
    assert start.joined(small, found) == b"x" * 900_000


def test_damage_and_absence_are_noticed(bundle: ModuleType, start: ModuleType, tmp_path: Path) -> None:
    files: dict[str, bytes] = {}
    item = bundle._file("data", b"right", files)
    with pytest.raises(SystemExit, match="data is missing"):
        start.joined(item, {})
    (tmp_path / "data").write_bytes(b"wrong")
    with pytest.raises(SystemExit, match="data is damaged"):
        start.joined(item, {"data": tmp_path / "data"})
    layout, parts = bundle.coded(b"what nobody published")
    entered = [bundle._file(f"p{n}", part, files) for n, part in enumerate(parts)]
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    found = {path.name: path for path in tmp_path.iterdir()}
    wrong = layout | {"name": "x/y", "sha1": "0" * 40, "parts": entered}
    with pytest.raises(SystemExit, match="not what its authors published"):
        start.unpack(wrong, found, tmp_path / "root")
    assert not (tmp_path / "root").exists()


def test_a_store_travels_in_pieces_and_goes_on(
    start: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start, "PIECE", 300)
    run = tmp_path / "here" / "0123456789ab"
    run.mkdir(parents=True)
    left = ("checkpoint.previous.pt", "claim.json", ".claim.lock", ".x.0f.part")
    for name in ("record.json", "checkpoint.pt", *left):
        (run / name).write_bytes(noise(1, 400))
    (tmp_path / "out").mkdir()
    start.leave(tmp_path / "here", tmp_path / "out")
    pieces = sorted((tmp_path / "out").iterdir())
    assert len(pieces) > 1
    assert all(piece.stat().st_size <= 300 for piece in pieces)
    start.restore(tmp_path / "out", tmp_path / "there")
    came = tmp_path / "there" / run.name
    assert {path.name for path in came.iterdir()} == {"record.json", "checkpoint.pt"}
    assert (came / "record.json").read_bytes() == (run / "record.json").read_bytes()


def test_the_time_limit_counts_from_the_start_of_the_set_up(
    start: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start.time, "monotonic", lambda: 160.0)
    words = start.adjusted(["campaign", "table5", "time_limit=540"], tmp_path, 100.0)
    assert words == ["campaign", "table5", "time_limit=475", f"store={tmp_path}"]


def test_the_source_is_what_is_committed(bundle: ModuleType, tmp_path: Path) -> None:
    if not (SCRIPTS.parent / ".git").exists():
        pytest.skip("not a checkout")
    (tmp_path / "source.tar.xz").write_bytes(bundle.source())
    with tarfile.open(tmp_path / "source.tar.xz") as archive:
        names = archive.getnames()
        commit = archive.extractfile(".commit")
        assert commit is not None
        assert re.fullmatch(rb"[0-9a-f]{7,40}\n", commit.read())
    assert {"src/cbnorm/cli.py", "conf/train.yaml", "experiments/table5/rows.csv"} <= set(names)
    assert not [name for name in names if name.startswith(("tests", "results", "runs"))]


def test_needs_are_followed_and_left_out_with_all_that_only_they_need(bundle: ModuleType) -> None:
    everything = bundle.needed("cbnorm")
    assert {"cbnorm", "torch", "lightning", "antlr4-python3-runtime", "sympy"} <= everything
    lean = bundle.needed("cbnorm", {"wandb", "pandas", "scipy", "scikit-learn"})
    assert "sentry-sdk" not in lean
    assert {"lightning", "pydantic-core"} <= lean < everything
    assert json.dumps(sorted(lean))


@pytest.mark.parametrize("script", ["one_node_slurm.sh", "gpu_start.py"])
def test_a_script_that_is_told_too_little_says_so_and_does_nothing(script: str, tmp_path: Path) -> None:
    path = tmp_path / script  # where no part of a bundle lies
    path.write_bytes((Path(__file__).parents[2] / "scripts" / script).read_bytes())
    command = ["bash", str(path)] if script.endswith(".sh") else [sys.executable, str(path)]
    told = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert told.returncode == 2
    assert len((told.stdout + told.stderr).splitlines()) == 1
    assert [found.name for found in tmp_path.iterdir()] == [script]
