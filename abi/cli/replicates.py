"""Command `abi replicates`: has a claim the same word in pairs rebuilt from other pretraining seeds (no torch)."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from abi.audit.record.page import ascii_only
from abi.base.typed import Verdict
from abi.cli.options import AsJson, Scale
from abi.judge.results import AnyResult, Result, read_result
from abi.plan import DEFAULT
from abi.plan.config import load
from abi.plan.workflow import Workflow
from abi.plan.yaml_files import replicates as scales_of
from abi.report.render import Table, figure, terminal


@dataclass(frozen=True)
class Figures:
    """What is compared of a result. Args: share, gap_closure: of the moved net; None where none is given."""

    verdict: Verdict
    share: float | None
    gap_closure: float | None


@dataclass(frozen=True)
class Replicated:
    """A claim, its own result, and replicate -> its result there."""

    claim: str
    own: Figures
    rebuilt: Mapping[str, Figures]

    @property
    def same(self) -> int:
        """In how many replicates the word is the same."""
        return sum(found.verdict == self.own.verdict for found in self.rebuilt.values())


def replicates(scale: Scale = DEFAULT, as_json: AsJson = False) -> int:
    """Print per claim its verdict and in how many replicates it is the same, with the spread of share and gap closure.

    The verdict of a claim stays that of its own pair. A replicate is built as any scale is:
    `make <claim> SCALE=tiny_r1`.
    """
    names = scales_of(scale)
    found = replicated(Workflow(load(scale)), [Workflow(load(name)) for name in names])
    if as_json:
        print(json.dumps([{**asdict(row), "same": row.same} for row in found], indent=1))
        return 0
    told = f"replicates of {scale}: {', '.join(names) or 'none in config/scales'}"
    print(ascii_only("\n".join(terminal(table(found))) if found else "no claim is built here and in a replicate"))
    print(f"\n{told}")
    return 0


def replicated(own: Workflow, others: Sequence[Workflow]) -> list[Replicated]:
    """Return the claims that are built at a scale and in one of its replicates or more."""
    rows = []
    for claim_id in own.config.every():
        able = [other for other in others if claim_id in other.config.every()]
        rebuilt = {other.config.name: other.result_file(claim_id) for other in able}
        there = {name: figures_of(read_result(path)) for name, path in rebuilt.items() if Path(path).exists()}
        if there and Path(own.result_file(claim_id)).exists():
            rows.append(Replicated(claim_id, figures_of(read_result(own.result_file(claim_id))), there))
    return rows


def figures_of(result: AnyResult) -> Figures:
    """Return what is compared of a result."""
    fit = result.deciding if isinstance(result, Result) else None
    share = fit.share.estimate if fit is not None and fit.share is not None else None
    closure = fit.gap_closure.estimate if fit is not None and fit.gap_closure is not None else None
    return Figures(result.verdict, share, closure)


def table(rows: Sequence[Replicated]) -> Table:
    """Return a row per claim: word, how often it is the same, share and gap closure here and where it was rebuilt."""
    cells = [
        [row.claim, row.own.verdict, f"{row.same} of {len(row.rebuilt)}", *(_spread(row, name) for name in SPREAD)]
        for row in rows
    ]
    return Table(["claim", "verdict", "the same in", "share; rebuilt", "gap closure; rebuilt"], cells)


SPREAD = ("share", "gap_closure")


def _spread(row: Replicated, name: str) -> str:
    """Return a figure of the own pair, then the least and greatest of the rebuilt ones."""
    found = [value for made in row.rebuilt.values() if (value := getattr(made, name)) is not None]
    own = getattr(row.own, name)
    if own is None or not found:
        return "-"
    return f"{figure(own)}; {figure(min(found))} to {figure(max(found))}"
