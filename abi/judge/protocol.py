"""What a claim is asked: the tests and refutations of protocol sections 3, 4 and 6 as contrasts of arms."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from abi.base.catalogue import (
    MOVED,
    REGIMES,
    Roles,
)
from abi.base.errors import EvidenceError
from abi.base.names import AGREEMENT
from abi.judge.contrasts import Contrast, Measure, Plan, Questions, Refutation
from abi.plan.specs.judge import Criteria

BPB = Measure("bits_per_byte", "domain")
GENERAL = Measure("bits_per_byte", "general")
TRANSFERS = tuple(name for name, regime in REGIMES.items() if regime.roles == MOVED)


@dataclass(frozen=True)
class Asked:
    """Everything that one fit or study is asked: who plays which role, the contrasts, and the measure that decides."""

    kind: str
    regime: str | None
    roles: Roles
    plan: Plan
    own: Measure


def transfer_plan(regime: str, criteria: Criteria, roles: Roles = MOVED) -> Plan:
    """Return what a transfer claim of one regime is asked.

    Parity is part of the verdict in `oracle-kd`, reported in `few-shot`; without a positive control it is another rule.

    Raises: EvidenceError: an unknown regime.
    """
    if regime not in TRANSFERS:
        raise EvidenceError(f"regime {regime!r} is none of {', '.join(TRANSFERS)}")
    asks = Asks(roles, criteria, parity=REGIMES[regime].parity)
    return asks.plan() if REGIMES[regime].has_control else asks.without_control()


@dataclass(frozen=True)
class Asks:
    """Contrasts that several kinds of claims ask, made of roles and criteria; letters as in the protocol."""

    roles: Roles
    criteria: Criteria
    parity: Literal["required", "reported", "none"]

    def plan(self) -> Plan:
        """Return the plan with agreement as the measure that decides, bits per byte and harm beside it."""
        agree = Measure(self.criteria.primary_metric, "domain")
        tests = (
            *self.room(agree),
            *self.room(BPB),
            *self.net(agree),
            *self.attribution(agree),
            *self.attribution(BPB),
            *self.text(),
        )
        own = Questions(tests, (*self.agreement_refutations(agree), *self.text_refutations()))
        others = [Measure(metric, "domain") for metric in AGREEMENT if metric != agree.metric]
        secondary = {m.metric: Questions(self.agreement_tests(m), self.agreement_refutations(m)) for m in others}
        return Plan(self.roles.raw, own, self.vacuous(agree), secondary)

    def without_control(self) -> Plan:
        """Return the plan without a positive control: bits per byte decides, agreement is reported."""
        tests = (*self.room(BPB), *self.attribution(BPB), *self.text())
        own = Questions(tests, (Refutation("g", self.beaten(BPB)), *self.text_refutations()))
        measures = [Measure(metric, "domain") for metric in AGREEMENT]
        secondary = {m.metric: Questions(self.agreement_tests(m), ()) for m in measures}
        return Plan(self.roles.raw, own, self.vacuous(Measure(self.criteria.primary_metric, "domain")), secondary)

    def agreement_tests(self, m: Measure) -> tuple[Contrast, ...]:
        """Return the tests of one agreement metric."""
        return (*self.room(m), *self.net(m), *self.attribution(m))

    def room(self, m: Measure) -> tuple[Contrast, ...]:
        """Return F - R: is there anything to gain."""
        return (contrast_of(f"0.room.{m.metric}", m, {self.roles.oracle: 1, self.roles.raw: -1}),)

    def net(self, m: Measure) -> tuple[Contrast, ...]:
        """Return sensitivity, retention and parity, where there is a positive control and a parity."""
        u, placebos = self.roles.native, self.roles.placebos
        sensitive = [contrast_of(f"1.sensitivity.{m.metric}.{p}", m, {u: 1, p: -1}) for p in placebos if u]
        parity = () if self.parity == "none" else self.parity_tests(m, f"3.parity.{m.metric}")
        return (*sensitive, *self.retention(m, f"2.retention.{m.metric}"), *parity)

    def retention(self, m: Measure, id: str) -> tuple[Contrast, ...]:
        """Return C - half U - (1 - half) P for every P."""
        c, u, half = self.roles.candidate, self.roles.native, self.criteria.half
        if u is None:
            return ()
        u_part = {c: 1 - half} if u == c else {c: 1.0, u: -half}
        return tuple(contrast_of(f"{id}.{p}", m, {**u_part, p: half - 1}) for p in self.roles.placebos)

    def parity_tests(self, m: Measure, id: str) -> tuple[Contrast, ...]:
        """Return C - parity F - (1 - parity) R."""
        weights = {self.roles.candidate: 1, self.roles.oracle: -self.criteria.parity}
        weights[self.roles.raw] = self.criteria.parity - 1
        return (contrast_of(id, m, weights, required=self.parity == "required"),)

    def attribution(self, m: Measure) -> tuple[Contrast, ...]:
        """Return C - Q for every placebo and control."""
        others = self.roles.placebos + self.roles.controls
        return tuple(contrast_of(f"4.attribution.{m.metric}.{q}", m, {self.roles.candidate: 1, q: -1}) for q in others)

    def beaten(self, m: Measure, named: str = "") -> tuple[Contrast, ...]:
        """Return C - Q for every placebo and control, each of which refutes where it is no better than nothing."""
        c, others = self.roles.candidate, self.roles.placebos + self.roles.controls
        return tuple(contrast_of(f"g.attribution{named}.{q}", m, {c: 1, q: -1}, closed=True) for q in others)

    def text(self) -> tuple[Contrast, ...]:
        """Return benefit, harm against the oracle, and beside it (reported) the same against raw."""
        beside = {self.roles.candidate: 1, self.roles.raw: -1}
        reported = contrast_of("6.harm.raw", GENERAL, beside, margin=-self.criteria.harm, required=False)
        return (self.benefit("5.benefit.bits_per_byte"), self.harm("6.harm.oracle"), reported)

    def benefit(self, id: str) -> Contrast:
        """Return C - R in bits per byte."""
        return contrast_of(id, BPB, {self.roles.candidate: 1, self.roles.raw: -1}, closed=True)

    def harm(self, id: str) -> Contrast:
        """Return bpb(oracle) - bpb(C) on general text, which is to stay above -harm bpb(raw)."""
        weights = {self.roles.candidate: 1, self.roles.oracle: -1}
        return contrast_of(id, GENERAL, weights, margin=-self.criteria.harm)

    def agreement_refutations(self, m: Measure) -> tuple[Refutation, ...]:
        """Return (a) retention, (b) the share that is the net's own, and (c) parity where it is required."""
        c, raw, share = self.roles.candidate, self.roles.raw, self.criteria.share
        kept = tuple(
            contrast_of(f"b.share.{m.metric}.{p}", m, {c: 1 - share, p: -1, raw: share}) for p in self.roles.placebos
        )
        retained = Refutation("a", self.retention(m, f"a.retention.{m.metric}"), needs_sensitive=True)
        found = (retained, Refutation("b", kept, needs_sensitive=False))
        if self.parity != "required":
            return found
        return (*found, Refutation("c", self.parity_tests(m, f"c.parity.{m.metric}")))

    def text_refutations(self) -> tuple[Refutation, ...]:
        """Return (d) no benefit and (e) harm."""
        return (
            Refutation("d", (self.benefit("d.benefit.bits_per_byte"),)),
            Refutation("e", (self.harm("e.harm.oracle"),)),
        )

    def vacuous(self, agree: Measure) -> tuple[Contrast, ...]:
        """Return whether the oracle gains nothing, in agreement and in bits per byte."""
        weights = {self.roles.oracle: 1, self.roles.raw: -1}
        return (contrast_of(f"vacuous.{agree.metric}", agree, weights, closed=True), self.no_gain())

    def no_gain(self) -> Contrast:
        """Return F - R in bits per byte, vacuous up to a part of the plain backbone's."""
        weights = {self.roles.oracle: 1, self.roles.raw: -1}
        return contrast_of("vacuous.bits_per_byte", BPB, weights, margin=self.criteria.vacuous, closed=True)


def contrast_of(
    id: str,
    measure: Measure,
    weights: Mapping[str, float],
    *,
    margin: float = 0.0,
    required: bool = True,
    closed: bool = False,
) -> Contrast:
    """Return a contrast of weighted arms (see `Contrast` for its limit)."""
    terms = tuple((arm, float(weight)) for arm, weight in weights.items())
    return Contrast(id, measure, terms, margin, required, closed)
