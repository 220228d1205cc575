"""The examples run, and the documents name what exists."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
CARDS = sorted((ROOT / "docs" / "norms").glob("*.md"))


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("norm", ["scb", "ucb"])
def test_a_converted_resnet_learns_its_batch(norm, capsys):
    losses = load(ROOT / "examples" / "convert_resnet.py").train(norm, steps=4)
    assert losses[-1] < 0.5 * losses[0]
    assert "bn1: " in capsys.readouterr().out


def test_the_one_dimensional_walk_through_shows_what_it_says(tmp_path):
    moments = load(ROOT / "examples" / "one_dimensional.py").walk_through(tmp_path / "picture.png")
    assert moments["BN"] == pytest.approx((0, 1), abs=0.05)
    for name in ("MN", "UCB"):
        assert moments[name] == pytest.approx((0, 2), abs=0.1)
    assert (tmp_path / "picture.png").stat().st_size > 20_000


def test_errata_name_tests_that_exist():
    text = (ROOT / "docs" / "errata.md").read_text()
    named = set(re.findall(r"`(test_\w+)`", text))
    written = "".join(path.read_text() for path in (ROOT / "tests" / "norms").glob("test_*.py"))
    assert len(named) >= 15
    assert {name for name in named if f"def {name}(" not in written} == set()


def test_every_erratum_names_a_test():
    body = (ROOT / "docs" / "errata.md").read_text().split("## Slips without consequence")[0]
    entries = re.findall(r"^\*\*(.+?)\*\*(.*?)(?=^\*\*|^## |\Z)", body, re.DOTALL | re.MULTILINE)
    untested = [title for title, text in entries if "`test_" not in text and "benchmark" not in text]
    assert len(entries) >= 15
    assert untested == []


@pytest.mark.parametrize("card", CARDS, ids=lambda path: path.stem)
def test_links_of_the_cards_lead_somewhere(card):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", card.read_text()):
        assert (card.parent / target).exists(), target


def test_cost_tables_are_filled_from_the_benchmark():
    fill_cards = load(ROOT / "benchmarks" / "fill_cards.py")
    row = {
        "layer": "scb", "K": "3", "shape": "8x4x2x2", "layout": "contiguous", "variant": "kernel",
        "ratio": "0.512", "bn_ms": "1.000", "peak_activations": "2.00", "threads": "2",
        "date": "2026-01-02", "device": "a machine",
    }  # fmt: skip
    text = "before\n<!-- cost: scb -->\nold\n<!-- end of cost -->\nafter"
    filled = fill_cards.fill(text, [row])
    assert "| scb | 8x4x2x2 | contiguous | 1.000 | 0.51 | – | 2.00 |" in filled
    assert "old" not in filled
    assert fill_cards.fill(filled, [row]) == filled


def test_what_other_machines_measured_stays_below(tmp_path):
    measuring = load(ROOT / "benchmarks" / "measuring.py")
    path = tmp_path / "norms.csv"
    assert measuring.of_other_machines(path, "mine") == []
    measuring.write_rows([{"device": "mine", "ms": 1}, {"device": "other", "ms": 2}], path)
    others = measuring.of_other_machines(path, "mine")
    measuring.write_rows([{"device": "mine", "ms": 3}, *others], path)
    assert path.read_text() == "device,ms\nmine,3\nother,2\n"


def test_the_benchmark_measures_memory_in_activations(monkeypatch):
    path = ROOT / "benchmarks" / "bench_norms.py"
    monkeypatch.syspath_prepend(str(path.parent))
    spec = importlib.util.spec_from_file_location("bench_norms", path)
    bench = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "bench_norms", bench)  # dataclasses look their module up
    spec.loader.exec_module(bench)
    problem = bench.Problem((32, 64, 16, 16), "contiguous", "cpu")
    # The gradient is copied into x.grad; the output of ReLU comes on top.
    assert problem.memory(torch.nn.Identity(), 3) == pytest.approx(1, abs=0.1)
    assert problem.memory(torch.nn.ReLU(), 3) == pytest.approx(2, abs=0.1)
