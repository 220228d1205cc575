"""Unpacking: nothing leaves the folder, whatever the archive says."""

import contextlib
import gzip
import io
import random
import stat
import tarfile
import zipfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cbnorm.data import archives
from cbnorm.data.archives import decompress, unpack
from cbnorm.data.failure import SourceError


def special(name, kind, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


@pytest.fixture
def archive(tmp_path, make_tar):
    def make(files):
        path = tmp_path / "some.tar.gz"
        path.write_bytes(make_tar(files))
        return path

    return make


def test_files_are_unpacked_with_their_folders(archive, tmp_path):
    unpack(archive({"a/b/one": b"1", "two": b"22"}), tmp_path / "out", limit=3)
    assert (tmp_path / "out/a/b/one").read_bytes() == b"1"
    assert (tmp_path / "out/two").read_bytes() == b"22"


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "a/../../evil", "a\\..\\evil"])
def test_a_name_outside_the_folder_is_refused_before_anything_is_written(archive, tmp_path, name):
    with pytest.raises(SourceError, match="outside its folder"):
        unpack(archive({"good": b"1", name: b"2"}), tmp_path / "deep/out", limit=10)
    assert not (tmp_path / "deep").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(archive, tmp_path, kind):
    with pytest.raises(SourceError, match="link or a device"):
        unpack(archive({"x": special("x", kind, "/etc/passwd")}), tmp_path / "out", limit=10)
    assert not (tmp_path / "out").exists()


def test_more_bytes_than_expected_are_refused(archive, tmp_path):
    with pytest.raises(SourceError, match="more than the 10 expected"):
        unpack(archive({"bomb": bytes(11)}), tmp_path / "out", limit=10)
    assert not (tmp_path / "out").exists()


def test_a_name_that_comes_twice_is_refused(tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for _ in range(2):
            tar.addfile(tarfile.TarInfo("same"))
    path = tmp_path / "twice.tar"
    path.write_bytes(buffer.getvalue())
    with pytest.raises(SourceError, match="can't be unpacked"):
        unpack(path, tmp_path / "out", limit=10)


@pytest.mark.parametrize("keep", [0, 5, 0.5, 0.95])
def test_a_truncated_archive_is_told_from_a_whole_one(archive, tmp_path, keep):
    path = archive({"noise": random.Random(0).randbytes(10_000)})
    content = path.read_bytes()
    path.write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
    with pytest.raises(SourceError, match=r"some\.tar\.gz can't be unpacked"):
        unpack(path, tmp_path / "out", limit=20_000)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(alphabet="ab./\\", min_size=1, max_size=8), min_size=1, max_size=4, unique=True))
def test_no_name_writes_outside_the_folder(tmp_path_factory, make_tar, names):
    home = tmp_path_factory.mktemp("home")
    (home / "x.tar").write_bytes(make_tar(dict.fromkeys(names, b"!")))
    with contextlib.suppress(SourceError):
        unpack(home / "x.tar", home / "deep/out", limit=100)
    outside = [path for path in home.rglob("*") if path.is_file() and home / "deep/out" not in path.parents]
    assert outside == [home / "x.tar"]


@pytest.fixture
def zipped(tmp_path, make_zip):
    def make(files):
        path = tmp_path / "some.zip"
        path.write_bytes(make_zip(files))
        return path

    return make


def entry(name, kind):
    info = zipfile.ZipInfo(name)
    info.external_attr = (kind | 0o777) << 16
    return info


def test_a_zip_is_unpacked_with_its_folders(zipped, tmp_path):
    unpack(zipped({"a/": b"", "a/b/one": b"1", "two": b"22"}), tmp_path / "out", limit=3)
    assert (tmp_path / "out/a/b/one").read_bytes() == b"1"
    assert (tmp_path / "out/two").read_bytes() == b"22"


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "a/../../evil"])
def test_a_name_in_a_zip_outside_the_folder_is_refused(zipped, tmp_path, name):
    with pytest.raises(SourceError, match="outside its folder"):
        unpack(zipped({"good": b"1", name: b"2"}), tmp_path / "deep/out", limit=10)
    assert not (tmp_path / "deep").exists()


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_in_a_zip_are_refused(zipped, tmp_path, kind):
    with pytest.raises(SourceError, match="link or a device"):
        unpack(zipped({entry("x", kind): b"/etc/passwd"}), tmp_path / "out", limit=100)


def test_a_zip_bomb_is_refused_before_it_is_written(zipped, tmp_path):
    path = zipped({"bomb": bytes(5_000_000)})
    assert path.stat().st_size < 10_000
    with pytest.raises(SourceError, match="holds 5000000 bytes, more than the 20000 expected"):
        unpack(path, tmp_path / "out", limit=20_000)
    assert not (tmp_path / "out").exists()


def test_a_zip_that_lies_about_sizes_writes_no_more_than_it_says(zipped, tmp_path):
    path = zipped({"bomb": bytes(5_000_000)})
    path.write_bytes(path.read_bytes().replace((5_000_000).to_bytes(4, "little"), (9).to_bytes(4, "little")))
    with pytest.raises(SourceError, match="can't be unpacked"):
        unpack(path, tmp_path / "out", limit=20)
    assert sum(file.stat().st_size for file in tmp_path.rglob("out/*")) <= 9


def test_more_names_than_any_data_set_has_are_refused(zipped, tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MEMBERS", 3)
    with pytest.raises(SourceError, match="holds 4 names, more than 3"):
        unpack(zipped({str(number): b"" for number in range(4)}), tmp_path / "out", limit=10)


def test_a_zip_with_a_password_is_refused(zipped, tmp_path):
    path = zipped({"one": b"1"})
    content = bytearray(path.read_bytes())
    for header, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(header) + flags] |= 1
    path.write_bytes(content)
    with pytest.raises(SourceError, match="can't be unpacked"):
        unpack(path, tmp_path / "out", limit=10)


@pytest.mark.parametrize("keep", [5, 0.5, 0.98])
def test_a_truncated_zip_is_told_from_a_whole_one(zipped, tmp_path, keep):
    path = zipped({"noise": random.Random(0).randbytes(10_000)})
    content = path.read_bytes()
    path.write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
    with pytest.raises(SourceError, match=r"some\.zip can't be unpacked"):
        unpack(path, tmp_path / "out", limit=20_000)


def test_a_single_file_is_decompressed(tmp_path):
    (tmp_path / "x.gz").write_bytes(gzip.compress(b"pixels"))
    decompress(tmp_path / "x.gz", tmp_path / "x", limit=6)
    assert (tmp_path / "x").read_bytes() == b"pixels"


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        (gzip.compress(bytes(10_000_000)), "more than the 100 bytes expected"),
        (gzip.compress(b"pixels" * 10)[:-9], "can't be decompressed"),
        (b"no gzip", "can't be decompressed"),
    ],
    # The content holds the second at which it was compressed, which differs between processes.
    ids=["bomb", "cut short", "no gzip"],
)
def test_a_bomb_and_broken_files_are_not_decompressed(tmp_path, content, wrong):
    (tmp_path / "x.gz").write_bytes(content)
    with pytest.raises(SourceError, match=wrong):
        decompress(tmp_path / "x.gz", tmp_path / "x", limit=100)
    assert not (tmp_path / "x").exists() or (tmp_path / "x").stat().st_size <= 100
