"""What is remembered is what would have been fitted, whoever else writes, whatever becomes of the files."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cbnorm.data.splits import Split
from cbnorm.partitions import Cache, assign, fit_partition
from cbnorm.partitions import cache as module
from cbnorm.partitions.cache import fingerprint
from cbnorm.partitions.fit import fit_content

SAME = """
import sys, time
from pathlib import Path
from cbnorm.partitions import Cache
folder = Path(sys.argv[1])

def make():
    with (folder / "made").open("a") as file:
        file.write("x")
    time.sleep(1)
    return {"value": 7}

(folder / f"ready{sys.argv[2]}").touch()
while len(list(folder.glob("ready*"))) < 3:
    time.sleep(0.01)
print(Cache(folder / "cache").remember({"a": 1}, make)["value"])
"""


def forbidden() -> dict[str, object]:
    raise AssertionError("it was to be read")


def entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.pt"))


@pytest.mark.parametrize("method", ["kmeans", "gmm", "random"])
def test_ids_are_the_same_bits_with_and_without(grouped, method: str, tmp_path: Path, monkeypatch) -> None:
    images, _ = grouped
    options = {"name": method, "clusters": 3, "features": "pca64", "test": "refit", "seed": None}
    splits = {
        key: Split(part, torch.zeros(len(part), dtype=torch.int64))
        for key, part in {"train": images[:150], "val": images[150:200], "test": images[200:]}.items()
    }

    def assigned(cache: Cache | None):
        return assign(
            options, splits, seed=4, num_classes=1, official={"train": 200, "test": 100}, cache=cache
        )

    plain, filling = assigned(None), assigned(Cache(tmp_path))
    # From here on nothing can be fitted any more.
    monkeypatch.setattr("cbnorm.partitions.fit._fit", forbidden)
    monkeypatch.setattr("cbnorm.partitions.fit.fit_features", forbidden)
    read = assigned(Cache(tmp_path))
    for other in (filling, read):
        assert other.summary() == plain.summary()
        assert all(torch.equal(other.ids[key], plain.ids[key]) for key in splits)
        for key in ("train", "test"):
            a, b = plain.fits[key], other.fits[key]
            assert all(torch.equal(x, y) for x, y in zip(a.mixture, b.mixture, strict=True))
            assert torch.equal(a.features.projection, b.features.projection)


def test_the_content_decides(grouped) -> None:
    images: Tensor = grouped[0]
    base = {"method": "gmm", "clusters": 3, "seed": 0, "features": "pca64"}

    def content(images: Tensor = images, **changed: object) -> dict[str, object]:
        options = base | changed
        return fit_content(options.pop("method"), images, **options)

    spoilt = images.clone()
    spoilt[-1, -1, -1, -1] += 1
    others = [
        content(spoilt),
        content(images[:-1]),
        content(method="kmeans"),
        content(clusters=4),
        content(seed=1),
        content(features="raw"),
    ]
    assert all(other != content() for other in others)
    assert content(images.clone()) == content()
    # A control that is drawn with a mixture's shares needs that mixture, not another.
    assert content(method="random") == content()
    assert fingerprint(images) != fingerprint(images.flatten(1)) != fingerprint(images.flatten(1).int())


def test_code_threads_and_versions_decide_too(tmp_path: Path, monkeypatch) -> None:
    cache, made = Cache(tmp_path), []

    def make() -> dict[str, object]:
        made.append(1)
        return {"value": len(made)}

    threads = torch.get_num_threads()
    for changed in ("nothing", "threads", "code", "torch"):
        if changed == "threads":
            torch.set_num_threads(threads + 1)
        elif changed == "code":
            torch.set_num_threads(threads)
            monkeypatch.setattr(module, "code_version", lambda *_: "other")
        elif changed == "torch":
            monkeypatch.setattr(torch, "__version__", "99")
        first, second = cache.remember({"a": 1}, make), cache.remember({"a": 1}, make)
        assert first == second == {"value": len(made)}
    assert len(made) == 4


def test_code_versions_are_of_the_source(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "mixtures").mkdir()
    monkeypatch.setattr(module, "_PACKAGES", tmp_path)
    versions = set()
    for text in ("a = 1", "a = 2"):
        (tmp_path / "mixtures" / "code.py").write_text(text)
        module.code_version.cache_clear()
        versions.add(module.code_version("mixtures"))
    module.code_version.cache_clear()
    assert len(versions) == 2


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "code"])
def test_damaged_entries_are_set_aside_and_made_again(damage: str, tmp_path: Path, capsys) -> None:
    cache = Cache(tmp_path)
    cache.remember({"a": 1}, lambda: {"value": torch.arange(5)})
    (path,) = entries(tmp_path)
    data = path.read_bytes()
    harmful = {
        "cut": data[:-9],
        "changed": data[:-200] + b"x" + data[-199:],
        "empty": b"",
        "code": b"import os",
    }
    path.write_bytes(harmful[damage])
    assert cache.remember({"a": 1}, lambda: {"value": 2}) == {"value": 2}
    assert path.with_suffix(".damaged").read_bytes() == harmful[damage]
    assert "is damaged" in capsys.readouterr().err
    assert cache.remember({"a": 1}, forbidden) == {"value": 2}


def test_of_several_processes_one_fits(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SAME, str(tmp_path), str(number)], stdout=subprocess.PIPE, text=True
        )
        for number in range(3)
    ]
    assert [process.communicate(timeout=60)[0].strip() for process in processes] == ["7"] * 3
    assert (tmp_path / "made").read_text() == "x"
    assert [path.suffix for path in sorted((tmp_path / "cache").iterdir())] == [".lock", ".pt"]


def test_a_folder_that_cannot_be_written_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = Cache(tmp_path / "file" / "cache")
    assert cache.remember({"a": 1}, lambda: {"value": 3}) == {"value": 3}


def test_an_interrupted_fit_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> dict[str, object]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Cache(tmp_path).remember({"a": 1}, interrupted)
    assert entries(tmp_path) == []
    assert Cache(tmp_path).remember({"a": 1}, lambda: {"value": 1}) == {"value": 1}


def test_without_a_folder_nothing_is_kept(grouped) -> None:
    first, second = (
        fit_partition("kmeans", grouped[0], clusters=2, seed=0, cache=c) for c in (None, Cache())
    )
    assert torch.equal(first.mixture.means, second.mixture.means)
