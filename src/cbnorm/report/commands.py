"""`cbnorm collect`, `explain` and `publish`: what the runs amount to. Nothing here trains."""

from collections.abc import Sequence
from pathlib import Path

from cbnorm.config.overrides import parse
from cbnorm.errors import CbnormError
from cbnorm.report.blocks import Collection
from cbnorm.report.claim_tables import write_claims
from cbnorm.report.collect import collect
from cbnorm.report.evidence import Evidence
from cbnorm.report.explain import explain_cell
from cbnorm.report.explain_claim import explain_claim
from cbnorm.report.publish import publish, rebuild
from cbnorm.report.summary import collect_all
from cbnorm.report.tables import write_tables
from cbnorm.report.verdicts import judge, speak
from cbnorm.runs.plan import find_experiment
from cbnorm.runs.store import Store
from cbnorm.words import flag, path_of, split


def collect_command(words: Sequence[str]) -> int:
    """Carry out ``cbnorm collect WORDS``."""
    plain, own = split(words, "collect", ["store", "out", "dataset", "protocol", "budget"])
    if len(plain) != 1:
        raise CbnormError("which table? write cbnorm collect table5, or cbnorm collect all")
    everything = plain[0] == "all"
    experiment = plain[0] if everything else find_experiment(plain[0])
    store = own.pop("store", None)
    out = path_of(own, "out", Store(("runs" if store is None else store).partition(",")[0]).root / "tables")
    parse([f"{key}={value}" for key, value in own.items()])
    evidence = Evidence.of(store)
    if everything:
        print(collect_all(evidence, own, out))
        return 0
    found = collect(experiment, evidence.records, filters=own, damaged=evidence.damaged)
    write(found, evidence, out)
    return 0


def write(found: Collection, evidence: Evidence, out: Path) -> None:
    """Write a table and its verdicts, and print the pages for people.

    Args:
        found: The table. One with overrides on top of the presets reproduces nothing and has no verdicts.
        evidence: The records, and what lies beside them.
        out: The folder.
    """
    customised = any(block.customised for block in found.blocks)
    verdicts = [] if customised else judge(found, evidence)
    tables, claims = write_tables(found, out), write_claims(found.experiment, verdicts, out)
    for path in [*tables, *(claims if speak(verdicts) else [])]:
        if path.suffix == ".md":
            print(path.read_text(encoding="utf8"))
    print("Written: " + ", ".join(str(path) for path in [*tables, *claims]))


def explain_command(words: Sequence[str]) -> int:
    """Carry out ``cbnorm explain WORDS``."""
    plain, own = split(words, "explain", ["store", "budget", "protocol"])
    if len(plain) not in {1, 3, 4}:
        raise CbnormError(
            "write cbnorm explain table5 CIFAR-10 UCB-Norm-1 100, or a claim's id, as in explain c10-mean"
        )
    evidence = Evidence.of(own.pop("store", None))
    parse([f"{key}={value}" for key, value in own.items()])
    print(explain_claim(plain[0], evidence, own) if len(plain) == 1 else explain_cell(plain, evidence, own))
    return 0


def publish_command(words: Sequence[str]) -> int:
    """Carry out ``cbnorm publish WORDS``."""
    plain, own = split(words, "publish", ["store", "to"], ["force"])
    force = flag(own, "force")
    names = [find_experiment(name) for name in plain]
    to = path_of(own, "to", "results")
    found = publish(Store(own.get("store", "runs")), to, names, force=force)
    for run, reason in found.refused.items():
        print(f"{run}  refused: {reason}")
    print(rebuild(to))
    print(
        f"{to}: {len(found.copied)} copied, {len(found.present)} there already, {len(found.refused)} refused"
    )
    return 1 if found.refused else 0
