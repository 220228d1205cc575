"""`cbnorm figures` and `cbnorm report`: what people see of the evidence. Nothing here trains."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from cbnorm.errors import CbnormError
from cbnorm.report.evidence import LOOKS, Evidence
from cbnorm.report.figures.material import Material
from cbnorm.report.figures.registry import write_figures
from cbnorm.report.page import PAGE, write_page
from cbnorm.runs.files import write_bytes
from cbnorm.words import path_of, split

#: The published evidence of a checkout.
RECORDS, FIGURES = "results/records", "results/figures"


def figures_command(words: Sequence[str]) -> int:
    """Carry out ``cbnorm figures WORDS``."""
    own = _options(words, "figures")
    print(write_figures(_material(own), path_of(own, "out", FIGURES)))
    return 0


def report_command(words: Sequence[str]) -> int:
    """Carry out ``cbnorm report WORDS``."""
    own = _options(words, "report")
    out = path_of(own, "out", PAGE)
    if out.is_dir():
        raise CbnormError(f"out={out} is a folder: name a file, such as {out / Path(PAGE).name}")
    material = _material(own)
    drawings = find_spec("matplotlib") is not None
    page = write_page(material, drawings=drawings).encode()
    write_bytes(out, page)
    if not drawings:
        print("without figures: they need pip install 'cbnorm[figures]'")
    print(f"{out}: {len(page) / 1e6:.2f} MB, {len(material.records)} runs")
    return 0


def _options(words: Sequence[str], command: str) -> dict[str, str]:
    plain, own = split(words, command, ["store", "out", "looks"])
    if plain:
        raise CbnormError(
            f"'{plain[0]}' means nothing to {command}: use store=FOLDER, out=PATH or looks=FOLDER"
        )
    return own


def _material(own: dict[str, str]) -> Material:
    store, named = own.get("store", RECORDS), "looks" in own
    looks = path_of(own, "looks", LOOKS)
    if named and not looks.is_dir():
        raise CbnormError(f"there is no folder {looks}: cbnorm look TABLE out={looks} fills one")
    return Material.of(Evidence.of(store, looks))
