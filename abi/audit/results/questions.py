"""What the protocol asks of a claim, written a second time without numpy, so that `abi verify` starts in milliseconds.

`abi.plans` is what the verdicts are made with; a test holds both lists equal, contrast by contrast.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from abi.base.names import AGREEMENT

BITS = "bits_per_byte"
STUDIES = ("update", "succession", "atlas")
"""Kinds of claims made of several studies that are judged one by one."""


@dataclass(frozen=True)
class Question:
    """One contrast: a weighted sum of arms in one metric on one scope, above or below `margin` times raw's mean."""

    id: str
    metric: str
    scope: str
    weights: Mapping[str, float]
    margin: float = 0.0
    required: bool = True
    closed: bool = False

    def words(self) -> str:
        """Return the contrast as a formula."""
        sizes = {arm: "" if abs(weight) == 1 else f"{abs(weight):.3g} " for arm, weight in self.weights.items()}
        parts = (f"{'-' if weight < 0 else '+'} {sizes[arm]}{arm}" for arm, weight in self.weights.items())
        return " ".join(parts).removeprefix("+ ")


@dataclass(frozen=True)
class Way:
    """One way to be refuted, and whether it needs the benchmark to be sensitive (True), insensitive or neither."""

    id: str
    questions: tuple[Question, ...]
    needs_sensitive: bool | None = None


@dataclass(frozen=True)
class Asked:
    """Every question of a claim: its own tests and refutations, when it is vacuous, and the reported metrics."""

    metric: str
    tests: tuple[Question, ...]
    ways: tuple[Way, ...]
    vacuous: tuple[Question, ...]
    secondary: Mapping[str, tuple[tuple[Question, ...], tuple[Way, ...]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Roles:
    """Which arm is C, each P, each Q and U (None: no positive control)."""

    candidate: str
    placebos: tuple[str, ...]
    controls: tuple[str, ...]
    native: str | None


ROLES = {
    "transfer": Roles("transferred", ("random", "permuted"), ("linear", "bias", "no-domain"), "native"),
    "reconstruction": Roles("candidate", ("random",), ("linear", "before"), "candidate"),
}


def roles_of(kind: str, regime: str | None, arms: Mapping[str, Any]) -> Roles:
    """Return the roles of a claim; `general-only` may lack the positive control."""
    roles = ROLES[kind]
    if regime == "general-only" and "native" not in arms:
        return Roles(roles.candidate, roles.placebos, roles.controls, None)
    return roles


def study_roles(claim: Mapping[str, Any], study: str) -> Roles:
    """Return the roles of one study of a claim made of several."""
    if claim["kind"] == "atlas":
        others = tuple(f"chart-of-{text}" for text in claim["texts"] if text != study)
        return Roles("chart", ("random", "permuted"), ("linear", *others), None)
    return Roles("zero-shot", ("random",), ("zero-shot-free",), None)


def asked_of_study(kind: str, roles: Roles, criteria: Mapping[str, Any]) -> Asked:
    """Return every question of one study: does an update leave a module its use, is a chart better than the others."""
    c, others, own = roles.candidate, (*roles.placebos, *roles.controls), criteria["primary_metric"]
    benefit, text, vacuous = _benefit("5", c), _text_ways(c, criteria["harm"])[:1], _vacuous(own, criteria)
    if kind == "atlas":
        tests = (*_room(own), *_room(BITS), *_attribution(own, c, others), *_attribution(BITS, c, others), benefit)
        against = tuple(q for m in (own, BITS) for q in _against(m, c, others, named=f".{m}"))
        return Asked(own, tests, (Way("g", against), *text), vacuous)
    half = criteria["half"]
    efficacy = _q(f"u.efficacy.{BITS}", BITS, {c: 1, "oracle": -half, "raw": half - 1})
    beside = [
        _q(f"{id}.{arm}", BITS, {c: 1, arm: -1}, required=False)
        for id, arm in (("u.drift", "before"), ("u.net", "zero-shot-off"), ("u.net", "random-net"))
    ]
    tests = (*_room(BITS), efficacy, *_attribution(BITS, c, others), benefit, *beside)
    return Asked(BITS, tests, (Way("u", (efficacy,)), Way("g", _against(BITS, c, others)), *text), vacuous[1:])


def asked(kind: str, regime: str | None, roles: Roles, criteria: Mapping[str, Any]) -> Asked:
    """Return every question of a claim. Args: criteria: as in `config/protocol.yaml`."""
    if kind in STUDIES:
        return asked_of_study(kind, roles, criteria)
    primary = criteria["primary_metric"]
    vacuous = _vacuous(primary, criteria)
    parity = "none" if kind == "reconstruction" else "required" if regime == "oracle-kd" else "reported"
    c, others = roles.candidate, (*roles.placebos, *roles.controls)
    text = _text(c, criteria["harm"])
    if regime == "general-only" and kind == "transfer":
        tests = (*_room(BITS), *_attribution(BITS, c, others), *text)
        secondary = {m: (_agreement(m, roles, criteria, "reported"), ()) for m in AGREEMENT}
        return Asked(
            BITS, tests, (Way("g", _against(BITS, c, others)), *_text_ways(c, criteria["harm"])), vacuous, secondary
        )
    reported = [metric for metric in AGREEMENT if metric != primary]
    own = _agreement(primary, roles, criteria, parity)
    tests = (own[0], *_room(BITS), *own[1:], *_attribution(BITS, c, others), *text)
    ways = (*_agreement_ways(primary, roles, criteria, parity), *_text_ways(c, criteria["harm"]))
    both = {m: (_agreement(m, roles, criteria, parity), _agreement_ways(m, roles, criteria, parity)) for m in reported}
    return Asked(primary, tests, ways, vacuous, both)


def _q(id: str, metric: str, weights: Mapping[str, float], *, scope: str = "domain", **options: Any) -> Question:
    return Question(id, metric, scope, {arm: float(weight) for arm, weight in weights.items()}, **options)


def _vacuous(metric: str, criteria: Mapping[str, Any]) -> tuple[Question, Question]:
    """Return whether the oracle gains nothing, in agreement and in bits per byte."""
    weights = {"oracle": 1, "raw": -1}
    gain = _q(f"vacuous.{BITS}", BITS, weights, margin=criteria["vacuous"], closed=True)
    return _q(f"vacuous.{metric}", metric, weights, closed=True), gain


def _against(metric: str, c: str, others: tuple[str, ...], named: str = "") -> tuple[Question, ...]:
    return tuple(_q(f"g.attribution{named}.{q}", metric, {c: 1, q: -1}, closed=True) for q in others)


def _room(metric: str) -> tuple[Question, ...]:
    return (_q(f"0.room.{metric}", metric, {"oracle": 1, "raw": -1}),)


def _agreement(metric: str, roles: Roles, criteria: Mapping[str, Any], parity: str) -> tuple[Question, ...]:
    """Return room, sensitivity, retention, parity and attribution in one metric."""
    c, u, others = roles.candidate, roles.native, (*roles.placebos, *roles.controls)
    sensitive = [_q(f"1.sensitivity.{metric}.{p}", metric, {u: 1, p: -1}) for p in roles.placebos if u]
    kept = _retention("2", metric, roles, criteria["half"])
    level = _parity(f"3.parity.{metric}", metric, c, criteria["parity"], required=parity == "required")
    return (
        *_room(metric), *sensitive, *kept, *([] if parity == "none" else [level]), *_attribution(metric, c, others)
    )  # fmt: skip


def _retention(prefix: str, metric: str, roles: Roles, half: float) -> tuple[Question, ...]:
    c, u = roles.candidate, roles.native
    if u is None:
        return ()
    best = {c: 1 - half} if u == c else {c: 1.0, u: -half}
    return tuple(_q(f"{prefix}.retention.{metric}.{p}", metric, {**best, p: half - 1}) for p in roles.placebos)


def _parity(id: str, metric: str, c: str, share: float, *, required: bool) -> Question:
    return _q(id, metric, {c: 1, "oracle": -share, "raw": share - 1}, required=required)


def _attribution(metric: str, c: str, others: tuple[str, ...]) -> tuple[Question, ...]:
    return tuple(_q(f"4.attribution.{metric}.{q}", metric, {c: 1, q: -1}) for q in others)


def _text(c: str, harm: float) -> tuple[Question, ...]:
    return (
        _benefit("5", c),
        _harm("6", c, harm),
        _q("6.harm.raw", BITS, {c: 1, "raw": -1}, scope="general", margin=-harm, required=False),
    )


def _benefit(prefix: str, c: str) -> Question:
    return _q(f"{prefix}.benefit.{BITS}", BITS, {c: 1, "raw": -1}, closed=True)


def _harm(prefix: str, c: str, harm: float) -> Question:
    return _q(f"{prefix}.harm.oracle", BITS, {c: 1, "oracle": -1}, scope="general", margin=-harm)


def _agreement_ways(metric: str, roles: Roles, criteria: Mapping[str, Any], parity: str) -> tuple[Way, ...]:
    c, share = roles.candidate, criteria["share"]
    kept = tuple(
        _q(f"b.share.{metric}.{p}", metric, {c: 1 - share, p: -1, "raw": share}) for p in roles.placebos
    )  # fmt: skip
    ways = (Way("a", _retention("a", metric, roles, criteria["half"]), True), Way("b", kept, False))
    if parity != "required":
        return ways
    return (*ways, Way("c", (_parity(f"c.parity.{metric}", metric, c, criteria["parity"], required=True),)))


def _text_ways(c: str, harm: float) -> tuple[Way, ...]:
    return (Way("d", (_benefit("d", c),)), Way("e", (_harm("e", c, harm),)))
