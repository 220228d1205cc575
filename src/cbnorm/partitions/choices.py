"""Which options of a partition count, and what is refused before work. Imports no torch."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cbnorm.errors import CbnormError
from cbnorm.partitions import METHODS

#: Names of options that each kind of partition reads, besides its own name.
_FIT = ("clusters", "features", "test")
_NETWORK = ("run", "layer")


def counted(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that can change the ids, as plain data in a fixed form.

    An attribute counts by its name and a file by its content, wherever it lies.

    Args:
        options: All options of a partition, by name.

    Raises:
        CbnormError: Options that can't be combined, or a file that can't be read; one line.

    >>> counted({"name": "superclass", "test": "predict", "clusters": None})
    {'name': 'superclass'}
    """
    found = _counted(options)
    return found | {"withheld": True} if options.get("withheld") else found


def read_options(options: Mapping[str, Any]) -> set[str]:
    """The names of the options that a partition reads."""
    also = {"name", "withheld"}
    if options["name"] in METHODS:
        also.add("seed")
    elif options["name"] in {"file", "attribute"}:
        also.add(options["name"])
    return also | set(_counted(options))


def _counted(options: Mapping[str, Any]) -> dict[str, Any]:
    name = options["name"]
    if name in METHODS:
        return _fitted(options)
    if options["test"] != "predict":
        raise CbnormError(
            "partition.test=refit needs clusters that are fitted "
            f"({', '.join(METHODS)}), not partition={name}"
        )
    if name == "file":
        return {"name": name, "clusters": _number(options), "content": content(options["file"])}
    return {"name": attribute(options)}


def attribute(options: Mapping[str, Any]) -> str:
    """The attribute of the images that a partition takes as cluster; ``label`` is the class.

    Raises:
        CbnormError: ``partition=attribute`` names none.
    """
    if options["name"] != "attribute":
        return str(options["name"])
    if not options["attribute"]:
        raise CbnormError("partition=attribute names no attribute: add partition.attribute=NAME")
    return str(options["attribute"])


def content(file: str | None) -> str:
    """SHA-256 of a file of ids, in hexadecimal.

    Raises:
        CbnormError: No file is named, or it can't be read.
    """
    if not file:
        raise CbnormError("partition=file names no file: add partition.file=FILE.csv")
    try:
        return hashlib.sha256(Path(file).expanduser().read_bytes()).hexdigest()
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CbnormError(f"partition.file={file} can't be read ({reason}): name a CSV file") from error


def _fitted(options: Mapping[str, Any]) -> dict[str, Any]:
    name, features = options["name"], options["features"]
    _number(options)
    found = {"name": name} | {key: options[key] for key in _FIT}
    if name == "mn_components":
        del found["features"]
    elif features == "none":
        raise CbnormError(f"partition.features=none gives partition={name} nothing to cluster by")
    if name == "mn_components" or features == "activations":
        wanted = f"partition={name}" if name == "mn_components" else "partition.features=activations"
        for key in _NETWORK:
            if options[key] is None:
                raise CbnormError(f"{wanted} needs a trained network: add partition.run=ID partition.layer=N")
        found |= {key: options[key] for key in _NETWORK}
    return found if options["seed"] is None else found | {"seed": options["seed"]}


def _number(options: Mapping[str, Any]) -> int:
    if options["clusters"] is None:
        raise CbnormError(f"partition={options['name']} needs a number of clusters: add partition.clusters=K")
    return int(options["clusters"])
