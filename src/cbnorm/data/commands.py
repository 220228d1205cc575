"""``cbnorm data``: what is here, and fetching."""

from collections.abc import Sequence

from cbnorm.data import catalog, weights
from cbnorm.data.overview import describe_all, fetch
from cbnorm.errors import CbnormError


def data_command(words: Sequence[str]) -> int:
    """Answer ``cbnorm data list`` and ``cbnorm data fetch NAME``."""
    match list(words):
        case ["list"]:
            _list()
        case ["fetch", name] if name in weights.WEIGHTS:
            print(f"{name} is verified in {weights.ensure(weights.find(name))}")
        case ["fetch", name]:
            catalog.find(name)
            print(fetch(name))
        case _:
            raise CbnormError("write cbnorm data list, or cbnorm data fetch DATASET")
    return 0


def _list() -> None:
    found = describe_all()
    width = max(len(known["name"]) for known in found)
    for known in found:
        print(f"{known['key']:<18} {known['name']:<{width}} {known['state']:<10} {known['folder'] or ''}")
        if known["problem"]:
            print(f"  {known['problem']}")
    for file in weights.describe_all():
        where = file["problem"] or file["path"]
        print(f"{file['key']:<18} weights: {file['name']}, {file['state']}: {where}")
