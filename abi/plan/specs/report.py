"""What pages, tables and cards depend on besides result files."""

from abi.base.typed import Sha256, Typed
from abi.plan.specs.judge import Criteria
from abi.plan.specs.models import Hub


class TabulateTransfers(Typed):
    """What the table of transfers depends on."""

    scale: str


class WriteReport(Typed):
    """What the report depends on besides result files and documents."""

    scale: str
    description: str
    meaningless: bool
    counted: list[str]
    criteria: Criteria
    pending: dict[str, str]
    """claim that this scale cannot run -> its title"""
    benchmarks: str
    """folder"""
    record_sha256: Sha256


class WriteCards(Typed):
    """What model cards depend on."""

    scale: str
    results: str
    """folder"""
    hubs: dict[str, Hub]
    """backbone -> its name on the hub, where it comes from there"""
