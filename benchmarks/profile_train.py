"""Where the time of a training step goes: ``make profile-train [DEVICE=cuda] [ARGS='--networks vit']``.

Trains each network for some steps under torch's profiler, on random images, in the engine's own way. Leaves a
trace per network in ``traces/`` (for ui.perfetto.dev or chrome://tracing) and the top operations of all in
results/bench/profile.csv: ``ms`` is the median over steps of an operation's own time, without what it calls.
"""

import argparse
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

from measuring import name_of, start_with, write_rows
from train_parts import NETWORKS, Settings, batches_of, endless, environment, task_of

ROOT = Path(__file__).resolve().parent.parent
TOP = 12
WARM = 3


def profiled(
    network: str, device: str, threads: int, steps: int, batch: int | None, folder: Path
) -> list[dict[str, Any]]:
    """Train under the profiler; the top operations of a step."""
    import torch
    from torch.profiler import ProfilerActivity, profile, record_function

    settings = Settings(network=network, device=device, threads=threads, batch=batch or 0)
    torch.set_num_threads(threads)
    config = settings.config()
    task, batches = task_of(config, settings), batches_of(config, settings)
    task.to(settings.torch_device)
    optimizer = task.configure_optimizers()
    supply = endless(batches)

    def step() -> None:
        with record_function("STEP"):
            with record_function("batch"):
                images = next(supply)
            loss = task.training_step(images, 0)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    for _ in range(WARM):
        step()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device == "cuda" else [])]
    with profile(activities=activities) as found:
        for _ in range(steps):
            step()
    folder.mkdir(parents=True, exist_ok=True)
    found.export_chrome_trace(str(folder / f"{network}-{device}.json.gz"))
    return top(found, network, device, config, steps)


def top(found: Any, network: str, device: str, config: Any, steps: int) -> list[dict[str, Any]]:
    """The operations that take most of a step, with their share."""
    on_gpu = device == "cuda"
    by_step: dict[str, list[float]] = defaultdict(lambda: [0.0] * steps)
    calls: dict[str, int] = defaultdict(int)
    events = found.events()
    bounds = [
        event.time_range for event in events if event.name == "STEP" and "CPU" in str(event.device_type)
    ]
    for event in events:
        own = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        if event.name == "STEP" or (on_gpu and "CUDA" not in str(event.device_type)):
            continue
        number = next(
            (k for k, at in enumerate(bounds) if at.start <= event.time_range.start <= at.end), None
        )
        if number is not None:
            by_step[event.name][number] += own / 1000
            calls[event.name] += 1
    medians = {name: statistics.median(times) for name, times in by_step.items()}
    whole = sum(medians.values())
    chosen = sorted(medians, key=lambda name: -medians[name])[:TOP]
    return [
        {
            "device": name_of(device),
            "network": network,
            "batch": config.trainer.batch_size,
            "precision": config.trainer.precision,
            "operation": name[:80],
            "calls": round(calls[name] / steps, 1),
            "ms": f"{medians[name]:.2f}",
            "share": f"{medians[name] / whole:.3f}",
        }
        for name in chosen
    ]


def main() -> None:
    """Profile every network, write and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--traces", type=Path, default=ROOT / "traces")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "bench")
    given = parser.parse_args()
    start_with(environment(given.threads))
    rows = []
    for network in given.networks:
        rows += profiled(network, given.device, given.threads, given.steps, given.batch, given.traces)
    given.out.mkdir(parents=True, exist_ok=True)
    write_rows(rows, given.out / "profile.csv")
    for row in rows:
        print(
            f"{row['network']:12}{row['ms']:>9} ms{float(row['share']):7.1%}{row['calls']:>6}x",
            row["operation"],
        )


if __name__ == "__main__":
    main()
