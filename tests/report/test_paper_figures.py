"""The paper's figures, from made-up runs in the form that real ones leave."""

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cbnorm.config.compose import compose_run
from cbnorm.report.evidence import Evidence
from cbnorm.report.figures.components import kurtosis, principal_components, skewness
from cbnorm.report.figures.costs import cost_against_accuracy
from cbnorm.report.figures.curves import test_errors as errors
from cbnorm.report.figures.drawing import Drawing, Line, draw
from cbnorm.report.figures.gan import distances, samples
from cbnorm.report.figures.histories import curve
from cbnorm.report.figures.ksweep import _points, k_sweep
from cbnorm.report.figures.material import Made, Material
from cbnorm.report.figures.panels import densenet, gradients, vit_losses
from cbnorm.report.figures.planes import planes_of_densenet
from cbnorm.report.figures.seeds import seeds
from cbnorm.report.figures.table1 import table1
from cbnorm.runs.store import Store


def one(made: Made, number: int = 0) -> Drawing:
    assert not isinstance(made, str), made
    assert draw(made[number], "svg").startswith(b"<?xml")
    return made[number]


def pick(drawing: Drawing, **wanted: object) -> list[Line]:
    return [line for line in drawing.lines if wanted.items() <= line.items()]


def table5(making: SimpleNamespace, root: Path, budget: str = "small") -> Material:
    values = {"BN-1": [70.0, 71.0, 72.0], "UCB-Norm-1": [71.0, 71.5, 72.0], "BN-2": [69.0]}
    records = making.table(values, f"budget={budget}")
    for record in records:
        record["seconds"] = {"training": 500.0, "total": 600.0}
    history = {record["id"]: [40.0, 50.0, 60.0] for record in records}
    making.write(root, records, history=history)
    return Material.of(Evidence([Store(root)], root))


def test_a_curve_goes_on_with_the_runs_that_do(tmp_path: Path, making: SimpleNamespace) -> None:
    records = making.table({"BN-1": [70.0, 71.0]})
    history = {records[0]["id"]: [40.0, 50.0, 60.0], records[1]["id"]: [20.0, 70.0]}
    evidence = Evidence([Store(making.write(tmp_path, records, history=history))])
    found = curve(evidence, [record["id"] for record in records], "-val_accuracy")
    assert found is not None
    assert found.epochs.tolist() == [1, 2, 3]
    assert found.mean.tolist() == [70.0, 40.0, 40.0]
    assert (found.low.tolist(), found.high.tolist()) == ([60.0, 30.0, 40.0], [80.0, 50.0, 40.0])
    assert found.runs.tolist() == [2, 2, 1]
    assert curve(evidence, ["0" * 12], "val_accuracy") is None


def test_a_caption_names_the_rows_whose_runs_ended_early(making: SimpleNamespace, tmp_path: Path) -> None:
    records = making.table({"BN-1": [70.0, 71.0], "UCB-Norm-1": [70.0, 71.0]})
    lengths = dict(zip([record["id"] for record in records], (3, 3, 3, 2), strict=True))
    history = {run: [40.0, 50.0, 60.0][:length] for run, length in lengths.items()}
    making.write(tmp_path, records, history=history)
    drawing = one(errors(Material.of(Evidence([Store(tmp_path)], tmp_path))))
    assert "Some runs of UCB-Norm-1 have no number at some epochs, or ended early" in drawing.caption
    shown = pick(drawing, row="UCB-Norm-1", images="validation")
    assert [line["runs"] for line in shown] == [2, 2, 1]
    assert [line["error"] for line in shown] == [60.0, 50.0, 40.0]


def test_figure_3_tells_errors_on_validation_from_errors_on_test(
    making: SimpleNamespace, tmp_path: Path
) -> None:
    drawing = one(errors(table5(making, tmp_path)))
    assert drawing.name == "fig3-5-cifar-10-small-sound"
    validation = pick(drawing, row="BN-1", images="validation")
    assert [line["error"] for line in validation] == [60.0, 50.0, 40.0]
    test = pick(drawing, row="BN-1", images="test", epoch=20)
    assert test[0]["error"] == pytest.approx(29.0)
    assert test[0]["published"] is None
    assert "read at four moments only" in drawing.caption
    assert "n = 1 to 3" in drawing.caption


def test_figure_3_at_the_full_budget_has_the_published_errors(
    making: SimpleNamespace, tmp_path: Path
) -> None:
    drawing = one(errors(table5(making, tmp_path, "full")))
    test = pick(drawing, row="BN-1", images="test", epoch=100)
    assert test[0]["published"] == pytest.approx(100 - 86.90)
    assert "Crosses are the published errors" in drawing.caption


def test_cost_is_told_by_the_run_and_by_the_layer(making: SimpleNamespace, tmp_path: Path) -> None:
    drawing = one(cost_against_accuracy(table5(making, tmp_path)))
    assert len(drawing.lines) == 7
    assert {line["training_seconds"] for line in drawing.lines} == {500.0}
    layers = {line["norm"]: line["layer_time"] for line in drawing.lines}
    assert layers["bn"] == 1.0
    assert layers["ucb"] > 2


def test_seeds_needed_fall_with_the_difference_and_rise_with_the_spread(
    making: SimpleNamespace, tmp_path: Path
) -> None:
    drawing = one(seeds(table5(making, tmp_path)))
    assumed = [line["seeds"] for line in pick(drawing, sd=0.5)]
    assert assumed == sorted(assumed, reverse=True)
    needed = {line["sd"]: line["seeds"] for line in pick(drawing, difference=1.0)}
    assert needed[0.25] < needed[0.5] < needed[1.0]
    # Of variances 1 and 0.25, the rows with three seeds.
    assert sorted(needed.keys() - {0.25, 0.5, 1.0}) == [pytest.approx(math.sqrt(0.625))]


def test_the_sweep_over_k_orders_rows_by_it(making_figures: SimpleNamespace, tmp_path: Path) -> None:
    drawing = one(k_sweep(making_figures.sweep(tmp_path)))
    assert "the mean over seeds 0, 1, which all have" in drawing.caption
    assert list(dict.fromkeys((line["norm"], line["K"]) for line in drawing.lines)) == [
        *[("bn", 1), ("scb", 1), ("scb", 2), ("scb", 8)],
        *[("ucb", 1), ("ucb", 5)],
    ]


def test_numbers_of_clusters_are_compared_on_the_seeds_that_all_have() -> None:
    lines = [
        {"norm": "scb", "K": k, "seed": seed, "accuracy": value}
        for k, seed, value in ((1, 0, 71.0), (1, 1, 60.0), (2, 0, 70.0))
    ]
    assert _points(lines) == {("scb", 1): 71.0, ("scb", 2): 70.0}


def test_table_1_says_how_time_grows(making: SimpleNamespace, tmp_path: Path) -> None:
    head = "device,varied,value,layer,ms,fastest_ms,ratio,peak_activations,parameters,buffers"
    rows = [f"new,K,{k},ucb joint,1,{2.0 * k},1,2,{k},3" for k in (1, 2, 4)]
    rows += [f"new,C,{c},ucb joint,1,{c**0.5},1,2,4,4" for c in (16, 64)]
    rows += [f"old,K,{k},ucb joint,1,{k * k},1,2,{k},3" for k in (1, 2, 4)]
    (tmp_path / "table1.csv").write_text("\n".join([head, *rows]) + "\n")
    drawing = one(table1(Material(Evidence([], tmp_path), [], tmp_path)))
    assert "UCB-Norm, joint: K 1.00, C 0.50" in drawing.caption
    assert "one layer on new (" in drawing.caption
    assert [line["values"] for line in pick(drawing, varied="K")] == [4, 5, 7]


def test_figures_6_to_8_have_four_panels_per_depth(making_figures: SimpleNamespace, tmp_path: Path) -> None:
    drawing = one(densenet(making_figures.densenet(tmp_path)))
    assert drawing.name == "fig6-8-made-up-data-small-sound"
    assert "ended early" not in drawing.caption
    assert len({line["panel"] for line in drawing.lines}) == 8
    line = pick(drawing, panel="depth 100, test error", row="DenseNet-100 scb", epoch=20)[0]
    assert line["runs"] == 2
    assert line["low"] < line["mean"] < line["high"]


def test_figure_9_is_one_per_depth(making_figures: SimpleNamespace, tmp_path: Path) -> None:
    material = making_figures.densenet(tmp_path)
    draws = np.random.default_rng(0)
    look = {"percents": [50, 100], "epochs": [10, 20], "labels": draws.integers(0, 100, 30)}
    look |= {"plane": draws.normal(size=(2, 30, 2)), "predicted": draws.integers(0, 100, (2, 30))}
    look |= {f"score_{key}": [0.1, 0.2] for key in ("silhouette_true", "silhouette_predicted", "neighbours")}
    for row in next(material.blocks("densenet")).rows:
        np.savez(material.looks / f"{row.cells[0].runs[0]}.npz", **look)
    made = planes_of_densenet(material)
    rate = compose_run([]).optimizer.lr
    names = [f"fig9-made-up-data-small-sound-depth-{depth}-{rate:g}".replace(".", "-") for depth in (40, 100)]
    assert [drawing.name for drawing in made] == [n + end for n in names for end in ("", "-moments")]
    assert {line["row"] for line in one(made).lines} == {
        f"DenseNet-40 {norm}" for norm in ("bn", "mn", "scb_base", "scb", "ucb")
    }


def test_figure_12_shows_logits_as_published_and_losses(
    making_figures: SimpleNamespace, tmp_path: Path
) -> None:
    made = gradients(making_figures.adaptation(tmp_path))
    names = [one(made, number).name for number in (0, 1)]
    assert names == ["fig12-logits-made-up-data-small-sound", "fig12-loss-made-up-data-small-sound"]
    exploded = pick(made[0], panel="target, largest tensor", row="AdaMatch none")
    assert [line["epoch"] for line in exploded] == list(range(1, 16))
    assert exploded[-1]["mean"] == pytest.approx(150 * math.exp(1.5 * 15))
    rows = {line["row"] for line in made[0].lines}
    assert rows == {f"AdaMatch {norm}" for norm in ("none", "scb_base", "scb", "ucb")}


def test_figure_13_has_both_losses_of_three_rows(making_figures: SimpleNamespace, tmp_path: Path) -> None:
    drawing = one(vit_losses(making_figures.vit(tmp_path)))
    assert {line["panel"] for line in drawing.lines} == {"training loss", "validation loss"}
    assert len({line["row"] for line in drawing.lines}) == 3
    assert b"ln 5: knowing the superclass" in draw(drawing, "svg")
    assert b"ln 100: guessing the class" in draw(drawing, "svg")


def test_figure_14_says_how_much_of_a_component_is_the_superclass(
    making_figures: SimpleNamespace, tmp_path: Path
) -> None:
    made = principal_components(making_figures.vit(tmp_path))
    assert len(made) == 1  # only one row keeps components
    assert made[0].name == "fig14-vit-scb-made-up-data-small-sound"
    shares = [line["between_groups"] for line in one(made).lines]
    assert len(shares) == 5
    assert all(0.5 < share < 1 for share in shares)  # variance 4 between groups, 1 within
    assert "coloured by the superclass, which the network was told" in made[0].caption


def test_figure_10_keeps_distances_and_conditions_apart(
    making_figures: SimpleNamespace, tmp_path: Path
) -> None:
    drawing = one(distances(making_figures.gan(tmp_path, fid=False)))
    assert {line["metric"] for line in drawing.lines} == {"frechet_mobilenet_v2", "frechet_pixels"}
    assert {line["condition"] for line in drawing.lines} == {"evaluation mode", "batch", "floor"}
    assert "published" not in drawing.caption
    assert drawing.name == "fig10-made-up-data-small-sound"
    assert "of 10,000 images against 1,000 training images" in drawing.caption


def test_figure_10_shows_the_published_fid_at_the_full_budget_only(
    making_figures: SimpleNamespace, tmp_path: Path
) -> None:
    full = one(distances(making_figures.gan(tmp_path / "full", budget="full")))
    assert "published FID" in full.caption
    assert "published FID" not in one(distances(making_figures.gan(tmp_path / "small"))).caption


def test_figure_11_shows_the_last_samples_of_evaluation_mode(
    making_figures: SimpleNamespace, tmp_path: Path
) -> None:
    drawing = one(samples(making_figures.gan(tmp_path)))
    assert drawing.name == "fig11-made-up-data-small-sound"
    assert [line["file"] for line in drawing.lines] == ["last_epoch20_samples.png"] * 3


def test_moments_of_known_distributions() -> None:
    draw_ = np.random.default_rng(0)
    normal, exponential = draw_.normal(size=200_000), draw_.exponential(size=400_000)
    assert skewness(normal) == pytest.approx(0, abs=0.03)
    assert kurtosis(normal) == pytest.approx(0, abs=0.06)
    assert skewness(exponential) == pytest.approx(2, rel=0.03)
    assert kurtosis(exponential) == pytest.approx(6, rel=0.1)


def test_controls_alone_make_no_figure_3(making: SimpleNamespace, tmp_path: Path) -> None:
    making.write(tmp_path, making.table({"No-norm-1": [60.0, 61.0]}))
    assert (
        errors(Material.of(Evidence([Store(tmp_path)], tmp_path)))
        == "Table V has no runs of the paper's rows"
    )
