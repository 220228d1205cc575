"""Files that are whole or absent: written beside their place, then moved there."""

import csv
import json
import os
import secrets
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar
from zipfile import BadZipFile

from cbnorm.errors import CbnormError

Line = TypeVar("Line")


def write_bytes(path: Path, data: bytes, *, keep: Path | None = None, durable: bool = True) -> None:
    """Write a file atomically.

    Args:
        path: The file; its folder is made if missing.
        data: Its content.
        keep: Where to move what is there now, once the new content is safe on disk.
        durable: Let the content outlive a power cut; what only matters to living processes need not.

    Raises:
        CbnormError: If the disk is full or the folder can't be written; what was there before stays.
    """
    # A random name, because processes of two machines may have the same number.
    part = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        if keep is not None:
            with suppress(FileNotFoundError):
                path.replace(keep)
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise cannot_write(path, error) from error


def read_arrays(path: Path, *names: str) -> dict[str, Any] | None:
    """Arrays of an ``.npz`` file by name; None if it is absent or damaged, or lacks one of them.

    Args:
        path: The file.
        names: Those that are needed; without any, all.
    """
    import numpy as np

    try:
        # Opened here, because numpy leaves a damaged file open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in names or arrays.files}
    except (OSError, EOFError, KeyError, ValueError, BadZipFile, zlib.error):
        return None


def sync_names(folder: Path) -> None:
    """Let the names of files that were written to a folder outlive a power cut, where that can be done."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_json(path: Path, content: Any, *, durable: bool = True) -> None:
    """Write plain data as JSON, atomically."""
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    write_bytes(path, text.encode(), durable=durable)


def append_line(path: Path, content: Any) -> None:
    """Append plain data as one line of JSON."""
    try:
        with path.open("a", encoding="utf8") as file:
            file.write(json.dumps(content, allow_nan=False) + "\n")
    except OSError as error:
        raise cannot_write(path, error) from error


def read_json(path: Path) -> dict[str, Any]:
    """Read one JSON object.

    Raises:
        CbnormError: If the file is missing, unreadable, or not a JSON object.
    """
    content = read_json_if_there(path)
    if content is None:
        raise CbnormError(f"{path} does not exist")
    return content


def read_json_if_there(path: Path) -> dict[str, Any] | None:
    """Read one JSON object; None when there is no such file.

    Raises:
        CbnormError: If the file is unreadable or not a JSON object.
    """
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise cannot_read(path, error) from error
    try:
        return parse_object(data)
    except ValueError as error:
        raise CbnormError(f"{path} is damaged ({error}): move it away, then run again") from error


def parse_object(data: bytes | str) -> dict[str, Any]:
    """One JSON object with finite numbers.

    Raises:
        ValueError: It is something else; a short reason.

    >>> parse_object('{"a": 1}')
    {'a': 1}
    """
    try:
        content = _DECODER.decode(data if isinstance(data, str) else data.decode())
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except UnicodeDecodeError:
        raise ValueError("not text") from None
    if not isinstance(content, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004  (bad content, not a programming error)
    return content


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


# Made once: thousands of records are read at a time.
_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read the whole lines of a file of JSON objects; a last line cut off by a crash is left out."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise cannot_read(path, error) from error
    rows = []
    for number, line in enumerate(data.split(b"\n")[:-1], 1):
        try:
            rows.append(parse_object(line))
        except ValueError as error:
            raise CbnormError(
                f"{path}, line {number} is damaged ({error}): move the file away, then run again"
            ) from error
    return rows


def read_table(path: Path, convert: Callable[[dict[str, str]], Line]) -> list[Line]:
    """Read a CSV file with a head line.

    Args:
        path: The file.
        convert: Makes what is wanted of a line, by column; refuses by ValueError.

    Raises:
        CbnormError: If the file can't be read or a line is not as it should be; names the line.
    """
    number, lines = 1, []
    try:
        with path.open(encoding="utf8", newline="") as file:
            reader = csv.DictReader(file, strict=True, restval="", restkey="")
            for line in reader:
                number = reader.line_num
                if "" in line:
                    raise ValueError("more values than columns")  # noqa: TRY301  (told with the line's number)
                lines.append(convert(line))
    except OSError as error:
        raise cannot_read(path, error) from error
    except KeyError as error:
        raise CbnormError(f"{path} has no column {error}: put the file back as it was shipped") from error
    except (ValueError, csv.Error) as error:
        raise CbnormError(
            f"{path}, line {number} is damaged ({error}): put the file back as it was shipped"
        ) from error
    return lines


def cannot_read(path: Path, error: OSError) -> CbnormError:
    """The one line for a file that may not or can't be read."""
    reason = error.strerror or str(error)
    return CbnormError(f"cannot read {path}: {reason}; make it a readable file or move it away")


def cannot_write(path: Path, error: OSError) -> CbnormError:
    """The one line for a full disk or a read-only folder."""
    reason = error.strerror or str(error)
    return CbnormError(f"cannot write {path}: {reason}; make room or choose another place, then run again")
