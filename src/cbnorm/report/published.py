"""All that follows from the published records: ``python -m cbnorm.report.published`` in a checkout.

Tables, the pages of claims and evidence, what other pages quote, figures, the README's part, the report.
"""

from collections.abc import Iterator
from pathlib import Path

from cbnorm.report import claims_page, evidence_page, readme
from cbnorm.report.evidence import LOOKS, Evidence
from cbnorm.report.figures.material import Material
from cbnorm.report.figures.registry import write_figures
from cbnorm.report.page import PAGE, undated, write_page
from cbnorm.report.publish import RECORDS
from cbnorm.report.quotes import Quotes
from cbnorm.report.summary import write_all
from cbnorm.runs.files import write_bytes
from cbnorm.runs.store import Store


def pages(material: Material, root: Path) -> Iterator[tuple[Path, str]]:
    """The pages of a checkout that show records, as they should be."""
    made = {
        root / "docs" / "claims.md": claims_page.page(material.entries),
        root / "docs" / "evidence.md": evidence_page.page(material.entries),
    }
    yield from made.items()
    quotes = Quotes.of(material.entries)
    for path in sorted({*(root / "docs").rglob("*.md")} - made.keys()):
        yield path, quotes.fill(path.read_text(encoding="utf8"), str(path.relative_to(root)))
    path = root / "README.md"
    yield path, readme.fill(path.read_text(encoding="utf8"), material)


def renew(root: Path) -> str:
    """Make all of it in a checkout.

    Returns:
        What was done, for people.
    """
    results = root / "results"
    material = Material.of(Evidence([Store(results / RECORDS)], root / LOOKS))
    lines = [write_all(material.evidence, material.entries, results)]
    lines.append(write_figures(material, results / "figures"))
    for path, text in pages(material, root):
        if not path.is_file() or path.read_text(encoding="utf8") != text:
            write_bytes(path, text.encode())
            lines.append(f"{path.relative_to(root)}: renewed")
    report, text = root / PAGE, write_page(material)
    if not report.is_file() or undated(report.read_text(encoding="utf8")) != undated(text):
        write_bytes(report, text.encode())
        lines.append(f"{PAGE}: renewed")
    return "\n".join(lines)


if __name__ == "__main__":
    print(renew(Path()))
