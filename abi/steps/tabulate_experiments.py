"""Job: the page of all experiments: what the original says, the verdict, the figure that decides it (no torch)."""

from collections.abc import Mapping, Sequence

from abi.base.files import write_text
from abi.base.job import Job
from abi.judge.results import read_result
from abi.plan.specs.experiments import TabulateExperiments as Spec
from abi.report.experiments import page


def run(job: Job[Spec], inputs: Sequence[str], outputs: Mapping[str, str]) -> None:
    """Write `markdown`."""
    write_text(outputs["markdown"], page([read_result(path) for path in inputs]))
