"""What the ledger says of the paper's numbers is recomputed from them, never believed."""

from collections import Counter, defaultdict
from pathlib import Path
from statistics import fmean

import pytest

from cbnorm.config.choices import experiments
from cbnorm.errors import CbnormError
from cbnorm.norms import create_norm
from cbnorm.report.costs import cost_verdict, parameters, read_ratios
from cbnorm.report.ledger import (
    Claim,
    PaperCell,
    contrast,
    ledgers,
    names,
    read_cells,
    read_claims,
    read_paper,
)
from cbnorm.runs.plan import find_experiment, read_controls, read_rows

CLAIMS = {name: read_claims(name) for name in ledgers()}
EVERY = [(name, claim) for name, claims in CLAIMS.items() for claim in claims]
CELLS = [(name, cell) for name in ledgers() for cell in read_paper(name)]
DATA_SETS = ("CIFAR-10", "CIFAR-100", "Tiny ImageNet")
CLUSTERED = ("SCB-Norm-base", "SCB-Norm", "UCB-Norm")
#: Test images of MNIST by digit.
MNIST = (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009)
#: Rounding to two decimals, of both sides.
ROUNDING = 0.0101


def impossible(cells: dict[str, PaperCell]) -> set[str]:
    """Metrics of one row that can't be what they are called, given those beside them."""
    found = set()
    values = {metric: cell.value for metric, cell in cells.items()}
    if not {"accuracy", "precision", "recall", "f1"} <= values.keys():
        return found
    # F1 is a harmonic mean per class, and any average of harmonic means is at most that of arithmetic ones.
    if values["f1"] > (values["precision"] + values["recall"]) / 2 + ROUNDING:
        found.add("f1")
    if cells["accuracy"].dataset == "MNIST" and not accuracy_fits(values["accuracy"], values["recall"]):
        found.add("accuracy")
    return found


def accuracy_fits(accuracy: float, recall: float) -> bool:
    """Whether a recall may stand beside an accuracy on MNIST: weighted, it is equal; macro, it bounds it."""
    missing, loss = 10 * (100 - recall), 0.0
    for share in sorted(count / sum(MNIST) for count in MNIST):  # misses where they cost least
        taken = min(missing, 100.0)
        loss, missing = loss + taken * share, missing - taken
    return abs(accuracy - recall) <= 0.5 or accuracy <= 100 - loss + ROUNDING


def rows_of_metrics() -> dict[tuple[str, ...], dict[str, PaperCell]]:
    found: dict[tuple[str, ...], dict[str, PaperCell]] = defaultdict(dict)
    for name, cell in CELLS:
        found[name, cell.dataset, cell.row, cell.moment][cell.metric] = cell
    return found


def test_notes_stand_exactly_where_a_cell_is_impossible() -> None:
    noted = {
        (*row, metric) for row, cells in rows_of_metrics().items() for metric in cells if cells[metric].note
    }
    recomputed = {(*row, metric) for row, cells in rows_of_metrics().items() for metric in impossible(cells)}
    assert noted == recomputed
    assert Counter(name for name, *_ in noted) == {"table6": 3, "table7": 3, "table8": 6}


def test_one_row_is_impossible_whatever_its_precision() -> None:
    cells = rows_of_metrics()["table8", "Oxford-IIIT Pet", "OxfordCNN+SCB-Norm", "113"]
    recall = cells["accuracy"].value / 100  # of balanced classes
    assert cells["f1"].value > 100 * 2 * recall / (1 + recall) + 5


def gain(dataset: str, row: str, base: str = "BN") -> float:
    cells = read_cells("table5")
    return cells[dataset, row, 100, "accuracy"] - cells[dataset, f"{base}-{row[-1]}", 100, "accuracy"]


@pytest.mark.parametrize(
    ("dataset", "mean", "best"),
    [
        ("CIFAR-10", 0.99, (1.07, 1.84)),
        ("CIFAR-100", 1.73, (1.28, 4.00)),
        ("Tiny ImageNet", 3.05, (3.12, 4.20)),
    ],
)
def test_gains_of_the_text_are_not_those_of_the_table(
    dataset: str, mean: float, best: tuple[float, float]
) -> None:
    gains = {(n, rate): gain(dataset, f"{n}-{rate}") for n in CLUSTERED for rate in (1, 2)}
    assert fmean(gains.values()) == pytest.approx(mean, abs=0.005)
    for rate, expected in zip((1, 2), best, strict=True):
        assert max(gains[n, rate] for n in CLUSTERED) == pytest.approx(expected, abs=0.005)
    key = {"CIFAR-10": "c10", "CIFAR-100": "c100", "Tiny ImageNet": "tiny"}[dataset]
    gaps = {claim.id: claim for claim in CLAIMS["table5"]}
    assert gaps[f"{key}-mean"].gap == pytest.approx(mean)
    assert [gaps[f"{key}-best-{rate}"].gap for rate in (1, 2)] == pytest.approx(list(best))
    # What the text says is more than what its table gives, even rounded.
    assert mean < gaps[f"{key}-amount"].at_least


def test_published_gaps_follow_from_the_cells() -> None:
    checked = 0
    for name, claim in EVERY:
        values = {
            cell.row: cell.value
            for cell in read_paper(name)
            if (cell.dataset, cell.moment, cell.metric) == (claim.dataset, claim.moment, claim.metric)
        }
        if claim.kind == "difference" and claim.weights and claim.weights.keys() <= values.keys():
            if claim.at_least and name != "table6":  # the text's own figure
                continue
            expected = sum(weight * values[row] for row, weight in claim.weights.items())
            assert claim.gap == pytest.approx(expected, abs=0.0051), claim.id
            checked += 1
    assert checked >= 60


def test_gains_in_domain_adaptation_are_those_of_the_text() -> None:
    gaps = {claim.id: claim.gap for claim in CLAIMS["table6"]}
    assert [gaps[f"da-{n}-amount"] for n in ("base", "scb", "ucb")] == [18.02, 29.62, 8.32]


def test_some_bold_marks_are_not_of_the_best() -> None:
    groups: dict[tuple[str, ...], list[PaperCell]] = defaultdict(list)
    for name, cell in CELLS:
        rate = cell.row[-1] if name == "table5" else ""
        groups[name, cell.dataset, rate, cell.moment, cell.metric].append(cell)
    marked = {key: cells for key, cells in groups.items() if any(cell.bold for cell in cells)}
    wrong = {
        (cell.dataset, cell.row, cell.moment, cell.metric)
        for cells in marked.values()
        for cell in cells
        if cell.bold and cell.value < max(other.value for other in cells)
    }
    assert wrong == {
        ("CIFAR-10", "SCB-Norm-1", "75", "accuracy"),
        ("CIFAR-10", "SCB-Norm-1", "100", "accuracy"),
        ("CIFAR-10", "SCB-Norm-2", "75", "accuracy"),
        ("CIFAR-100", "ViT+SCB-Norm", "end", "precision"),
    }


def test_every_number_of_the_tables_is_there() -> None:
    counts = Counter(name for name, _ in CELLS)
    assert counts == {
        "table5": 120, "table6": 32, "table7": 12, "table8": 24, "densenet": 10, "uan": 30, "dcgan": 60,
    }  # fmt: skip
    assert len({(name, c.dataset, c.row, c.moment, c.metric) for name, c in CELLS}) == len(CELLS)


def test_claims_are_known_by_one_name_and_name_rows_that_exist() -> None:
    counts = Counter(claim.id for _, claim in EVERY)
    assert max(counts.values()) == 1
    for name in set(CLAIMS) & set(experiments()):
        known = {row.label for row in (*read_rows(name), *read_controls(name))}
        ids = {claim.id for claim in CLAIMS[name]}
        for claim in CLAIMS[name]:
            if claim.kind in {"all", "any"}:
                assert set(names(claim.a)) <= ids
            elif not claim.testable:
                assert set(claim.weights) <= known, claim.id
                moment = claim.moment.removeprefix("reaching ")
                assert moment.isdecimal() or moment in {"end", *known}, claim.id


def test_table_v_is_one_family_of_every_clustered_row_against_both_others() -> None:
    family = [claim for claim in CLAIMS["table5"] if claim.family == "table5"]
    expected = {
        (dataset, f"{n}-{rate}", f"{base}-{rate}")
        for dataset in DATA_SETS
        for n in CLUSTERED
        for base in ("BN", "MN")
        for rate in (1, 2)
    }
    assert {(claim.dataset, claim.a, claim.b) for claim in family} == expected
    assert len(family) == len(expected) == 36


def test_every_claim_is_corrected_with_others_or_says_why_it_is_not_tested() -> None:
    for _, claim in EVERY:
        assert claim.what
        assert claim.where
        in_family = claim.kind in {"difference", "equivalence", "speed", "all", "any"} and not claim.testable
        assert bool(claim.family) >= in_family, claim.id
        assert claim.seeds >= 3


def test_a_contrast_weighs_both_sides_alike() -> None:
    for _, claim in EVERY:
        if claim.kind in {"difference", "equivalence", "speed"} and not claim.testable:
            assert sum(claim.weights.values()) == pytest.approx(0)
    assert contrast("a - b", "c - d") == {"a": 1, "b": -1, "c": -1, "d": 1}


def test_the_base_form_has_more_parameters_than_the_one_it_is_said_to_be_smaller_than() -> None:
    for layer in ("scb", "scb_base"):
        built = create_norm(layer, 128, num_clusters=3)
        assert sum(p.numel() for p in built.parameters()) == parameters(layer, 128, 3)


def test_experiments_without_rows_are_told_apart_from_unknown_ones() -> None:
    with pytest.raises(CbnormError, match="cost has no rows to train"):
        find_experiment("cost")
    with pytest.raises(CbnormError, match=r"unknown experiment 'table55'.*did you mean 'table5'"):
        find_experiment("table55")


def test_a_claim_compares_in_its_own_direction() -> None:
    lower = next(claim for _, claim in EVERY if claim.id == "dense40-bn")
    assert isinstance(lower, Claim)
    variants = ("SCB-Norm-base", "SCB-Norm", "UCB-Norm")
    assert lower.weights == {f"DenseNet-40 {name}": -1 / 3 for name in variants} | {"DenseNet-40 BN": 1}


@pytest.mark.parametrize(
    ("second", "verdict"),
    [(None, "supported"), ((0.5, 0.6, 0.7), "supported"), ((0.9, 1.0, 1.1), "inconclusive")],
)
def test_a_cost_is_decided_where_no_measurement_contradicts(
    second: tuple[float, ...] | None, verdict: str, tmp_path: Path
) -> None:
    claim = next(claim for claim in read_claims("cost") if claim.id == "cost-scb")
    norms, table1 = tmp_path / "norms.csv", tmp_path / "table1.csv"
    norms.write_text(
        "shape,layout,variant,K,layer,ratio_q25,ratio,ratio_q75\n"
        "256x128x8x8,channels_last,kernel,3,scb,0.7,0.8,0.9\n"
        "256x128x8x8,channels_last,kernel,1,scb,1.7,1.8,1.9\n"
    )
    if second:
        head = "varied,K,C,n,layer,ms_q25,ms,ms_q75\n"
        table1.write_text(
            head
            + "K,3,128,16384,bn,1.0,1.0,1.0\n"
            + "K,3,128,16384,scb,{},{},{}\n".format(*second)
            + "n,3,128,1024,bn,1.0,1.0,1.0\nn,3,128,1024,scb,2,2,2\n"
        )
    told = cost_verdict(claim, norms)
    assert told["verdict"] == verdict
    assert ("2 measurements" if second else "1 measurement ") in told["remark"]


@pytest.mark.parametrize(
    ("other", "verdict"), [("0.6,0.7,0.8", "supported"), ("1.1,1.2,1.3", "inconclusive")]
)
def test_a_cost_is_decided_where_the_machines_agree(other: str, verdict: str, tmp_path: Path) -> None:
    claim = next(claim for claim in read_claims("cost") if claim.id == "cost-scb")
    norms, table1 = tmp_path / "norms.csv", tmp_path / "table1.csv"
    place = "256x128x8x8,channels_last,kernel,3,scb"
    norms.write_text(
        "device,shape,layout,variant,K,layer,ratio_q25,ratio,ratio_q75\n"
        f"new machine,{place},0.7,0.8,0.9\nold machine,{place},{other}\n"
    )
    table1.write_text(
        "device,varied,K,C,n,layer,ms_q25,ms,ms_q75\n"
        "old machine,K,3,128,16384,bn,1,1,1\nold machine,K,3,128,16384,scb,0.5,0.6,0.7\n"
    )
    told = cost_verdict(claim, norms)
    assert told["verdict"] == verdict
    assert told["remark"].endswith("3 measurements in 3 benchmarks on new machine and old machine")
    # Figures show one machine.
    assert read_ratios(norms, "256x128x8x8") == {"bn": (1.0, 1.0, 1.0), "scb": (0.7, 0.8, 0.9)}


def test_layers_that_were_never_timed_together_have_no_verdict(tmp_path: Path) -> None:
    claim = next(claim for claim in read_claims("cost") if claim.id == "cost-ucb-mn-refitted")
    norms, table1 = tmp_path / "norms.csv", tmp_path / "table1.csv"
    norms.write_text(
        "shape,layout,variant,K,layer,ratio_q25,ratio,ratio_q75\n"
        "256x128x8x8,channels_last,kernel,3,ucb per_channel,7,8,9\n"
    )
    told = cost_verdict(claim, norms)
    lacking = "no timings of ucb per_channel and mn, refitted together: make bench-table1"
    assert (told["verdict"], told["remark"]) == ("not run", lacking)
    table1.write_text(
        "varied,K,C,n,layer,ms_q25,ms,ms_q75\n"
        "K,3,128,16384,ucb per_channel,7,8,9\n"
        'K,3,128,16384,"mn, refitted",50,60,70\n'
    )
    told = cost_verdict(claim, norms)
    assert told["verdict"] == "supported"
    # Only that measurement has both.
    assert "0.13 times" in told["remark"]
    assert "1 measurement " in told["remark"]


def test_damaged_timings_are_told_and_only_those_under_one_set_of_conditions_count(tmp_path: Path) -> None:
    claim = next(claim for claim in read_claims("cost") if claim.id == "cost-scb")
    norms = tmp_path / "norms.csv"
    head = "dtype,threads,shape,layout,variant,K,layer,ratio_q25,ratio,ratio_q75\n"
    place = "256x128x8x8,channels_last,kernel,3,scb"
    norms.write_text(f"{head}float32,2,{place},0.7,0.8,0.9\nbfloat16,2,{place},1.7,1.8,1.9\n")
    told = cost_verdict(claim, norms)
    assert told["verdict"] == "supported"
    assert "channels_last, float32, 2 threads" in told["remark"]
    norms.write_text(f"{head}float32,2,{place},0.7,,0.9\n")
    told = cost_verdict(claim, norms)
    assert told == {"verdict": "not run", "remark": "no timings that can be read: make bench-norms"}
