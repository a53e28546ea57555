"""A second module regressed on the corrections of a first one (protocol section 6)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from abi.base.catalogue import RANDOM, REGRESSED, Roles
from abi.base.manifests import ArmEntry, ModuleEntry
from abi.judge.contrasts import Measure, Plan
from abi.judge.fits import Fit
from abi.judge.kind import OfFits
from abi.judge.protocol import Asked, Asks
from abi.judge.results import ClaimFacts
from abi.judge.tables import fit_tables
from abi.judge.verdict import check_frozen, judge
from abi.plan.specs.judge import Criteria

if TYPE_CHECKING:
    import pandas as pd


def reconstruction_plan(criteria: Criteria, roles: Roles = REGRESSED) -> Plan:
    """Return what a reconstruction is asked: the same, with U = C and without parity (protocol section 6).

    With U = C, retention is C - (C + P) / 2 = (C - P) / 2, so tests 1, 2 and the placebo part of 4 coincide: C > P.
    Refutation (a) can therefore never hold (it needs C - P > 0 shown and refuted at once); (b), (d) and (e) can.
    """
    return Asks(roles, criteria, parity="none").plan()


def asked_of(criteria: Criteria) -> Asked:
    """Return what a reconstruction is asked.

    U is the candidate too: test 2 reduces to C > P and coincides with 1 and the placebo part of 4. Nothing is said
    about parity, since the reference teaches by definition.
    """
    own = Measure(criteria.primary_metric, "domain")
    return Asked("reconstruction", None, REGRESSED, reconstruction_plan(criteria), own)


def asked(claim: ClaimFacts, fit: str, arms: Collection[str], criteria: Criteria) -> Asked:
    """Return what one fit of a reconstruction is asked."""
    return asked_of(criteria)


def unmoved(arms: Sequence[ArmEntry], regime: str, modules: Mapping[str, Sequence[ModuleEntry]]) -> bool:
    """Return whether both fits of a seed hold the placebo's net that was drawn for it."""
    nets = {(arm.seed, arm.domain_sha256) for arm in arms if arm.arm == RANDOM and arm.draw == 0}
    return len(nets) == len({seed for seed, _ in nets})


def judge_reconstruction(
    evidence: pd.DataFrame, *, fit: str, criteria: Criteria, frozen: bool, level: float | None = None
) -> Fit:
    """Return the verdict of a reconstruction: a candidate regressed on a reference module's corrections.

    Args and Raises: as `transfer.judge_transfer`.
    """
    check_frozen(frozen)
    return judge(fit_tables(evidence, fit=fit, criteria=criteria), asked_of(criteria), criteria, level)


JUDGED = (OfFits("reconstruction", asked, unmoved, lambda *_: []),)
