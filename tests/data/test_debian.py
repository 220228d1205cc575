"""Packages of Debian come through the user's own apt; they are unpacked, not installed."""

import io
import stat
import sys
import tarfile

import pytest

from cbnorm.data import debian
from cbnorm.data.entry import DebianPackage
from cbnorm.data.failure import SourceError

PACKAGE = DebianPackage("some-data", 10_000)


def ar_of(members):
    """Write what dpkg-deb writes: an ar archive of named members."""
    out = b"!<arch>\n"
    for name, content in members.items():
        head = f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n"
        out += head.encode() + content + b"\n" * (len(content) % 2)
    return out


def tar_xz(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def package(files, data="data.tar.xz"):
    return ar_of({"debian-binary": b"2.0\n", "control.tar.xz": b"odd", data: tar_xz(files)})


@pytest.fixture
def fake_apt(tmp_path, monkeypatch):
    """Put an apt-get on PATH that downloads the given package, or fails; return its log file."""

    def install(content=None, complaint="", status=0):
        folder = tmp_path / "bin"
        folder.mkdir()
        (tmp_path / "given.deb").write_bytes(content or b"")
        copy = f"shutil.copy({str(tmp_path / 'given.deb')!r}, 'some-data_1_all.deb')" if content else "None"
        script = folder / "apt-get"
        script.write_text(
            f"#!{sys.executable}\nimport shutil, sys\n"
            f"open({str(tmp_path / 'apt.log')!r}, 'a').write(' '.join(sys.argv[1:]))\n"
            f"{copy}\nsys.stderr.write({complaint!r})\nsys.exit({status})\n"
        )
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", str(folder))
        return tmp_path / "apt.log"

    return install


@pytest.fixture
def scratch(tmp_path):
    (tmp_path / "scratch").mkdir()
    return tmp_path / "scratch"


def test_a_package_is_downloaded_and_unpacked(fake_apt, scratch):
    log = fake_apt(package({"./usr/share/x/data.gz": b"pixels"}))
    folder = debian.fetch(PACKAGE, scratch)
    assert (folder / "usr/share/x/data.gz").read_bytes() == b"pixels"
    assert log.read_text().split()[-2:] == ["download", "some-data"]


def test_apts_complaint_is_passed_on_in_one_line(fake_apt, scratch):
    fake_apt(complaint="W: old lists\nE: Unable to locate package some-data\nE: more\n", status=100)
    with pytest.raises(SourceError, match=r"^apt-get failed \(Unable to locate package some-data\)$"):
        debian.fetch(PACKAGE, scratch)


def test_an_apt_that_gives_nothing_has_failed(fake_apt, scratch):
    fake_apt()
    with pytest.raises(SourceError, match=r"apt-get failed \(exit status 0\)"):
        debian.fetch(PACKAGE, scratch)


def test_without_apt_the_source_is_skipped(scratch, monkeypatch):
    monkeypatch.setenv("PATH", str(scratch))
    with pytest.raises(SourceError, match="no apt-get on PATH"):
        debian.fetch(PACKAGE, scratch)


def test_a_package_that_leads_out_of_its_folder_is_refused(fake_apt, scratch):
    fake_apt(package({"../evil": b"!"}))
    with pytest.raises(SourceError, match="outside its folder"):
        debian.fetch(PACKAGE, scratch)


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        (b"no package", "is no Debian package"),
        (b"!<arch>\n", "holds no archive of files"),
        (ar_of({"debian-binary": b"2.0\n"}), "holds no archive of files"),
        (ar_of({"debian-binary": b"2.0\n"})[:-3] + b"garbage" * 20, "holds no archive of files"),
        (package({}, data="data.tar.zst"), "compressed as data.tar.zst, which Python can't read"),
        (package({"x": b"1"})[:-40], r"data.tar.xz is cut off after \d+ of \d+ bytes"),
        (ar_of({"data.tar.xz": b"no archive"}), "data.tar.xz can't be unpacked"),
    ],
)
def test_a_broken_package_is_refused(fake_apt, scratch, content, wrong):
    fake_apt(content)
    with pytest.raises(SourceError, match=wrong):
        debian.fetch(PACKAGE, scratch)
