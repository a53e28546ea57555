"""What a claim is asked: the tests and refutations of protocol sections 3, 4 and 6 as contrasts of arms."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal

from abi.base.errors import EvidenceError
from abi.base.names import (
    AGREEMENT,
    AS_PUBLISHED,
    CALIBRATED,
    CARRIED,
    DIRECT,
    HOME,
    HOME_IDENTITY,
    LORA,
    NGRAM,
    ORACLE,
    PERMUTED_TAUGHT,
    RAW,
    SOURCE_TAUGHT,
    TRANSFERRED,
    WRONG_DOMAIN,
    WRONG_TAUGHT,
)
from abi.base.regimes import REGIMES, Roles, transfer_regimes
from abi.judge.contrasts import Contrast, Measure, Plan, Questions, Refutation
from abi.plan.specs.judge import Criteria

BPB = Measure("bits_per_byte", "domain")
GENERAL = Measure("bits_per_byte", "general")
HARM = "6.harm.raw"
"""The reported test that says what general text costs against the plain backbone."""
BESIDE_TAUGHT = (DIRECT, TRANSFERRED, CARRIED, PERMUTED_TAUGHT, WRONG_TAUGHT)
"""The arms that one which the source teaches on a few windows is compared with."""


def transfer_plan(regime: str, criteria: Criteria, arms: Collection[str] = (HOME,)) -> Plan:
    """Return what a transfer claim of one regime is asked.

    Parity is part of the verdict in `oracle-kd`, reported in `few-shot`; without a positive control it is another rule.

    Args: arms: that there are; a regime without a positive control asks nothing of one that is missing.
    Raises: EvidenceError: an unknown regime.
    """
    if regime not in transfer_regimes():
        raise EvidenceError(f"regime {regime!r} is none of {', '.join(transfer_regimes())}")
    entry = REGIMES[regime]
    roles = entry.roles if entry.has_control or HOME in arms else replace(entry.roles, home=None)
    asks = Asks(roles, criteria, entry.parity)
    plan = asks.plan("transfer", regime) if entry.has_control else asks.without_control("transfer", regime)
    beside = asks.beside(arms)
    return replace(plan, own=replace(plan.own, tests=(*plan.own.tests, *beside)))


@dataclass(frozen=True)
class Asks:
    """Contrasts that several kinds of claims ask, made of roles and criteria; letters as in the protocol."""

    roles: Roles
    criteria: Criteria
    parity: Literal["required", "reported", "none"] = "none"

    @property
    def agree(self) -> Measure:
        """The agreement that decides."""
        return Measure(self.criteria.primary_metric, "domain")

    def plan(self, kind: str, regime: str | None = None) -> Plan:
        """Return the plan with agreement as the measure that decides, bits per byte and harm beside it."""
        agree = self.agree
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
        return Plan(kind, regime, self.roles, agree, own, self.vacuous(), secondary)

    def without_control(self, kind: str, regime: str) -> Plan:
        """Return the plan without a positive control: bits per byte decides, agreement is reported."""
        tests = (*self.room(BPB), *self.attribution(BPB), *self.text())
        any_net = (Refutation("g", self.beaten(BPB)), Refutation("b", self.owned(BPB, "b.share.bits_per_byte")))
        own = Questions(tests, (*any_net, *self.text_refutations()))
        secondary = {m: Questions(self.agreement_tests(Measure(m, "domain")), ()) for m in AGREEMENT}
        return Plan(kind, regime, self.roles, BPB, own, self.vacuous(), secondary)

    def beside(self, arms: Collection[str]) -> tuple[Contrast, ...]:
        """Return what is reported of arms that play no role, where they are there.

        What the executed recipe gains from its source (`published` - `direct`), whether it is the positive control's
        net or its rotation, what a user would do instead, placebos calibrated on general text, and what a source
        teaches on a few windows.
        """
        c = self.roles.candidate
        pairs = [("recipe", AS_PUBLISHED, DIRECT), ("rotation", HOME, HOME_IDENTITY)]
        pairs += [("instead", c, arm) for arm in (DIRECT, LORA, WRONG_DOMAIN) if arm not in self.roles.controls]
        pairs += [("calibrated", c, arm) for arm in sorted(arms) if arm.endswith(CALIBRATED)]
        pairs += [("taught", SOURCE_TAUGHT, arm) for arm in BESIDE_TAUGHT]
        found = tuple(
            Contrast(f"r.{name}.{m.metric}.{other}", m, {arm: 1, other: -1}, required=False)
            for name, arm, other in pairs
            if {arm, other} <= set(arms)
            for m in (self.agree, BPB)
        )
        counted = Contrast(f"r.instead.{BPB.metric}.{NGRAM}", BPB, {c: 1, NGRAM: -1}, required=False)
        return (*found, counted) if NGRAM in arms else found

    def agreement_tests(self, m: Measure) -> tuple[Contrast, ...]:
        """Return the tests of one agreement metric."""
        return (*self.room(m), *self.net(m), *self.attribution(m))

    def room(self, m: Measure) -> tuple[Contrast, ...]:
        """Return F - R: is there anything to gain."""
        return (Contrast(f"0.room.{m.metric}", m, {ORACLE: 1, RAW: -1}),)

    def net(self, m: Measure) -> tuple[Contrast, ...]:
        """Return sensitivity, retention and parity, where there is a positive control and a parity."""
        u, placebos = self.roles.home, self.roles.placebos
        sensitive = [Contrast(f"1.sensitivity.{m.metric}.{p}", m, {u: 1, p: -1}) for p in placebos if u]
        parity = () if self.parity == "none" else self.parity_tests(m, f"3.parity.{m.metric}")
        return (*sensitive, *self.retention(m, f"2.retention.{m.metric}"), *parity)

    def retention(self, m: Measure, id: str) -> tuple[Contrast, ...]:
        """Return C - half U - (1 - half) P for every P."""
        c, u, half = self.roles.candidate, self.roles.home, self.criteria.half
        if u is None:
            return ()
        u_part = {c: 1 - half} if u == c else {c: 1.0, u: -half}
        return tuple(Contrast(f"{id}.{p}", m, {**u_part, p: half - 1}) for p in self.roles.placebos)

    def parity_tests(self, m: Measure, id: str) -> tuple[Contrast, ...]:
        """Return C - parity F - (1 - parity) R."""
        part = self.criteria.parity
        weights = {self.roles.candidate: 1, ORACLE: -part, RAW: part - 1}
        return (Contrast(id, m, weights, required=self.parity == "required"),)

    def attribution(self, m: Measure) -> tuple[Contrast, ...]:
        """Return (C - P) - share (C - R) for every P and C - Q for every Q; C - P stands beside them, reported.

        Some Q are asked about in agreement alone, and reported in bits per byte.
        """
        reported = self.roles.placebos + (self.roles.of_agreement if m == BPB else ())
        above = (replace(test, required=test.weights.keys().isdisjoint(reported)) for test in self.better(m))
        return (*self.owned(m, f"4.share.{m.metric}"), *above)

    def better(self, m: Measure) -> tuple[Contrast, ...]:
        """Return C - Q for every placebo and control."""
        c, others = self.roles.candidate, self.roles.placebos + self.roles.controls
        return tuple(Contrast(f"4.attribution.{m.metric}.{q}", m, {c: 1, q: -1}) for q in others)

    def owned(self, m: Measure, id: str) -> tuple[Contrast, ...]:
        """Return (C - P) - share (C - R) for every P: the part of the gain that is the net's own."""
        c, share = self.roles.candidate, self.criteria.share
        return tuple(Contrast(f"{id}.{p}", m, {c: 1 - share, p: -1, RAW: share}) for p in self.roles.placebos)

    def beaten(self, m: Measure, named: str = "") -> tuple[Contrast, ...]:
        """Return C - Q for every placebo and control, each of which refutes where it is no better than nothing."""
        c, others = self.roles.candidate, self.roles.placebos + self.roles.controls
        return tuple(Contrast(f"g.attribution{named}.{q}", m, {c: 1, q: -1}, closed=True) for q in others)

    def text(self) -> tuple[Contrast, ...]:
        """Return benefit, harm against the oracle, and beside it (reported) the same against raw."""
        beside = {self.roles.candidate: 1, RAW: -1}
        reported = Contrast(HARM, GENERAL, beside, margin=-self.criteria.harm, required=False)
        return (self.benefit("5.benefit.bits_per_byte"), self.harm("6.harm.oracle"), reported)

    def benefit(self, id: str) -> Contrast:
        """Return C - R in bits per byte."""
        return Contrast(id, BPB, {self.roles.candidate: 1, RAW: -1}, closed=True)

    def harm(self, id: str) -> Contrast:
        """Return bpb(oracle) - bpb(C) on general text, which is to stay above -harm bpb(raw)."""
        weights = {self.roles.candidate: 1, ORACLE: -1}
        return Contrast(id, GENERAL, weights, margin=-self.criteria.harm)

    def agreement_refutations(self, m: Measure) -> tuple[Refutation, ...]:
        """Return (a) retention, (b) the share that is the net's own, and (c) parity where it is required."""
        retained = Refutation("a", self.retention(m, f"a.retention.{m.metric}"), needs_sensitive=True)
        found = (retained, Refutation("b", self.owned(m, f"b.share.{m.metric}")))
        if self.parity != "required":
            return found
        return (*found, Refutation("c", self.parity_tests(m, f"c.parity.{m.metric}")))

    def text_refutations(self) -> tuple[Refutation, ...]:
        """Return (d) no benefit and (e) harm."""
        return (
            Refutation("d", (self.benefit("d.benefit.bits_per_byte"),)),
            Refutation("e", (self.harm("e.harm.oracle"),)),
        )

    def vacuous(self) -> tuple[Contrast, ...]:
        """Return whether the oracle gains nothing, in agreement and in bits per byte."""
        weights = {ORACLE: 1, RAW: -1}
        return (Contrast(f"vacuous.{self.agree.metric}", self.agree, weights, closed=True), self.no_gain())

    def no_gain(self) -> Contrast:
        """Return F - R in bits per byte, vacuous up to a part of the plain backbone's."""
        weights = {ORACLE: 1, RAW: -1}
        return Contrast("vacuous.bits_per_byte", BPB, weights, margin=self.criteria.vacuous, closed=True)
