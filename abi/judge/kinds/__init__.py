"""Every kind of claim and how it is judged: a file of this folder that names kinds in `JUDGED` is found by itself."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from abi.base.errors import EvidenceError
from abi.base.manifests.arms import ArmEntry
from abi.base.manifests.modules import ModuleEntry
from abi.base.manifests.pages import GenerationManifest
from abi.judge.contrasts import Plan
from abi.judge.fits import Check, Curve, Fit, Law, Matrix, TableShown
from abi.judge.results import AnyResult, ClaimFacts, LadderResult, Rung, StudyResult, judge_rungs, of_several
from abi.plan.specs.judge import Criteria, JudgeClaim, JudgeLadder, JudgeStudy

if TYPE_CHECKING:
    import pandas as pd

Ask = Callable[[ClaimFacts, str, Collection[str], Criteria], Plan]
"""claim, fit or study, the arms that there are, criteria -> what it is asked."""
Combine = Callable[[Sequence[str], bool], str]


@dataclass(frozen=True)
class OfFits:
    """A kind with evidence of its own: one verdict per way of fitting, one fit decides.

    Args: unmoved: whether every frozen net is the one it came from (protocol test 7), from the fitted arms, the regime,
        and role -> the trained modules; curves: of a result, from its spec, evidence and fits.
    """

    name: str
    asked: Ask
    unmoved: Callable[[Sequence[ArmEntry], str, Mapping[str, Sequence[ModuleEntry]]], bool]
    curves: Callable[[JudgeClaim, pd.DataFrame, Mapping[str, Fit]], list[Curve]]


@dataclass(frozen=True)
class Findings:
    """What several studies give together, as a result holds it: one verdict of all, and what is shown beside it."""

    verdict: str
    reason: str
    verdict_at_strict_level: str
    fits: dict[str, Fit] = field(default_factory=dict)
    law: Law | None = None
    checks: list[Check] = field(default_factory=list)
    tables: list[TableShown] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    matrices: list[Matrix] = field(default_factory=list)


@dataclass(frozen=True)
class StudiesGiven:
    """What a claim made of several studies is judged from.

    Args: perplexity: study -> arm -> perplexity per token on the study's own text.
    """

    spec: JudgeStudy
    claim: ClaimFacts
    evidence: pd.DataFrame
    studies: Sequence[str]
    perplexity: Mapping[str, Mapping[str, float]]
    strict: float
    generation: GenerationManifest | None = None

    @property
    def criteria(self) -> Criteria:
        """The numbers of the protocol."""
        return self.spec.protocol.criteria

    @property
    def thresholds(self) -> dict[str, float]:
        """Metric -> published threshold."""
        return dict(self.spec.protocol.published_criteria)


@dataclass(frozen=True)
class OfStudies:
    """A kind made of several studies.

    Args: studies: their names, from claim and rounds, each its text or ending with it (`round1-python`); asked: of
        each, None where one law is fitted; again: of a stored result, what follows from its fits, perplexities and
        points beside the verdict of all, given the strict level; combine: one word of several, from those of the
        studies and whether one is refuted at the level of one of k.
    """

    name: str
    studies: Callable[[ClaimFacts, int], list[str]]
    judge: Callable[[StudiesGiven], Findings]
    again: Callable[[StudyResult, JudgeStudy, float], Findings]
    asked: Ask | None = None
    combine: Combine = of_several


@dataclass(frozen=True)
class OfClaims:
    """A kind about other claims.

    Args: checks: the original's pass rules, from claim -> result of the rungs; judge: from the rungs' own figures where
        their words do not decide (`results.judge_rungs`).
    """

    name: str
    checks: Callable[[Mapping[str, AnyResult]], list[Check]] | None = None
    judge: Callable[[JudgeLadder, Mapping[str, AnyResult]], Findings] | None = None


Entry = OfFits | OfStudies | OfClaims
Form = TypeVar("Form", OfFits, OfStudies, OfClaims)


@functools.cache
def judged_kinds() -> dict[str, Entry]:
    """Return kind -> how it is judged."""
    files = sorted(item.name for item in pkgutil.iter_modules(__path__))
    modules = [importlib.import_module(f"{__name__}.{name}") for name in files]
    return {entry.name: entry for module in modules for entry in module.JUDGED}


def kind_of(name: str, form: type[Form]) -> Form:
    """Return how a kind is judged. Raises: EvidenceError: there is none of this form."""
    entry = judged_kinds().get(name)
    if not isinstance(entry, form):
        known = sorted(name for name, entry in judged_kinds().items() if isinstance(entry, form))
        raise EvidenceError(f"claim: no kind {name!r} is judged this way; there are {', '.join(known)}")
    return entry


def plan_of(claim: ClaimFacts, fit: str, arms: Collection[str], criteria: Criteria) -> Plan:
    """Return what one fit, or one study, of a claim is asked: roles, contrasts, and the measure that decides.

    Args: arms: that there are; a regime without a positive control asks nothing of one that is missing.
    Raises: EvidenceError: claims of this kind are not judged by contrasts.
    """
    entry = judged_kinds().get(claim.kind)
    if isinstance(entry, OfClaims) or entry is None or entry.asked is None:
        raise EvidenceError(f"claim {claim.id}: a {claim.kind} is not judged by contrasts")
    return entry.asked(claim, fit, arms, criteria)


def words_of_rungs(spec: JudgeLadder, results: Mapping[str, AnyResult], rungs: Sequence[Rung]) -> dict[str, Any]:
    """Return verdict, reason and verdict at the strict level of a claim about others, and what is shown beside them.

    They follow from the rungs' words, or for some kinds from their figures.
    """
    judge_figures = kind_of(spec.claim.kind, OfClaims).judge
    if judge_figures is None:
        return dict(judge_rungs(rungs))
    made = judge_figures(spec, results)
    return {key: value for key, value in vars(made).items() if key in LadderResult.model_fields and value}
