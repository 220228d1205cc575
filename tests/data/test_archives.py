"""Unpacking: nothing leaves the folder, whatever the archive says."""

import contextlib
import io
import random
import tarfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cbnorm.data.archives import unpack
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
