"""A module moved to another backbone, in one of several regimes (protocol section 3)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from abi.base.catalogue import MOVED, REGIMES, frozen_net
from abi.base.errors import EvidenceError
from abi.base.manifests import ArmEntry, ModuleEntry
from abi.judge.contrasts import Measure
from abi.judge.curves import curves_of
from abi.judge.fits import Fit
from abi.judge.kind import OfFits
from abi.judge.protocol import BPB, TRANSFERS, Asked, transfer_plan
from abi.judge.results import ClaimFacts
from abi.judge.tables import fit_tables
from abi.judge.verdict import check_frozen, judge
from abi.plan.specs.judge import Criteria

if TYPE_CHECKING:
    import pandas as pd


def asked_in(regime: str, arms: Collection[str], criteria: Criteria) -> Asked:
    """Return what a transfer is asked in one regime; where there is no positive control, bits per byte decide.

    Raises: EvidenceError: an unknown regime.
    """
    if regime not in TRANSFERS:
        raise EvidenceError(f"regime {regime!r} is none of {', '.join(TRANSFERS)}")
    controlled = REGIMES[regime].has_control
    roles = MOVED if controlled or MOVED.native in arms else replace(MOVED, native=None)
    own = Measure(criteria.primary_metric, "domain") if controlled else BPB
    return Asked("transfer", regime, roles, transfer_plan(regime, criteria, roles), own)


def asked(claim: ClaimFacts, fit: str, arms: Collection[str], criteria: Criteria) -> Asked:
    """Return what one fit of a transfer is asked."""
    return asked_in(str(claim.regime), arms, criteria)


def unmoved(arms: Sequence[ArmEntry], regime: str, modules: Mapping[str, Sequence[ModuleEntry]]) -> bool:
    """Return whether every net that an arm holds frozen is bit-identical to the one it came from."""
    known = {role: {module.seed: module.domain_sha256 for module in of_role} for role, of_role in modules.items()}
    givers = [(arm, frozen_net(arm.arm, regime)) for arm in arms]
    return all(arm.domain_sha256 == known[giver][arm.seed] for arm, giver in givers if giver)


def judge_transfer(
    evidence: pd.DataFrame, *, regime: str, fit: str, criteria: Criteria, frozen: bool, level: float | None = None
) -> Fit:
    """Return the verdict of a transfer in one regime and one way of fitting.

    Args: evidence: rows of `read_evidence`; frozen: whether backbone and domain net hashes are unchanged (test 7);
        level: of the intervals, the criteria's unless a headline counts several claims (`strict_level`).
    Raises: TamperError: something frozen changed; EvidenceError: no honest verdict from these.
    """
    check_frozen(frozen)
    tables = fit_tables(evidence, fit=fit, criteria=criteria)
    return judge(tables, asked_in(regime, tables.compared(), criteria), criteria, level)


JUDGED = (OfFits("transfer", asked, unmoved, curves_of),)
