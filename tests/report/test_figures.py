"""Figures show what records hold, say what is missing, and come with their numbers."""

import csv
import io
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree as ET

import pytest
from matplotlib.figure import Figure
from PIL import Image

from cbnorm.report.evidence import Evidence
from cbnorm.report.figures.drawing import Drawing, draw, drawn, inline, write
from cbnorm.report.figures.forest import forest
from cbnorm.report.figures.material import Made, Material
from cbnorm.report.figures.registry import FIGURES, write_figures
from cbnorm.report.figures.style import MARKS, mark
from cbnorm.runs.plan import choose_rows
from cbnorm.runs.store import Store


def material(root: Path) -> Material:
    return Material.of(Evidence([Store(root)], root / "looks"))


def only(made: Made) -> Drawing:
    assert not isinstance(made, str), made
    assert len(made) == 1
    return made[0]


@pytest.fixture(scope="module")
def several(making: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Material:
    """Table V's rows with five seeds at one rate and one at the other."""
    values = {
        "BN-1": [70.0, 70.5, 71.0, 70.2, 70.8],
        "SCB-Norm-1": [75.0, 75.5, 76.0, 75.2, 75.8],
        "UCB-Norm-1": [70.1, 70.4, 71.2, 70.2, 70.9],
        "BN-2": [72.0],
        "SCB-Norm-2": [71.0],
    }
    return material(making.write(tmp_path_factory.mktemp("store"), making.table(values)))


def test_a_figure_is_written_as_numbers_vector_and_pixels(several: Material, tmp_path: Path) -> None:
    drawing = only(forest(several))
    paths = write(drawing, tmp_path)
    assert [path.name for path in paths] == ["forest.csv", "forest.svg", "forest.png"]
    assert ET.fromstring(paths[1].read_text(encoding="utf8")).tag.endswith("svg")
    with Image.open(paths[2]) as image:
        assert image.width == round(drawing.size[0] * 200)


def test_the_same_numbers_give_the_same_files(several: Material) -> None:
    drawing = only(forest(several))
    assert draw(drawing, "svg") == draw(drawing, "svg")
    assert draw(drawing, "png") == draw(drawing, "png")


def test_files_know_whether_they_show_these_numbers(several: Material, tmp_path: Path) -> None:
    drawing = only(forest(several))
    assert not drawn(tmp_path, drawing)
    write(drawing, tmp_path)
    assert drawn(tmp_path, drawing)
    other = Drawing(drawing.name, "", "", "", drawing.lines[:1], drawing.paint)
    assert not drawn(tmp_path, other)


def test_inline_figures_have_ids_of_their_own_and_the_ink_of_the_page(several: Material) -> None:
    text = inline(only(forest(several)))
    assert text.startswith("<svg")
    ids = [e.attrib["id"] for e in ET.fromstring(text).iter() if "id" in e.attrib]
    assert ids
    assert all(name.startswith("forest-") for name in ids)
    assert "currentColor" in text


def test_marks_differ_in_shape_and_lightness() -> None:
    assert len({look.marker for look in MARKS.values()}) == len(MARKS)
    assert len({str(look.dashes) for look in MARKS.values()}) == len(MARKS)
    assert mark("package:rms").title == "package:rms"


def test_the_forest_shows_differences_with_intervals_from_three_seeds_on(several: Material) -> None:
    lines = {line["claim"]: line for line in only(forest(several)).lines}
    assert set(lines) == {"c10-scb-1-bn", "c10-ucb-1-bn", "c10-scb-2-bn"}
    strong, single = lines["c10-scb-1-bn"], lines["c10-scb-2-bn"]
    assert strong["difference"] == pytest.approx(5.0)
    assert strong["low"] < 5.0 < strong["high"]
    assert (single["difference"], single["low"], single["seeds"]) == (pytest.approx(-1.0), None, 1)
    assert "1 of 3 differences rest on one or two seeds" in only(forest(several)).caption


@pytest.fixture(scope="module")
def unlike(making: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Material:
    """UAN's table, which claims accuracies and losses of the same block."""
    place = ("experiment=uan", "dataset=cifar100", "budget=small")
    records = []
    for overrides in dict.fromkeys(row.overrides for row in choose_rows("uan", ["rows"])):
        run = making.record(*place, *overrides, experiment="uan")
        for entry in run["metrics"]["moments"]:
            for weights in ("best", "last"):
                entry[weights] |= {"loss": 1.0 + 0.0123 * ("norm=uan" in overrides)}
        records.append(run)
    return material(making.write(tmp_path_factory.mktemp("unlike"), records))


def test_each_metric_has_a_panel_of_its_own(unlike: Material) -> None:
    drawing = only(forest(unlike))
    metrics = [line["metric"] for line in drawing.lines]
    assert metrics == sorted(metrics, key=["accuracy", "loss"].index)
    figure = Figure(figsize=drawing.size, layout="constrained")
    drawing.paint(figure)
    labels = [axis.get_xlabel() for axis in figure.axes]
    assert [label.split(";")[0] for label in labels] == [
        "difference in points of accuracy",
        "difference in loss",
    ]
    for axis, metric in zip(figure.axes, ("accuracy", "loss"), strict=True):
        assert len(axis.get_yticks()) == metrics.count(metric) > 0
    draw(drawing, "png")
    # A difference of a hundredth, which the claim is about, is not rounded away.
    assert "-0.0123" in drawing.alt


def test_the_table_beside_a_figure_is_what_it_shows(several: Material) -> None:
    rows = list(csv.DictReader(io.StringIO(only(forest(several)).table())))
    assert [row["claim"] for row in rows] == ["c10-scb-1-bn", "c10-ucb-1-bn", "c10-scb-2-bn"]
    assert rows[2]["low"] == ""
    assert float(rows[0]["published"]) == 0.67


def test_without_runs_every_figure_says_why_it_is_missing(tmp_path: Path) -> None:
    empty = Material(Evidence([Store(tmp_path)], tmp_path), [], tmp_path)
    for name, maker in FIGURES.items():
        made = maker(empty)
        assert isinstance(made, str), name
        assert made, name
    told = write_figures(empty, tmp_path / "out")
    assert told.count("skipped") == len(FIGURES)
    assert not (tmp_path / "out").exists()
