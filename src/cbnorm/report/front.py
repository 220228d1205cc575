"""`cbnorm figures` and `cbnorm report`: what people see of the evidence. Nothing here trains."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from cbnorm.errors import CbnormError
from cbnorm.report.commands import split
from cbnorm.report.evidence import Evidence
from cbnorm.report.figures.material import Material
from cbnorm.report.figures.registry import write_figures
from cbnorm.report.page import write_page
from cbnorm.runs.files import write_bytes

#: The published evidence of a checkout.
RECORDS, FIGURES, PAGE = "results/records", "results/figures", "results/report.html"


def figures_command(words: Sequence[str]) -> int:
    """Carry out ``cbnorm figures WORDS``."""
    own = _options(words, "figures")
    out = Path(own.get("out", FIGURES))
    print(write_figures(Material.of(_evidence(own), out / "looks"), out))
    return 0


def report_command(words: Sequence[str]) -> int:
    """Carry out ``cbnorm report WORDS``."""
    own = _options(words, "report")
    out = Path(own.get("out", PAGE))
    material = Material.of(_evidence(own), Path(FIGURES) / "looks")
    drawings = find_spec("matplotlib") is not None
    page = write_page(material, drawings=drawings).encode()
    write_bytes(out, page)
    if not drawings:
        print("without figures: they need pip install 'cbnorm[figures]'")
    print(f"{out}: {len(page) / 1e6:.2f} MB, {len(material.records)} runs")
    return 0


def _options(words: Sequence[str], command: str) -> dict[str, str]:
    plain, own = split(words, command, ["store", "out"])
    if plain:
        raise CbnormError(f"'{plain[0]}' means nothing to {command}: use store=FOLDER or out=PATH")
    return own


def _evidence(own: dict[str, str]) -> Evidence:
    store = own.get("store", RECORDS)
    for folder in store.split(","):
        if not Path(folder).expanduser().is_dir():
            raise CbnormError(f"there is no store {folder}: name one with store=FOLDER, such as store=runs")
    return Evidence.of(store)
