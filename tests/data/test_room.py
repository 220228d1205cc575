"""Sets of images that don't fit into memory are mapped from a file and say the same."""

from pathlib import Path

import pytest
import torch

from cbnorm.data import images, pixels, room
from cbnorm.errors import CbnormError

LOADED = {"val_images": 200, "train_images": 300, "test_images": 100}


def mapped_from(folder):
    """How many regions of this process's memory are mapped from files in a folder, or that were there."""
    return Path("/proc/self/maps").read_text().count(f" {folder}/")


def test_a_data_set_that_is_mapped_is_the_data_set(tmp_path, monkeypatch):
    held = images.load("digits", **LOADED)
    monkeypatch.setattr(room, "SHARE", 0)
    monkeypatch.setenv("CBNORM_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(pixels, "CHUNK", 70)
    mapped = images.load("digits", **LOADED)
    assert mapped_from(tmp_path) == 3
    for part in ("train", "val", "test"):
        assert torch.equal(getattr(mapped, part).images, getattr(held, part).images)
    assert (mapped.mean, mapped.std) == (held.mean, held.std)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("share", [0, 1])
def test_pieces_are_put_together_in_their_order(share, tmp_path, monkeypatch):
    monkeypatch.setattr(room, "SHARE", share)
    whole = torch.arange(7 * 12, dtype=torch.uint8).view(7, 3, 2, 2)
    assert torch.equal(room.gathered(whole.split(3), whole.shape, tmp_path), whole)


def test_a_folder_that_cannot_hold_it_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "SHARE", 0)
    (tmp_path / "file").write_text("")
    pieces = torch.zeros(2, 3, 4, 4, dtype=torch.uint8).split(1)
    with pytest.raises(CbnormError, match="don't fit into memory") as caught:
        room.gathered(pieces, (2, 3, 4, 4), tmp_path / "file")
    assert "\n" not in str(caught.value)


def test_the_threshold_is_a_share_of_all_memory():
    facts = Path("/proc/meminfo").read_text().splitlines()
    whole = 1024 * int(next(line for line in facts if line.startswith("MemTotal")).split()[1])
    assert room.fits(int(0.24 * whole))
    assert not room.fits(int(0.27 * whole))
