"""USPS in its two forms: the same pixels, checked by the same checksums, and nothing unpickled."""

import bz2
import hashlib
import io
import struct
import zipfile
from fractions import Fraction

import numpy as np
import pytest

from cbnorm.data import catalog, idx, images, sources, usps
from cbnorm.data.entry import Archive, DataFile, Files
from cbnorm.data.failure import SourceError
from cbnorm.errors import CbnormError

COUNTS = {"train": 4, "test": 3}
THOUSANDTHS = np.random.default_rng(0).integers(-1000, 1001, (7, 256))
DIGITS = [6, 5, 9, 0, 1, 2, 3]


def exact(thousandths):
    """127.5 (v + 1) in fractions; Python rounds them to even."""
    return np.array([round(Fraction(1000 + int(v), 2000) * 255) for v in thousandths.flat], dtype=np.uint8)


def line(digit, values):
    pairs = " ".join(f"{place}:{value / 1000:g}" for place, value in enumerate(values, 1))
    return f"{digit + 1} {pairs} \n".encode()


def text(digits, values):
    return b"".join(line(digit, row) for digit, row in zip(digits, values, strict=True))


def npz(arrays):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def arrays():
    pixels = exact(THOUSANDTHS).reshape(7, 16, 16)
    digits = np.array(DIGITS, dtype=np.uint8)
    return {
        "train_images": pixels[:4],
        "train_labels": digits[:4],
        "test_images": pixels[4:],
        "test_labels": digits[4:],
    }


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(usps, "USPS_COUNTS", COUNTS)


@pytest.fixture
def libsvm(tmp_path, put):
    return put(
        tmp_path / "libsvm",
        {
            "usps.bz2": bz2.compress(text(DIGITS[:4], THOUSANDTHS[:4])),
            "usps.t.bz2": bz2.compress(text(DIGITS[4:], THOUSANDTHS[4:])),
        },
    )


@pytest.fixture
def packed(tmp_path, put):
    return put(tmp_path / "npz", {"usps.npz": npz(arrays())})


def converted(folder, tmp_path):
    target = tmp_path / f"out-{folder.name}"
    target.mkdir()
    usps.convert(folder, target)
    return {path.name: path.read_bytes() for path in target.iterdir()}


def test_both_forms_give_the_same_files(libsvm, packed, tmp_path):
    files = converted(libsvm, tmp_path)
    assert files == converted(packed, tmp_path)
    train, test = idx.read(tmp_path / "out-libsvm")
    assert train.labels.tolist() + test.labels.tolist() == DIGITS
    assert np.array_equal(train.images[:, 0].numpy(), arrays()["train_images"])
    assert files["t10k-labels-idx1-ubyte"] == struct.pack(">4BI", 0, 0, 8, 1, 3) + bytes([1, 2, 3])


def test_every_value_with_three_decimals_is_rounded_to_the_nearest_and_ties_to_even():
    thousandths = np.arange(-1000, 1001)
    assert np.array_equal(usps.grey(thousandths / 1000), exact(thousandths))
    assert usps.grey(np.array([-0.4, 0.0, 0.4])).tolist() == [76, 128, 178]  # 76.5, 127.5, 178.5


@pytest.mark.parametrize("value", [1.001, -1.001])
def test_values_outside_the_range_are_refused(value):
    with pytest.raises(ValueError, match="outside"):
        usps.grey(np.array([value]))


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        (b"", "can't be read"),
        (
            bz2.compress(text(DIGITS[:3], THOUSANDTHS[:3])),
            "holds uint8 .3, 16, 16. for training, not uint8 .4, 16",
        ),
        (bz2.compress(text([10] * 4, THOUSANDTHS[:4])), "can't be read .a line begins with '11 1:"),
        (bz2.compress(text(DIGITS[:4], THOUSANDTHS[:4, :255])), "can't be read .a line begins with"),
        (bz2.compress(text(DIGITS[:4], 2 * np.full((4, 256), 1000))), "a value lies outside"),
        (bz2.compress(b"7 1:x 2:y\n"), "can't be read"),
        (bz2.compress(b"7 1 2\n"), "can't be read"),
        (bz2.compress(b"\xff\xfe"), "can't be read"),
        (bz2.compress(text(DIGITS[:4], THOUSANDTHS[:4]))[:-40], "can't be read"),
        (b"no archive", "can't be read"),
    ],
)
def test_a_broken_text_is_one_line(libsvm, content, wrong):
    (libsvm / "usps.bz2").write_bytes(content)
    with pytest.raises(SourceError, match=wrong) as caught:
        usps.read_libsvm(libsvm)
    assert "\n" not in str(caught.value)


def test_a_missing_text_is_one_line(libsvm):
    (libsvm / "usps.t.bz2").unlink()
    with pytest.raises(SourceError, match=r"usps.t.bz2 can't be read \(.*No such file"):
        usps.read_libsvm(libsvm)


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("an object of the file was made",))


def zipped(content):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("train_images.npy", content)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        (b"", "can't be read"),
        (npz(arrays())[:-30], "can't be read"),
        (
            npz({key: value for key, value in arrays().items() if key != "test_labels"}),
            "no item named 'test_lab",
        ),
        (npz(arrays() | {"train_images": np.zeros((4, 256), np.uint8)}), r"uint8 \(4, 256\) for training"),
        (npz(arrays() | {"test_labels": np.zeros(3)}), r"float64 \(3,\) for testing, not uint8 \(3,\)"),
        (
            npz(arrays() | {"train_images": np.array([Trap()], dtype=object)}),
            "Object arrays cannot be loaded",
        ),
        (zipped(b"\x93NUMPY"), "can't be read"),
        (zipped(b"not an array"), "can't be read"),
    ],
)
def test_a_broken_npz_is_one_line_and_nothing_is_executed(packed, content, wrong):
    (packed / "usps.npz").write_bytes(content)
    with pytest.raises(SourceError, match=wrong):
        usps.read_npz(packed)


def test_an_array_that_is_too_large_is_not_unpacked(packed, monkeypatch):
    monkeypatch.setattr(usps, "_LIMIT", 500)
    with pytest.raises(SourceError, match="train_images takes 1152 bytes"):
        usps.read_npz(packed)


def test_a_folder_of_the_other_form_comes_first_then_the_site(tmp_path, monkeypatch, packed, libsvm, site):
    files = converted(packed, tmp_path)
    known = tuple(
        DataFile(name, len(content), hashlib.sha1(content).hexdigest()) for name, content in files.items()
    )
    site.files = {f"/{path.name}": path.read_bytes() for path in libsvm.iterdir()}
    archives = tuple(
        Archive(site.url.rpartition("/")[0] + path, hashlib.md5(body).hexdigest(), len(body))
        for path, body in site.files.items()
    )
    entry = catalog.find("usps")
    there = Files(archives, form="usps")
    entry = type(entry)(**(vars(entry) | {"files": known, "sources": (entry.sources[0], there)}))
    monkeypatch.setattr(catalog, "DATA_SETS", {**catalog.DATA_SETS, "usps": entry})
    monkeypatch.setenv("CBNORM_DATA_DIR", str(tmp_path / "data"))
    folder = sources.ensure("usps")
    assert len(site.asked) == 2
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
    for path in folder.iterdir():
        path.unlink()
    packed.rename(tmp_path / "data" / "usps")
    assert {path.name: path.read_bytes() for path in sources.ensure("usps").iterdir()} == files
    assert len(site.asked) == 2


@pytest.mark.real_data("usps")
def test_the_real_usps_is_the_published_one():
    try:
        train, test = idx.read(sources.require("usps"))
    except CbnormError as error:
        pytest.skip(f"no real USPS: {error}")
    assert train.labels.bincount().tolist() == [1194, 1005, 731, 658, 652, 556, 664, 645, 542, 644]
    assert test.labels.bincount().tolist() == [359, 264, 198, 166, 200, 160, 170, 147, 166, 177]
    # The first row of the first image in the published text: -1 seven times, then -0.631, 0.862, -0.167.
    assert train.labels[0] == 6
    assert train.images[0, 0, 0, 6:11].tolist() == [0, *usps.grey(np.array([-0.631, 0.862, -0.167])), 0]
    data = images.load("usps", val_images=700, download=False)
    assert data.train.images.shape == (6591, 3, 32, 32)
