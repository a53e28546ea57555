"""What tables, the report and the model cards depend on besides result files."""

from abi.base.catalogue import KINDS
from abi.plan.jobs import Plain
from abi.plan.specs.report import TabulateTransfers, WriteCards, WriteReport
from abi.plan.workflow import Workflow


def report_spec(study: Workflow) -> Plain:
    """Return what the report depends on besides result files and documents."""
    return WriteReport(
        scale=study.config.name,
        description=study.scale.description,
        meaningless=study.scale.meaningless,
        counted=study.published(),
        criteria=study.config.protocol.criteria,
        pending={name: claim.title for name, claim in study.config.pending.items()},
        benchmarks=study.benchmarks,
        published_sha256=study.published_sha256,
    ).plain()


def table_spec(study: Workflow) -> Plain:
    """Return what the table of transfers depends on."""
    return TabulateTransfers(scale=study.config.name).plain()


def card_spec(study: Workflow) -> Plain:
    """Return what model cards depend on: where modules lie, and which backbones come from the hub."""
    hubs = {name: backbone.hub for name, backbone in study.scale.backbones.items() if backbone.hub is not None}
    return WriteCards(scale=study.config.name, results=study.results, hubs=hubs).plain()


def carded(study: Workflow) -> list[str]:
    """Return the claims that leave modules behind, each with a card for all its regimes."""
    return [name for name, claim in study.config.claims.items() if KINDS[claim.kind].carded and claim.of is None]


def card_inputs(study: Workflow) -> list[str]:
    """Return the result files of every regime of the claims that have a card."""
    heads = set(carded(study))
    return study.result_files(name for name, claim in study.config.claims.items() if (claim.of or name) in heads)
