"""Job: the instrument's own test, the verdict rule on simulated studies whose truth is known (no torch)."""

from collections.abc import Mapping, Sequence

from abi.base.files import write_text
from abi.base.job import Job
from abi.base.manifests.pages import InstrumentManifest
from abi.judge import simulation
from abi.plan.specs.judge import SimulateStudies as Spec
from abi.report.instrument_page import render


def run(job: Job[Spec], inputs: Sequence[str], outputs: Mapping[str, str]) -> None:
    """Write `record` (JSON) and `markdown`."""
    found = simulation.run(job.spec.protocol.criteria, seed=job.spec.seed)
    made = InstrumentManifest.model_validate({"figures": found, "provenance": job.provenance()})
    write_text(outputs["markdown"], render(made.figures))
    made.write(outputs["record"])
