"""Unpacking archives that may be hostile."""

import tarfile
import zlib
from pathlib import Path, PurePosixPath

from cbnorm.data.failure import SourceError


def unpack(archive: Path, folder: Path, *, limit: int) -> None:
    """Unpack the regular files of a tar archive into a folder.

    Everything is looked at before anything is written: names that lead out of the folder,
    links, devices, and more than ``limit`` bytes in all are refused. Owners and modes are not
    taken over.

    Args:
        archive: A tar file, compressed or not.
        folder: Where the files go; created.
        limit: Bytes that the files may hold together.

    Raises:
        SourceError: The archive is broken or holds what is refused.
    """
    try:
        with tarfile.open(archive) as tar:
            members = tar.getmembers()
            _check(members, limit)
            folder.mkdir(parents=True, exist_ok=True)
            for member in members:
                if member.isfile():
                    _write(tar, member, folder / member.name)
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise SourceError(f"{archive.name} can't be unpacked ({error})") from error


def _check(members: list[tarfile.TarInfo], limit: int) -> None:
    for member in members:
        path = PurePosixPath(member.name)
        if path.is_absolute() or ".." in path.parts or "\\" in member.name:
            raise SourceError(f"the archive holds {member.name!r}, which lies outside its folder")
        if not (member.isfile() or member.isdir()):
            raise SourceError(f"the archive holds {member.name!r}, which is a link or a device")
    if (total := sum(member.size for member in members)) > limit:
        raise SourceError(f"the archive holds {total} bytes, more than the {limit} expected")


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    source = tar.extractfile(member)
    if source is None:
        raise SourceError(f"the archive's {member.name!r} can't be read")
    target.parent.mkdir(parents=True, exist_ok=True)
    # "x": a name that comes twice is refused, and nothing that exists is followed or replaced.
    with source, target.open("xb") as file:
        while block := source.read(1 << 20):
            file.write(block)
