"""Job: a model card per claim that leaves modules behind, with the verdicts of all its regimes (no torch)."""

from collections.abc import Sequence
from pathlib import Path

from abi.base.files import write_text
from abi.base.job import Job
from abi.judge.results import Result
from abi.plan.specs.report import WriteCards as Spec
from abi.report.cards import card
from abi.report.words import grouped


def run(job: Job[Spec], inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Write the cards, named after their claims, from the result files of all regimes."""
    results = {head.claim.id: [head, *others] for head, others in grouped([Result.read(path) for path in inputs])}
    for path in outputs:
        write_text(path, card(results[Path(path).stem], job.spec))
