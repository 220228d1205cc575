"""Files are known by content, and recognised by their state without being read."""

import os
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cbnorm.data import manifest as module
from cbnorm.data.manifest import Line, Manifest, manifest
from cbnorm.errors import CbnormError

FILES = {"b/two.bin": b"22", "a one.bin": b"1", "\u00fc.bin": b""}


@pytest.fixture
def folder(tmp_path, put):
    return put(tmp_path / "data", FILES)


@pytest.fixture
def memory(tmp_path):
    return tmp_path / "memory" / "of.json"


def test_it_lists_names_sizes_and_checksums_in_order(folder, memory):
    lines = manifest(folder, list(FILES), memory).lines
    assert lines == (
        Line("a one.bin", 1, "356a192b7913b04c54574d18c28d46e6395428ab"),
        Line("b/two.bin", 2, "12c6fc06c99a462375eeb3f43dfd832b08ca9e17"),
        Line("\u00fc.bin", 0, "da39a3ee5e6b4b0d3255bfef95601890afd80709"),
    )


def test_place_time_and_order_of_asking_do_not_count(folder, memory, tmp_path):
    first = manifest(folder, list(FILES), memory)
    shutil.copytree(folder, tmp_path / "copy")
    for path in (tmp_path / "copy").rglob("*.bin"):
        os.utime(path, (1, 1))
    assert manifest(tmp_path / "copy", sorted(FILES), tmp_path / "other.json").digest == first.digest


def test_unchanged_files_are_not_read_again(folder, memory, monkeypatch):
    first = manifest(folder, list(FILES), memory)
    monkeypatch.setattr(module, "read_bytes", None)
    assert manifest(folder, list(FILES), memory) == first


def changed_at_the_same_time_and_size(folder):
    path = folder / "b/two.bin"
    status = path.stat()
    path.write_bytes(b"2?")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def renamed(folder):
    (folder / "b/two.bin").rename(folder / "b/three.bin")


def exchanged(folder):
    for old, new in (("a one.bin", "x"), ("b/two.bin", "a one.bin"), ("x", "b/two.bin")):
        (folder / old).rename(folder / new)


@pytest.mark.parametrize("change", [changed_at_the_same_time_and_size, renamed, exchanged])
def test_any_change_of_content_or_name_is_noticed(folder, memory, change):
    first = manifest(folder, list(FILES), memory)
    change(folder)
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*.bin")]
    assert manifest(folder, names, memory).digest != first.digest


# As the system gives them: bytes that are no text become lone surrogates of one kind only.
names = (
    st.binary(min_size=1, max_size=6)
    .filter(lambda raw: not set(raw) & set(b"\t\n"))
    .map(lambda raw: raw.decode("utf8", "surrogateescape"))
)
lines = st.builds(Line, names, st.integers(0, 99), st.sampled_from(["0" * 40, "1" * 40]))


@given(st.lists(lines, max_size=4), st.lists(lines, max_size=4))
def test_other_lines_have_another_digest(first, second):
    equal = Manifest(tuple(first)).digest == Manifest(tuple(second)).digest
    assert equal == (first == second)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"state": "x"', b"\xff"])
def test_a_broken_memory_is_made_anew(folder, memory, content):
    first = manifest(folder, list(FILES), memory)
    good = memory.read_bytes()
    memory.write_bytes(content)
    assert manifest(folder, list(FILES), memory) == first
    assert memory.read_bytes() == good
    assert [path.name for path in memory.parent.iterdir()] == ["of.json"]


def test_without_a_place_for_the_memory_files_are_read_every_time(folder, tmp_path):
    (tmp_path / "file").write_text("")
    twice = [manifest(folder, list(FILES), tmp_path / "file" / "of.json") for _ in range(2)]
    assert twice[0] == twice[1]


def test_a_missing_file_is_named(folder, memory):
    with pytest.raises(CbnormError, match=r"gone\.bin can't be read \(No such file"):
        manifest(folder, ["gone.bin"], memory)


def test_a_folder_that_changes_meanwhile_is_no_data_set(folder, memory):
    def grow(done, total):
        (folder / "a one.bin").write_bytes(b"more")

    with pytest.raises(CbnormError, match="changes while it is read"):
        manifest(folder, list(FILES), memory, grow)
    assert not memory.exists()
