"""Job: the instrument's own test, the verdict rule on simulated studies whose truth is known (no torch)."""

from collections.abc import Mapping

from abi import instrument, instrument_page
from abi.provenance import Job, write_json, write_text
from abi.rules import Criteria


def run(job: Job, outputs: Mapping[str, str]) -> None:
    """Write `record` (JSON) and `markdown`."""
    found = instrument.run(Criteria.from_mapping(job.spec["protocol"]["criteria"]), seed=job.spec["seed"])
    write_text(outputs["markdown"], instrument_page.render(found))
    write_json(outputs["record"], "instrument", {"figures": found, "provenance": job.provenance()})
