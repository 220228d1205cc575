"""Decoded images: right, whole or not there at all, and made once."""

import contextlib
import io
import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from cbnorm.data import prepared
from cbnorm.data.layout import Layout
from cbnorm.data.manifest import manifest
from cbnorm.data.prepared import decode, prepare
from cbnorm.data.progress import reporter
from cbnorm.errors import CbnormError


def encoded(array, kind="PNG", **options):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind, **options)
    return buffer.getvalue()


NAMES = [f"{number}.png" for number in range(5)]
LAYOUT = Layout("Five", ("a", "b"), tuple((name, 0) for name in NAMES[:3]), tuple((n, 1) for n in NAMES[3:]))


@pytest.fixture
def folder(tmp_path, put, make_image):
    return put(tmp_path / "in", {name: make_image(int(name[0]), (6, 4), kind="PNG") for name in NAMES})


@pytest.fixture
def out(tmp_path):
    return tmp_path / "prepared"


def made(folder, out, layout=LAYOUT):
    known = manifest(folder, layout.files, out / "memory.json")
    with reporter(visible=False) as shown:
        return prepare("five", folder, out, layout, known, shown)


def left(out):
    return sorted(path.name[:11] for path in out.iterdir())


def test_arrays_hold_the_pixels_in_the_order_of_the_layout(folder, out):
    arrays = made(folder, out)
    for name, image in zip(NAMES, [*arrays.train, *arrays.test], strict=True):
        assert np.array_equal(image, np.asarray(Image.open(folder / name)).transpose(2, 0, 1))
    assert isinstance(arrays.train, np.memmap)
    assert set(arrays.checksums) == {"pillow", "train", "test"}


def test_decoded_once(folder, out, monkeypatch):
    first = made(folder, out)
    monkeypatch.setattr(prepared, "decode", None)
    again = made(folder, out)
    assert np.array_equal(again.train, first.train)
    assert again.checksums == first.checksums


def test_other_content_order_or_size_is_another_preparation(folder, out, make_image):
    made(folder, out)
    made(folder, out, Layout("Five", ("a", "b"), LAYOUT.train[::-1], LAYOUT.test))
    made(folder, out, Layout("Five", ("a", "b"), LAYOUT.train, LAYOUT.test, side=2))
    (folder / "0.png").write_bytes(make_image(99, (6, 4), kind="PNG"))
    made(folder, out)
    assert len([path for path in out.iterdir() if path.is_dir()]) == 4


def test_grey_images_get_three_channels():
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert np.array_equal(decode(encoded(grey), "x", None), np.stack([grey] * 3))


def test_the_shorter_side_is_scaled_and_the_centre_cut_out():
    wide = np.zeros((4, 12, 3), dtype=np.uint8)
    wide[:, 3:9] = 200  # the centre, and what is mixed into its border
    assert np.array_equal(decode(encoded(wide), "x", 2), np.full((3, 2, 2), 200))
    assert np.array_equal(decode(encoded(wide.transpose(1, 0, 2)), "x", 4), np.full((3, 4, 4), 200))


def test_the_camera_says_which_side_is_up():
    upright = np.zeros((8, 8, 3), dtype=np.uint8)
    upright[:4] = 200
    exif = Image.Exif()
    exif[0x0112] = 3  # stored upside down
    turned = encoded(np.ascontiguousarray(upright[::-1, ::-1]), exif=exif)
    assert np.array_equal(decode(turned, "x", 8), upright.transpose(2, 0, 1))


@pytest.mark.parametrize("mode", ["P", "LA", "RGBA", "1", "CMYK"])
@pytest.mark.parametrize("side", [None, 8])
def test_every_common_kind_of_image_is_read(mode, side):
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), (255, 255, 255)).convert(mode).save(buffer, "TIFF")
    image = decode(buffer.getvalue(), "x", side)
    assert image.shape == (3, side or 16, side or 16)
    assert image.min() > 250


def test_a_palette_with_transparent_entries_is_read_without_a_warning():
    image = Image.new("P", (4, 4))
    image.putpalette([10, 20, 30] * 256)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", transparency=bytes([0, 128] + [255] * 254))
    assert decode(buffer.getvalue(), "x", None)[:, 0, 0].tolist() == [10, 20, 30]


def test_grey_values_of_16_bits_are_refused_rather_than_clipped():
    with pytest.raises(CbnormError, match=r"deep\.png can't be decoded .* save it with 8 bits"):
        decode(encoded(np.full((4, 4), 60_000, dtype=np.uint16)), "deep.png", None)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"])
def test_broken_files_are_one_line_whatever_breaks(kind, make_image):
    whole = make_image(0, (32, 32), kind=kind)
    random = np.random.default_rng(0)
    for _ in range(60):
        broken = bytearray(whole[: random.integers(0, len(whole))])
        for place in random.integers(0, max(len(broken), 1), 5):
            broken[place : place + 1] = bytes([random.integers(0, 256)])
        with contextlib.suppress(CbnormError):  # some damage can't be seen
            assert decode(bytes(broken), "x", None).dtype == np.uint8
    with pytest.raises(CbnormError, match=r"^x can't be decoded \([^\n]*\); replace or delete it$"):
        decode(whole[:20], "x", None)


def test_a_truncated_image_is_named_and_nothing_is_left(folder, out):
    (folder / "3.png").write_bytes((folder / "3.png").read_bytes()[:-30])
    with pytest.raises(CbnormError, match=r"in/3\.png can't be decoded"):
        made(folder, out)
    assert left(out) == ["five.lock", "memory.json"]


def test_an_image_of_another_size_is_named(folder, out, make_image):
    (folder / "1.png").write_bytes(make_image(0, (6, 5), kind="PNG"))
    with pytest.raises(CbnormError, match=r"1\.png has 5x6 pixels, others 4x6"):
        made(folder, out)


def test_a_file_that_changed_after_it_was_known_is_named(folder, out, make_image):
    known = manifest(folder, LAYOUT.files, out / "memory.json")
    (folder / "1.png").write_bytes(make_image(9, (6, 4), kind="PNG"))
    with reporter(visible=False) as shown, pytest.raises(CbnormError, match=r"1\.png changed"):
        prepare("five", folder, out, LAYOUT, known, shown)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_interruption_leaves_nothing_and_the_next_attempt_is_whole(folder, out, monkeypatch, error):
    whole, seen = decode, []

    def interrupted(*what):
        seen.append(what)
        if len(seen) == 4:
            raise error
        return whole(*what)

    monkeypatch.setattr(prepared, "decode", interrupted)
    with pytest.raises(error):
        made(folder, out)
    assert left(out) == ["five.lock", "memory.json"]
    assert len(made(folder, out).test) == 2


def test_a_place_that_cannot_be_written_is_one_line(folder, out, tmp_path):
    known = manifest(folder, LAYOUT.files, out / "memory.json")
    (tmp_path / "file").write_text("")
    with reporter(visible=False) as shown, pytest.raises(CbnormError, match=r"can't be prepared in .*; set"):
        prepare("five", folder, tmp_path / "file" / "x", LAYOUT, known, shown)


def test_a_damaged_preparation_is_named(folder, out):
    made(folder, out)
    array = next(out.glob("five-*/train.npy"))
    array.write_bytes(array.read_bytes()[:-1])
    with pytest.raises(CbnormError, match=r"five-[0-9a-f-]+ is damaged .*: delete it, and it is made anew"):
        made(folder, out)


def test_threads_at_the_same_time_decode_once(folder, out, monkeypatch):
    seen, whole = [], decode
    monkeypatch.setattr(prepared, "decode", lambda *what: seen.append(what) or whole(*what))
    known = manifest(folder, LAYOUT.files, out / "memory.json")

    def one(_):
        with reporter(visible=False) as shown:
            return prepare("five", folder, out, LAYOUT, known, shown).checksums

    with ThreadPoolExecutor(6) as pool:
        assert len({json.dumps(checksums) for checksums in pool.map(one, range(6))}) == 1
    assert len(seen) == 5


def test_without_locks_processes_at_the_same_time_do_not_hurt_each_other(folder, out, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    gate, whole = threading.Barrier(4), decode

    def together(*what):
        gate.wait(30)
        return whole(*what)

    monkeypatch.setattr(prepared, "decode", together)
    known = manifest(folder, LAYOUT.files, out / "memory.json")

    def one(_):
        with reporter(visible=False) as shown:
            return len(prepare("five", folder, out, LAYOUT, known, shown).train)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(one, range(4))) == [3] * 4
    assert left(out) == ["five-" + next(out.glob("five-*")).name[5:11], "five.lock", "memory.json"]


PREPARE = """
import sys, time
from pathlib import Path
from cbnorm.data import prepared
from cbnorm.data.layout import Layout
from cbnorm.data.manifest import manifest
from cbnorm.data.progress import reporter
folder, out, pause = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
whole = prepared.decode
def slow(*what):
    print("decoding", flush=True)
    time.sleep(pause)
    return whole(*what)
prepared.decode = slow
names = [f"{n}.png" for n in range(5)]
layout = Layout("Five", ("a", "b"), tuple((n, 0) for n in names[:3]), tuple((n, 1) for n in names[3:]))
known = manifest(folder, layout.files, out / "memory.json")
with reporter(False) as shown:
    print(len(prepared.prepare("five", folder, out, layout, known, shown).train))
assert "torch" not in sys.modules
"""


@pytest.fixture
def process(folder, out):
    started = []

    def start(pause):
        command = [sys.executable, "-c", PREPARE, str(folder), str(out), str(pause)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for one in started:
        one.kill()
        one.wait()
        one.stdout.close()


def test_a_second_process_waits_for_the_first(process):
    first = process(0.1)
    assert first.stdout.readline() == "decoding\n"
    second = process(0)
    assert first.communicate()[0] == "decoding\n" * 4 + "3\n"
    assert second.communicate()[0] == "3\n"


def test_a_process_that_was_killed_leaves_what_the_next_one_clears_away(process, folder, out):
    killed = process(60)
    assert killed.stdout.readline() == "decoding\n"
    time.sleep(0.1)
    killed.kill()
    killed.wait()
    assert "unfinished-" in left(out)
    assert len(made(folder, out).train) == 3
    assert "unfinished-" not in left(out)
