"""Job: the instrument's own test, the verdict rule on simulated studies whose truth is known (no torch)."""

from collections.abc import Mapping

from abi.base.files import write_json, write_text
from abi.base.job import Job
from abi.judge import simulation
from abi.judge.contrasts import Criteria
from abi.report.simulation import render


def run(job: Job, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> None:
    """Write `record` (JSON) and `markdown`."""
    found = simulation.run(Criteria.from_mapping(job.spec["protocol"]["criteria"]), seed=job.spec["seed"])
    write_text(outputs["markdown"], render(found))
    write_json(outputs["record"], "instrument", {"figures": found, "provenance": job.provenance()})
