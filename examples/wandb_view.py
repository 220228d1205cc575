"""A saved view at Weights & Biases: ``python examples/wandb_view.py ENTITY PROJECT [TABLE/BUDGET]``.

Needs ``pip install 'cbnorm[dashboard]'``, a key, and runs that were sent (docs/wandb.md). Only the public API
of wandb-workspaces is used; it makes a new view and leaves others as they are.
"""

import sys

import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws


def curves(metrics: dict[str, str], by: str, *, log: bool = False) -> list[wr.LinePlot]:
    """A line plot per metric over epochs: mean over the runs of a group, with their range."""
    return [
        wr.LinePlot(
            title=title,
            x="epoch",
            y=[metric],
            log_y=log,
            groupby=f"config.{by}",
            groupby_aggfunc="mean",
            groupby_rangefunc="minmax",
        )
        for metric, title in metrics.items()
    ]


def view(entity: str, project: str, group: str = "table5/full") -> ws.Workspace:
    """The view, not saved yet.

    Args:
        entity: Team or user.
        project: Where the runs are.
        group: Which of them: experiment and budget.
    """
    accuracy = {"val/accuracy": "validation accuracy", "test/best_accuracy": "test accuracy, best weights"}
    gradients = {
        f"gradients.{of}.{domain}.{key}": f"{key} over tensors, {of}, {domain}"
        for of in ("logits", "loss")
        for domain in ("source", "target")
        for key in ("max", "mean")
    }
    sections = [
        ws.Section(
            name="Rows", panels=curves(accuracy | {"train/loss": "training loss"}, "row"), is_open=True
        ),
        ws.Section(name="Norms", panels=curves(accuracy, "norm.name"), is_open=True),
        ws.Section(
            name="At the end",
            panels=[
                wr.BarPlot(title=title, metrics=[metric], groupby="config.row", groupby_aggfunc="mean")
                for metric, title in (
                    ("test_accuracy", "test accuracy, best weights"),
                    ("test_accuracy_last", "test accuracy, last weights"),
                    ("seconds_training", "seconds of training"),
                )
            ],
            is_open=True,
        ),
        ws.Section(name="Variance of gradients (Table VI)", panels=curves(gradients, "row", log=True)),
    ]
    runs = ws.RunsetSettings(filters=[ws.Metric("Group") == group], groupby=[ws.Config("row")])
    return ws.Workspace(entity=entity, project=project, name=group, sections=sections, runset_settings=runs)


if __name__ == "__main__":
    if len(sys.argv) not in {3, 4}:
        sys.exit("python examples/wandb_view.py ENTITY PROJECT [TABLE/BUDGET]")
    made = view(*sys.argv[1:])
    made.save()
    print(made.url)
