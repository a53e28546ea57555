"""Regimes, kinds of claims and metrics, each said once; who plays which role of the protocol in them.

A new regime or kind is one entry here beside what judges it.
"""

from dataclasses import dataclass
from typing import Literal

from abi.base.catalogue import fitted_in
from abi.base.names import (
    BEFORE,
    BIAS,
    CANDIDATE,
    CHART,
    HOME,
    LINEAR,
    NO_DOMAIN,
    ORACLE,
    PERMUTED,
    RANDOM,
    RANDOM_NET,
    RAW,
    REFERENCE,
    SHARED,
    TRANSFERRED,
    WRONG_DOMAIN,
    ZERO_SHOT,
    ZERO_SHOT_FREE,
    ZERO_SHOT_OFF,
)


@dataclass(frozen=True)
class Roles:
    """Which arm plays which part of the protocol.

    Args: candidate: C, the claimed arm; placebos: each P; controls: each Q; home: U, the positive control, None without
        one; of_agreement: controls that are asked about in agreement alone; raw: R, the plain backbone; oracle: F.
    """

    candidate: str
    placebos: tuple[str, ...]
    controls: tuple[str, ...]
    home: str | None = None
    of_agreement: tuple[str, ...] = ()
    raw: str = RAW
    oracle: str = ORACLE

    def needed(self) -> tuple[str, ...]:
        """Return every arm the rule reads, once."""
        names = (self.raw, self.oracle, self.home, self.candidate, *self.placebos, *self.controls)
        return tuple(dict.fromkeys(name for name in names if name))


MOVED = Roles(TRANSFERRED, (RANDOM, PERMUTED), (LINEAR, BIAS, NO_DOMAIN), home=HOME)
AS_IS = Roles(TRANSFERRED, (RANDOM, PERMUTED), (BIAS, NO_DOMAIN, WRONG_DOMAIN))
REGRESSED = Roles(CANDIDATE, (RANDOM,), (LINEAR, BEFORE), home=CANDIDATE, of_agreement=(BEFORE,))
SURVIVED = Roles(ZERO_SHOT, (RANDOM, RANDOM_NET), (ZERO_SHOT_FREE,))


@dataclass(frozen=True)
class RegimeEntry:
    """What the target side may see (protocol section 3).

    Args: parity: part of the verdict, reported, or not asked.
    """

    name: str
    roles: Roles
    parity: Literal["required", "reported", "none"]
    lesson: str
    """Module of `abi.arms` that reads what is taught, "" where nothing is calibrated; the digest of a job covers that
    of its own regime alone."""
    trained: tuple[str, ...]
    """Roles of the trained modules that its calibration reads."""
    has_control: bool = True
    """Whether a positive control is made there."""
    closed_form: bool = True
    ladder: bool = False
    """Whether its fits are a ladder of windows of domain text."""
    sees_domain_text: bool = True
    """Whether the target side sees any text of the domain."""
    sees_all_training_text: bool = False
    taught_by: str | None = None
    """Role of the target's own module whose corrections are taught, where one is."""


REGIMES: dict[str, RegimeEntry] = {
    regime.name: regime
    for regime in (
        RegimeEntry(
            "oracle-kd",
            MOVED,
            "required",
            "domain_lesson",
            ("source", "oracle", "home", "wrong"),
            sees_all_training_text=True,
            taught_by=ORACLE,
        ),
        RegimeEntry(
            "few-shot",
            MOVED,
            "reported",
            "few_shot_lesson",
            ("source", "oracle", "home", "wrong"),
            closed_form=False,
            ladder=True,
        ),
        RegimeEntry(
            "general-only",
            MOVED,
            "reported",
            "general_lesson",
            ("source", "wrong"),
            has_control=False,
            sees_domain_text=False,
        ),
        RegimeEntry(
            "zero-text",
            AS_IS,
            "reported",
            "",
            (),
            has_control=False,
            closed_form=False,
            sees_domain_text=False,
        ),
        RegimeEntry(
            "reconstruction",
            REGRESSED,
            "none",
            "domain_lesson",
            ("before", "reference"),
            sees_all_training_text=True,
            taught_by=REFERENCE,
        ),
    )
}


def transfer_regimes() -> tuple[str, ...]:
    """Return the regimes of a transfer, from the one that sees most of the domain to the one that sees none."""
    return tuple(name for name, regime in REGIMES.items() if regime.roles.candidate == MOVED.candidate)


def required_in(regime: str) -> tuple[str, ...]:
    """Return the fitted arms without which there is no verdict in a regime."""
    entry, fitted = REGIMES[regime], fitted_in(regime)
    asked = [arm for arm in entry.roles.needed() if entry.has_control or arm != entry.roles.home]
    return tuple(arm for arm in asked if arm in fitted)


def possible_in(regime: str) -> tuple[str, ...]:
    """Return every arm that can be fitted in a regime, the required ones first."""
    return tuple(dict.fromkeys((*required_in(regime), *fitted_in(regime))))


@dataclass(frozen=True)
class Kind:
    """A kind of claim.

    Args: form: `claim` (evidence of its own, in regimes), `studies` (made of several) or `ladder` (about other claims);
        claimed: the arm it is about; controls: arms that move no knowledge, counted beside the published criteria.
    """

    name: str
    form: Literal["claim", "studies", "ladder"]
    claimed: str = ""
    controls: tuple[str, ...] = ()
    words: str = "the claimed arm"
    carded: bool = False


EXPERIMENT = "experiment"
"""The kind of the original's further experiments."""
CARRIED_OVER = "the module carried over the update"
UPDATED_CONTROLS = (RAW, RANDOM, RANDOM_NET, ZERO_SHOT_OFF)
KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "transfer", "claim", TRANSFERRED, (RAW, RANDOM, PERMUTED, LINEAR, BIAS, NO_DOMAIN), carded=True,
            words="the moved module",
        ),
        Kind(
            "near_transfer", "claim", TRANSFERRED, (RAW, RANDOM, PERMUTED, LINEAR, BIAS, NO_DOMAIN),
            words="the moved module",
        ),
        Kind(
            "reconstruction", "claim", CANDIDATE, (RAW, RANDOM, LINEAR, BEFORE), carded=True,
            words="the regressed module",
        ),
        Kind("update", "studies", ZERO_SHOT, UPDATED_CONTROLS, words=CARRIED_OVER),
        Kind("succession", "studies", ZERO_SHOT, UPDATED_CONTROLS, words=CARRIED_OVER),
        Kind("scaling_law", "studies"),
        Kind("atlas", "studies", CHART, (RAW, RANDOM, PERMUTED, LINEAR, SHARED), words="the domain's own chart"),
        Kind(EXPERIMENT, "studies", CANDIDATE, (RAW, RANDOM, LINEAR), words="the arm that is asked about"),
        Kind("ladder", "ladder"),
        Kind("dose", "ladder"),
        Kind("aggregate", "ladder"),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Metric:
    """A figure of one document. Args: unit: of the value."""

    name: str
    lower_is_better: bool
    unit: str = ""


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("js_nats", True, "nats"),
        Metric("top1", False),
        Metric("top5", False),
        Metric("entropy_diff_nats", True, "nats"),
        Metric("bits_per_byte", True, "bits per byte"),
        Metric("loss_nats", True, "nats per token"),
        Metric("top5_margin", False, "probability"),  # P(rank 5) - P(rank 6): `arms/metrics.margins`
    )
}
"""The first is the primary one of the protocol. `teacher_<metric>`: the same agreement, with the teacher."""
