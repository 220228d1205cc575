"""Write the cost tables of docs/norms from results/bench/norms.csv: ``python benchmarks/fill_cards.py``."""

import csv
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CARDS, TABLE = ROOT / "docs" / "norms", ROOT / "results" / "bench" / "norms.csv"
MARKED = re.compile(r"(<!-- cost: (?P<layers>[^>]+) -->\n).*?(<!-- end of cost -->)", re.DOTALL)


def cost_table(rows: list[dict[str, str]], layers: list[str]) -> str:
    """Markdown: ratios to batch normalization at K = 3, by layer, shape and layout."""
    lines = [
        "| layer | shape | layout | batch norm, ms | kernels | tensor operations | peak memory |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for layer in layers:
        mine = [row for row in rows if row["layer"] == layer and row["K"] == "3"]
        for shape, layout in dict.fromkeys((row["shape"], row["layout"]) for row in mine):
            by = {r["variant"]: r for r in mine if (r["shape"], r["layout"]) == (shape, layout)}
            first = by.get("kernel") or next(iter(by.values()))
            ratios = [f"{float(by[v]['ratio']):.2f}" if v in by else "–" for v in ("kernel", "plain")]
            cells = [layer, shape, layout, first["bn_ms"], *ratios, first["peak_activations"]]
            lines.append("| " + " | ".join(cells) + " |")
    note = (
        f"Forward and backward, float32, {rows[0]['threads']} threads, K = 3: medians of time divided by "
        "that of `nn.BatchNorm2d`; memory in activations, output and gradient included. Measured on "
        f"{rows[0]['date']}, {rows[0]['device']}."
    )
    return "\n".join([*lines, "", note, ""])


def fill(text: str, rows: list[dict[str, str]]) -> str:
    """``text`` with the part between the cost markers made anew."""
    return MARKED.sub(
        lambda match: match[1] + cost_table(rows, match["layers"].split(" + ")) + match[3], text
    )


def main() -> None:
    """Rewrite every card that has a cost table."""
    with TABLE.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if "NVIDIA" not in row["device"]]
    # The first machine's are the newest.
    rows = [row for row in rows if row["device"] == rows[0]["device"]]
    for card in sorted(CARDS.glob("*.md")):
        card.write_text(fill(card.read_text(), rows))


if __name__ == "__main__":
    main()
