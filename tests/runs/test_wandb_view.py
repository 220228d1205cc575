"""The saved view of docs/wandb.md names what runs tell W&B; whether W&B takes it, only W&B can say."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

from cbnorm.runs.wandb_content import epoch_row, reading_rows, summary

EXAMPLE = Path(__file__).parents[2] / "examples" / "wandb_view.py"


# wandb-workspaces still uses pydantic's first interface.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_every_panel_shows_a_metric_that_runs_tell() -> None:
    view = SimpleNamespace(**runpy.run_path(str(EXAMPLE))).view("team", "project", "table6/small")
    assert (view.entity, view.project, view.name) == ("team", "project", "table6/small")
    assert "table6/small" in str(view.runset_settings.filters)
    reading = {"percent": 100, "epoch": 1, "best": {"accuracy": 50.0}, "last": {"accuracy": 40.0}}
    record = {
        "metrics": {"moments": [reading]},
        "seconds": {"training": 1.0},
        "status": "done",
        "identity": {},
    }
    gradients = {
        f"gradients.{of}.{domain}.{key}": 1.0
        for of in ("logits", "loss")
        for domain in ("source", "target")
        for key in ("max", "mean")
    }
    told = {
        *epoch_row({"epoch": 1, "train_loss": 1.0, "val_accuracy": 50.0} | gradients),
        *reading_rows(record)[0],
        *summary(record),
    }
    panels = [panel for section in view.sections for panel in section.panels]
    shown = [metric for panel in panels for metric in getattr(panel, "y", None) or panel.metrics]
    assert len(shown) == 16
    assert {str(getattr(metric, "name", metric)) for metric in shown} <= told
