"""What a claim is asked: the tests and refutations of protocol sections 3, 4 and 6 as contrasts of arms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from abi.base.errors import EvidenceError
from abi.base.names import AGREEMENT
from abi.judge.contrasts import Contrast, Criteria, Measure, Plan, Questions, Refutation

Regime = Literal["oracle-kd", "few-shot", "general-only"]
REGIMES = ("oracle-kd", "few-shot", "general-only")
BPB = Measure("bits_per_byte", "domain")
GENERAL = Measure("bits_per_byte", "general")


@dataclass(frozen=True)
class Roles:
    """Which arm is R, F, U, C, each P and each Q of the protocol; `native` is None without a positive control."""

    candidate: str
    placebos: tuple[str, ...]
    controls: tuple[str, ...]
    native: str | None = None
    raw: str = "raw"
    oracle: str = "oracle"

    def needed(self) -> tuple[str, ...]:
        """Return every arm the rule reads, once."""
        names = (self.raw, self.oracle, self.native, self.candidate, *self.placebos, *self.controls)
        return tuple(dict.fromkeys(name for name in names if name))


TRANSFER = Roles("transferred", ("random", "permuted"), ("linear", "bias", "no-domain"), native="native")
RECONSTRUCTION = Roles("candidate", ("random",), ("linear", "before"), native="candidate")

UPDATE = Roles("zero-shot", ("random",), ("zero-shot-free",))


def transfer_plan(regime: str, criteria: Criteria, roles: Roles = TRANSFER) -> Plan:
    """Return what a transfer claim of one regime is asked.

    Parity is part of the verdict in `oracle-kd`, reported in `few-shot`; `general-only` has its own rule.
    Raises: EvidenceError: an unknown regime.
    """
    if regime not in REGIMES:
        raise EvidenceError(f"regime {regime!r} is none of {', '.join(REGIMES)}")
    if regime == "general-only":
        return _Asks(roles, criteria, parity="reported").general_only()
    return _Asks(roles, criteria, parity="required" if regime == "oracle-kd" else "reported").plan()


def reconstruction_plan(criteria: Criteria, roles: Roles = RECONSTRUCTION) -> Plan:
    """Return what a reconstruction is asked: the same, with U = C and without parity (protocol section 6).

    With U = C, retention is C - (C + P) / 2 = (C - P) / 2, so tests 1, 2 and the placebo part of 4 coincide: C > P.
    Refutation (a) can therefore never hold (it needs C - P > 0 shown and refuted at once); (b), (d) and (e) can.
    """
    return _Asks(roles, criteria, parity="none").plan()


def update_plan(criteria: Criteria, roles: Roles = UPDATE) -> Plan:
    """Return what the survival of an update is asked, in bits per byte on one backbone's domain text (protocol section 6).

    SUPPORTED: room, zero-shot covers at least half of the oracle's gain, and is better than the module after an update without
    the stability term and than a random module. REFUTED: an upper bound says the contrary of one of these.
    """
    asks, half, c = _Asks(roles, criteria, parity="none"), criteria.half, roles.candidate
    efficacy = _contrast("u.efficacy.bits_per_byte", BPB, {c: 1, roles.oracle: -half, roles.raw: half - 1})
    others = roles.placebos + roles.controls
    against = tuple(_contrast(f"g.attribution.{q}", BPB, {c: 1, q: -1}, closed=True) for q in others)
    beside = [
        _contrast(f"{name}.{arm}", BPB, {c: 1, arm: -1}, required=False)
        for name, arm in (("u.drift", "before"), ("u.net", "zero-shot-off"), ("u.net", "random-net"))
    ]
    tests = (*asks.room(BPB), efficacy, *asks.attribution(BPB), asks.benefit("5.benefit.bits_per_byte"), *beside)
    refutations = (Refutation("u", (efficacy,)), Refutation("g", against), asks.text_refutations()[0])
    gain = _contrast(
        "vacuous.bits_per_byte", BPB, {roles.oracle: 1, roles.raw: -1}, margin=criteria.vacuous, closed=True
    )
    return Plan(roles.raw, Questions(tests, refutations), (gain,), {})


def atlas_roles(others: Sequence[str]) -> Roles:
    """Return the roles of a domain's chart: its placebo, the linear map, the charts of the other domains."""
    return Roles("chart", ("random", "permuted"), ("linear", *(f"chart-of-{other}" for other in others)))


def atlas_plan(criteria: Criteria, roles: Roles) -> Plan:
    """Return what one domain's chart is asked: better than every other domain's chart, a random net's and a linear map.

    In agreement with a second native module and in bits per byte, on that domain's held-out text. REFUTED: an upper bound
    says that the chart is no better than one of them.
    """
    asks, agree = _Asks(roles, criteria, parity="none"), Measure(criteria.primary_metric, "domain")
    others, c = roles.placebos + roles.controls, roles.candidate
    against = tuple(
        _contrast(f"g.attribution.{m.metric}.{q}", m, {c: 1, q: -1}, closed=True) for m in (agree, BPB) for q in others
    )
    tests = (*asks.room(agree), *asks.room(BPB), *asks.attribution(agree), *asks.attribution(BPB))
    own = Questions(
        (*tests, asks.benefit("5.benefit.bits_per_byte")), (Refutation("g", against), asks.text_refutations()[0])
    )
    return Plan(roles.raw, own, asks.vacuous(agree), {})


@dataclass(frozen=True)
class _Asks:
    """Builds contrasts from roles and criteria; letters as in the protocol."""

    roles: Roles
    criteria: Criteria
    parity: Literal["required", "reported", "none"]

    def plan(self) -> Plan:
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

    def general_only(self) -> Plan:
        """Return the plan without a positive control: bits per byte decides, agreement is reported."""
        c = self.roles.candidate
        others = self.roles.placebos + self.roles.controls
        against = tuple(_contrast(f"g.attribution.{q}", BPB, {c: 1, q: -1}, closed=True) for q in others)
        tests = (*self.room(BPB), *self.attribution(BPB), *self.text())
        own = Questions(tests, (Refutation("g", against), *self.text_refutations()))
        measures = [Measure(metric, "domain") for metric in AGREEMENT]
        secondary = {m.metric: Questions(self.agreement_tests(m), ()) for m in measures}
        return Plan(self.roles.raw, own, self.vacuous(Measure(self.criteria.primary_metric, "domain")), secondary)

    def agreement_tests(self, m: Measure) -> tuple[Contrast, ...]:
        return (*self.room(m), *self.net(m), *self.attribution(m))

    def room(self, m: Measure) -> tuple[Contrast, ...]:
        return (_contrast(f"0.room.{m.metric}", m, {self.roles.oracle: 1, self.roles.raw: -1}),)

    def net(self, m: Measure) -> tuple[Contrast, ...]:
        """Return sensitivity, retention and parity, where there is a positive control and a parity."""
        u, placebos = self.roles.native, self.roles.placebos
        sensitive = [_contrast(f"1.sensitivity.{m.metric}.{p}", m, {u: 1, p: -1}) for p in placebos if u]
        parity = () if self.parity == "none" else self.parity_tests(m, f"3.parity.{m.metric}")
        return (*sensitive, *self.retention(m, f"2.retention.{m.metric}"), *parity)

    def retention(self, m: Measure, id: str) -> tuple[Contrast, ...]:
        """Return C - half U - (1 - half) P for every P."""
        c, u, half = self.roles.candidate, self.roles.native, self.criteria.half
        if u is None:
            return ()
        u_part = {c: 1 - half} if u == c else {c: 1.0, u: -half}
        return tuple(_contrast(f"{id}.{p}", m, {**u_part, p: half - 1}) for p in self.roles.placebos)

    def parity_tests(self, m: Measure, id: str) -> tuple[Contrast, ...]:
        weights = {self.roles.candidate: 1, self.roles.oracle: -self.criteria.parity}
        weights[self.roles.raw] = self.criteria.parity - 1
        return (_contrast(id, m, weights, required=self.parity == "required"),)

    def attribution(self, m: Measure) -> tuple[Contrast, ...]:
        others = self.roles.placebos + self.roles.controls
        return tuple(_contrast(f"4.attribution.{m.metric}.{q}", m, {self.roles.candidate: 1, q: -1}) for q in others)

    def text(self) -> tuple[Contrast, ...]:
        """Return benefit, harm against the oracle, and beside it (reported) the same against raw."""
        beside = {self.roles.candidate: 1, self.roles.raw: -1}
        reported = _contrast("6.harm.raw", GENERAL, beside, margin=-self.criteria.harm, required=False)
        return (self.benefit("5.benefit.bits_per_byte"), self.harm("6.harm.oracle"), reported)

    def benefit(self, id: str) -> Contrast:
        return _contrast(id, BPB, {self.roles.candidate: 1, self.roles.raw: -1}, closed=True)

    def harm(self, id: str) -> Contrast:
        """Return bpb(oracle) - bpb(C) on general text, which is to stay above -harm bpb(raw)."""
        weights = {self.roles.candidate: 1, self.roles.oracle: -1}
        return _contrast(id, GENERAL, weights, margin=-self.criteria.harm)

    def agreement_refutations(self, m: Measure) -> tuple[Refutation, ...]:
        c, raw, share = self.roles.candidate, self.roles.raw, self.criteria.share
        kept = tuple(
            _contrast(f"b.share.{m.metric}.{p}", m, {c: 1 - share, p: -1, raw: share}) for p in self.roles.placebos
        )
        retained = Refutation("a", self.retention(m, f"a.retention.{m.metric}"), needs_sensitive=True)
        found = (retained, Refutation("b", kept, needs_sensitive=False))
        if self.parity != "required":
            return found
        return (*found, Refutation("c", self.parity_tests(m, f"c.parity.{m.metric}")))

    def text_refutations(self) -> tuple[Refutation, ...]:
        return (
            Refutation("d", (self.benefit("d.benefit.bits_per_byte"),)),
            Refutation("e", (self.harm("e.harm.oracle"),)),
        )

    def vacuous(self, agree: Measure) -> tuple[Contrast, ...]:
        weights = {self.roles.oracle: 1, self.roles.raw: -1}
        agreement = _contrast(f"vacuous.{agree.metric}", agree, weights, closed=True)
        gain = _contrast("vacuous.bits_per_byte", BPB, weights, margin=self.criteria.vacuous, closed=True)
        return (agreement, gain)


def _contrast(
    id: str,
    measure: Measure,
    weights: Mapping[str, float],
    *,
    margin: float = 0.0,
    required: bool = True,
    closed: bool = False,
) -> Contrast:
    terms = tuple((arm, float(weight)) for arm, weight in weights.items())
    return Contrast(id, measure, terms, margin, required, closed)
