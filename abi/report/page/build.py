"""The report as blocks, from facts: the one order of its sections."""

from abi.report.page.blocks import Page, Para, Section
from abi.report.page.claims import sections
from abi.report.page.facts import Facts
from abi.report.page.overview import ladder, limits, reading, summary
from abi.report.page.run import deviation_section, effort_section, graph_section, record_section, transfer_section


def page(facts: Facts) -> Page:
    """Return the page of a run."""
    parts: list[Section | None] = [
        summary(facts),
        ladder(facts),
        limits(facts),
        reading(facts),
        sections(facts),
        transfer_section(facts),
        graph_section(facts),
        effort_section(facts),
        deviation_section(facts),
        record_section(facts),
        _citing(facts),
    ]
    about = (
        f"Scale `{facts.spec.scale}`, {len(facts.results)} result files, protocol {facts.results[0].protocol}. "
        "Generated from result files; no word and no figure of it is written by hand."
    )
    return Page(
        "Claims about autonomous basis injection, tested again", about, [part for part in parts if part is not None]
    )


def _citing(facts: Facts) -> Section:
    told = (
        f"{facts.citation.title}, version {facts.citation.version}. Each claim above holds an entry of its own at its "
        "end, which names the claim, the scale, the protocol and the digest of the code: a verdict without these four "
        "is no verdict of this repository."
    )
    return Section("citing", "Citing", [Para(told)])
