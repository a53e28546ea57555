"""What a kind of claim must say to be judged: each file of `kinds` holds one or two such entries (`JUDGED`)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from abi.base.manifests import AlignmentEntry, ArmEntry, GenerationManifest, ModuleEntry
from abi.judge.fits import Fit
from abi.judge.protocol import Asked
from abi.judge.results import AnyResult, ClaimFacts, StudyResult
from abi.judge.shown import Check, Curve, Law, Matrix, TableShown
from abi.plan.specs.judge import Criteria, JudgeStudy

if TYPE_CHECKING:
    import pandas as pd

Ask = Callable[[ClaimFacts, str, Collection[str], Criteria], Asked]
"""claim, fit or study, the arms that there are, criteria -> what it is asked."""


@dataclass(frozen=True)
class OfFits:
    """A kind with evidence of its own: one verdict per way of fitting, one fit decides.

    Args: unmoved: whether every frozen net is the one it came from (protocol test 7), from the fitted arms, the regime,
        and role -> the trained modules; curves: of a result, from claim, evidence, fits and fit -> steps.
    """

    name: str
    asked: Ask
    unmoved: Callable[[Sequence[ArmEntry], str, Mapping[str, Sequence[ModuleEntry]]], bool]
    curves: Callable[[ClaimFacts, pd.DataFrame, Mapping[str, Fit], Mapping[str, int], Criteria], list[Curve]]


@dataclass(frozen=True)
class Findings:
    """What several studies give together: one verdict of all, and what is shown beside it."""

    verdict: str
    reason: str
    verdict_at_strict_level: str
    fits: Mapping[str, Fit] = field(default_factory=dict)
    law: Law | None = None
    checks: Sequence[Check] = ()
    tables: Sequence[TableShown] = ()
    curves: Sequence[Curve] = ()
    matrices: Sequence[Matrix] = ()


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

    Args: studies: their names, from claim and rounds; asked: of each, None where one law is fitted; again: of a stored
        result, what follows from its fits, perplexities and points beside the verdict of all, given the strict level.
    """

    name: str
    studies: Callable[[ClaimFacts, int], list[str]]
    judge: Callable[[StudiesGiven], Findings]
    again: Callable[[StudyResult, JudgeStudy, float], Findings]
    asked: Ask | None = None


@dataclass(frozen=True)
class OfClaims:
    """A kind about other claims.

    Args: checks: the original's pass rules, from claim -> result of the rungs, and claim -> their alignments.
    """

    name: str
    checks: Callable[[Mapping[str, AnyResult], Mapping[str, Sequence[AlignmentEntry]]], list[Check]] | None = None
