"""Unpacking archives that may be hostile."""

import gzip
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from cbnorm.data.failure import SourceError

# Empty files cost something too; the largest known archive holds 120,609 names.
MEMBERS = 500_000


_BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    RuntimeError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    OSError,
)


class _Member(NamedTuple):
    name: str
    size: int
    kind: str
    open: Callable[[], IO[bytes] | None]


def unpack(archive: Path, folder: Path, *, limit: int) -> None:
    """Unpack the regular files of a tar or zip archive into a folder.

    Everything is looked at before anything is written: names that lead out of the folder,
    links, devices, and more than ``limit`` bytes in all are refused. Owners and modes are not
    taken over.

    Args:
        archive: A tar file, compressed or not, or a zip file.
        folder: Where the files go; created.
        limit: Bytes that the files may hold together.

    Raises:
        SourceError: The archive is broken or holds what is refused.
    """
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                _unpack(list(_zipped(opened)), folder, limit)
        else:
            with tarfile.open(archive) as opened:
                _unpack(list(_tarred(opened)), folder, limit)
    # A password or an unknown method of compression is a RuntimeError to zipfile.
    except _BROKEN as error:
        raise SourceError(f"{archive.name} can't be unpacked ({error})") from error


def decompress(source: Path, target: Path, *, limit: int) -> None:
    """Decompress one gzip file.

    Args:
        source: The compressed file.
        target: The file to write.
        limit: Bytes that it may hold.

    Raises:
        SourceError: The file is broken or holds more.
    """
    try:
        with gzip.open(source) as packed, target.open("xb") as file:
            left = limit
            while block := packed.read(1 << 20):
                if (left := left - len(block)) < 0:
                    raise SourceError(f"{source.name} holds more than the {limit} bytes expected")
                file.write(block)
    except _BROKEN as error:
        raise SourceError(f"{source.name} can't be decompressed ({error})") from error


def _tarred(tar: tarfile.TarFile) -> Iterator[_Member]:
    for info in tar.getmembers():
        kind = "file" if info.isfile() else "folder" if info.isdir() else "other"
        yield _Member(info.name, info.size, kind, partial(tar.extractfile, info))


def _zipped(archive: zipfile.ZipFile) -> Iterator[_Member]:
    for info in archive.infolist():
        mode = stat.S_IFMT(info.external_attr >> 16)
        regular = mode in {0, stat.S_IFREG, stat.S_IFDIR}
        kind = "other" if not regular else "folder" if info.is_dir() else "file"
        # Reading stops at the size that was looked at, whatever the compressed bytes hold.
        yield _Member(info.filename, info.file_size, kind, partial(archive.open, info))


def _unpack(members: list[_Member], folder: Path, limit: int) -> None:
    _check(members, limit)
    folder.mkdir(parents=True, exist_ok=True)
    for member in members:
        if member.kind == "file":
            _write(member, folder / member.name)


def _check(members: list[_Member], limit: int) -> None:
    if len(members) > MEMBERS:
        raise SourceError(f"the archive holds {len(members)} names, more than {MEMBERS}")
    for member in members:
        path = PurePosixPath(member.name)
        if path.is_absolute() or ".." in path.parts or "\\" in member.name:
            raise SourceError(f"the archive holds {member.name!r}, which lies outside its folder")
        if member.kind == "other":
            raise SourceError(f"the archive holds {member.name!r}, which is a link or a device")
    if (total := sum(member.size for member in members)) > limit:
        raise SourceError(f"the archive holds {total} bytes, more than the {limit} expected")


def _write(member: _Member, target: Path) -> None:
    source = member.open()
    if source is None:
        raise SourceError(f"the archive's {member.name!r} can't be read")
    target.parent.mkdir(parents=True, exist_ok=True)
    # "x": a name that comes twice is refused, and nothing that exists is followed or replaced.
    with source, target.open("xb") as file:
        while block := source.read(1 << 20):
            file.write(block)
