"""A small data set, a web server that can misbehave, and an npm client that isn't one."""

import contextlib
import hashlib
import http.server
import io
import stat
import sys
import tarfile
import threading
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from cbnorm.data import catalog, download, fetching, opensets, sources, tinyimagenet
from cbnorm.data.entry import Archive, DataFile, DataSet, NpmPackage
from cbnorm.errors import CbnormError

FILES = {"one.bin": b"1" * 700_000, "two.bin": bytes(range(256)) * 4000}


def tar_of(files, mode="w:gz"):
    """Return a tar archive that holds files by name; values may be ready TarInfo objects."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        for name, content in files.items():
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
            tar.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return buffer.getvalue()


def zip_of(files):
    """Return a zip archive that holds files by name; names may be ready ZipInfo objects."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def image_of(seed, size=(64, 64), mode="RGB", kind="JPEG"):
    """Return an image file of noise."""
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    noise = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, kind)
    return buffer.getvalue()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves one body with ranges; `server.plan` holds what goes wrong, request by request."""

    def do_GET(self):
        site = self.server
        body = site.files.get(self.path, site.body)
        asked = self.headers.get("Range")
        site.asked.append(asked)
        fault = site.plan.pop(0) if site.plan else {}
        start = int(asked[6:-1]) if asked and fault.get("ranges", True) else 0
        if status := fault.get("status") or (416 if start >= len(body) else None):
            self.send_error(status)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if fault.get("length", True):
            self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(body[start : fault.get("cut")])
            self.wfile.flush()
            if stall := fault.get("stall"):
                stall.wait(30)

    def log_message(self, *args):
        pass


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    """Keep requests to the loopback interface off a proxy that the machine may have."""
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def site():
    """A web server: set `body` (or `files` by path), list faults in `plan`, read the ranges `asked` for."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.body, server.files, server.plan, server.asked = b"", {}, [], []
    server.url = f"http://127.0.0.1:{server.server_port}/tiny.tar.gz"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def make_tar():
    return tar_of


@pytest.fixture
def make_zip():
    return zip_of


@pytest.fixture
def make_image():
    return image_of


@pytest.fixture
def put():
    """Write files by relative name below a folder; return the folder."""

    def write(folder, files):
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return folder

    return write


WNIDS = ("n03", "n01", "n02")


@pytest.fixture
def little(tmp_path, monkeypatch):
    """The files of a Tiny ImageNet of 3 classes with 4 images each; the data folder is empty."""
    monkeypatch.setenv("CBNORM_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(tinyimagenet, "CLASSES", 3)
    monkeypatch.setattr(opensets, "_fingerprints", {})
    files = {
        "wnids.txt": "\n".join(WNIDS).encode(),
        "words.txt": b"n01\tgoldfish, Carassius\nn02\tbullfrog\nn03\tboa\nn99\tother\n",
    }
    for place, wnid in enumerate(WNIDS):
        for number in (0, 2, 10, 9):
            grey = "L" if number == 9 else "RGB"
            name = f"train/{wnid}/images/{wnid}_{number}.JPEG"
            files[name] = image_of(100 * place + number, mode=grey)
        files[f"train/{wnid}/{wnid}_boxes.txt"] = b"not read"
    tested = {f"val_{number}.JPEG": WNIDS[number % 3] for number in range(6)}
    files["val/val_annotations.txt"] = "".join(
        f"{image}\t{wnid}\t0\t0\t9\t9\n" for image, wnid in tested.items()
    ).encode()
    files |= {f"val/images/{image}": image_of(1000 + number) for number, image in enumerate(tested)}
    files["test/images/test_0.JPEG"] = image_of(2000)
    return files


@pytest.fixture
def little_folder(little, tmp_path, put):
    return put(tmp_path / "data" / "tiny-imagenet-200", little)


@pytest.fixture
def fake_npm(tmp_path, monkeypatch):
    """Put an npm on PATH that hands out a tarball, or fails with a message; return its log file."""
    folder = tmp_path / "bin"
    folder.mkdir()
    log = tmp_path / "npm.log"

    def install(tarball=None, complaint="", status=0):
        (tmp_path / "package.tgz").write_bytes(tarball or b"")
        script = folder / "npm"
        copy = f"shutil.copy({str(tmp_path / 'package.tgz')!r}, 'package-1.0.0.tgz')" if tarball else "None"
        script.write_text(
            f"#!{sys.executable}\nimport shutil, sys\n"
            f"open({str(log)!r}, 'a').write(' '.join(sys.argv[1:]) + '\\n')\n"
            f"{copy}\nsys.stderr.write({complaint!r})\nsys.exit({status})\n"
        )
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", str(folder))
        return log

    return install


@pytest.fixture
def tiny(tmp_path, monkeypatch, site):
    """A data set of two files: an archive on the server first, then an npm package."""
    monkeypatch.setenv("CBNORM_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(download, "PAUSE", 0.0)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    site.body = tar_of({f"tiny-bin/{name}": content for name, content in FILES.items()})
    tarball = tar_of({f"package/{name}": content for name, content in FILES.items()})
    files = tuple(
        DataFile(name, len(content), hashlib.sha1(content).hexdigest()) for name, content in FILES.items()
    )
    entry = DataSet(
        key="tiny",
        name="Tiny",
        class_names=("a", "b"),
        counts={"train": 2, "test": 1},
        image_shape=(1, 1, 1),
        content={file.name: file.sha1 for file in files},
        folder="tiny-bin",
        files=files,
        sources=(
            Archive(site.url, hashlib.md5(site.body).hexdigest(), len(site.body)),
            NpmPackage("tiny-pack", "1.0.0", hashlib.sha256(tarball).hexdigest(), 1_000_000),
        ),
    )
    monkeypatch.setattr(catalog, "DATA_SETS", {**catalog.DATA_SETS, "tiny": entry})

    def convert(package, folder):
        for name in FILES:
            (folder / name).write_bytes((package / name).read_bytes())

    monkeypatch.setitem(fetching.CONVERTERS, "tiny-pack", convert)
    return SimpleNamespace(
        entry=entry,
        contents=FILES,
        tarball=tarball,
        folder=tmp_path / "data" / "tiny-bin",
        root=tmp_path / "data",
    )


def real(key):
    try:
        return sources.require(key)
    except CbnormError as error:
        pytest.skip(f"no real {catalog.find(key).name}: {error}")


@pytest.fixture(scope="session")
def cifar10():
    """The folder of the real CIFAR-10, when it has been fetched."""
    return real("cifar10")


@pytest.fixture(scope="session")
def cifar100():
    """The folder of the real CIFAR-100, when it is there."""
    return real("cifar100")


@pytest.fixture(scope="session")
def tinyimagenet_folder():
    """The folder of the real Tiny ImageNet, whole or in part, when it is there."""
    return real("tinyimagenet")
