"""A module carried over updates of its backbone, dose by dose, or over several rounds of one (protocol section 6).

The original's efficacies E1 to E5 and its pass rules of C4 to C6 stand beside the verdict and decide nothing.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

from abi.base.manifests.pages import GenerationManifest
from abi.base.names import (
    BEFORE,
    BEFORE_OFF,
    ORACLE,
    ORACLE_BEFORE,
    ORACLE_OFF,
    RANDOM,
    RANDOM_NET,
    RANDOM_OFF,
    RAW,
    ZERO_SHOT,
    ZERO_SHOT_FREE,
    ZERO_SHOT_OFF,
)
from abi.base.regimes import SURVIVED
from abi.judge.contrasts import Contrast, Plan, Questions, Refutation
from abi.judge.fits import Check, Curve, Fit, Ratio, Row, Series, TableShown, ends_of
from abi.judge.kinds import Findings, OfStudies, StudiesGiven
from abi.judge.protocol import BPB, Asks
from abi.judge.results import ClaimFacts, StudyResult, of_doses
from abi.judge.studies import check, judge_studies, same_words
from abi.plan.specs.judge import Criteria, JudgeStudy
from abi.plan.specs.studies import UpdateSection

OFF = {BEFORE: BEFORE_OFF, ZERO_SHOT: ZERO_SHOT_OFF, ORACLE: ORACLE_OFF}
"""An arm -> the same module without its net."""
DRAWN = (RAW, ZERO_SHOT, ZERO_SHOT_FREE, RANDOM_NET, ORACLE, BEFORE)
EFFICACY, WITHOUT = "u.efficacy.bits_per_byte", "u.without.bits_per_byte"
"""The test of what the module keeps of the oracle's gain with the stability term, and the same without it."""


def update_plan(criteria: Criteria, kind: str = "update") -> Plan:
    """Return what the survival of one dose is asked, in bits per byte on one text (protocol section 6).

    SUPPORTED: there is room, zero-shot covers at least half of the oracle's gain, and it is better than the module
    after an update without the stability term, than a random module and than its own interface around a random net.
    REFUTED: an upper bound says the contrary. VACUOUS: no room, or the module keeps nine tenths without the term.
    """
    asks, half, keeps = Asks(SURVIVED, criteria), criteria.half, criteria.keeps
    c, free = SURVIVED.candidate, ZERO_SHOT_FREE
    efficacy = Contrast(EFFICACY, BPB, {c: 1, ORACLE: -half, RAW: half - 1})
    without = Contrast(WITHOUT, BPB, {free: 1, ORACLE: -half, RAW: half - 1}, required=False)
    # an upper bound below 0 of the one is a lower bound above 0 of what the module keeps without the term
    threat = Contrast("vacuous.threat.bits_per_byte", BPB, {ORACLE: keeps, RAW: 1 - keeps, free: -1})
    beside = [
        Contrast(f"{name}.{arm}", BPB, {c: 1, arm: -1}, required=False)
        for name, arm in (("u.drift", BEFORE), ("u.net", ZERO_SHOT_OFF))
    ]
    needed = (*asks.room(BPB), efficacy, *asks.better(BPB), asks.benefit("5.benefit.bits_per_byte"))
    refutations = (Refutation("u", (efficacy,)), Refutation("g", asks.beaten(BPB)), asks.text_refutations()[0])
    questions = Questions((*needed, without, *beside), refutations)
    return Plan(kind, None, SURVIVED, BPB, questions, (asks.no_gain(), threat), {})


@dataclass(frozen=True)
class Dose:
    """One update as a study: text and steps in all, the highest rate, the domain text that is measured."""

    study: str
    on: str
    steps: int
    rate: float
    text: str

    @classmethod
    def of(cls, study: str, update: UpdateSection, rounds: int, text: str) -> Self:
        """Return the dose of some rounds of an update."""
        phases = update.training.phases
        steps, rate = rounds * sum(phase.steps for phase in phases), max(phase.lr for phase in phases)
        return cls(study, update.text, steps, rate, text)


def studies(claim: ClaimFacts, rounds: int) -> list[str]:
    """Return the studies of a claim: every text after every dose, which is an update, or a round of a succession."""
    doses = claim.updates or [f"round{number}" for number in range(1, rounds + 1)]
    return [f"{dose}-{text}" for dose in doses for text in claim.texts]


def doses_of(claim: ClaimFacts, spec: JudgeStudy) -> list[Dose]:
    """Return the dose of every study, in the claim's order: of one text from the least to the largest."""
    if claim.updates:
        given = [(spec.updates[update], 1) for update in claim.updates]
    else:
        given = [(spec.updates[str(claim.update)], number) for number in range(1, spec.rounds + 1)]
    pairs = [(update, rounds, text) for update, rounds in given for text in claim.texts]
    return [Dose.of(name, *of) for name, of in zip(studies(claim, spec.rounds), pairs, strict=True)]


def asked(claim: ClaimFacts, study: str, arms: Collection[str], criteria: Criteria) -> Plan:
    """Return what the survival of an update is asked, in bits per byte."""
    return update_plan(criteria, claim.kind)


def judge(given: StudiesGiven) -> Findings:
    """Return the verdict of all doses; what was survived, efficacies and generated texts beside it."""
    found, written = judge_studies(given), given.generation
    if written is None:
        return _beside(found, given.claim, given.spec, given.perplexity, None)
    found = _beside(found, given.claim, given.spec, given.perplexity, written.ratio)
    return replace(found, tables=[*found.tables, generation_table(written)])


def again(stored: StudyResult, spec: JudgeStudy, strict: float) -> Findings:
    """Return doses, efficacies, pass rules and curves of a stored result, made again from perplexities and fits."""
    texts = [row for table in stored.tables if table.id == "generation" for row in table.rows]
    ratios = [float(str(row[2])) for row in texts if row[0] == "module"]
    ratio = math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else None
    return _beside(same_words(stored), stored.claim, spec, stored.perplexity, ratio)


def _beside(
    found: Findings, claim: ClaimFacts, spec: JudgeStudy, ppl: Mapping[str, Mapping[str, float]], ratio: float | None
) -> Findings:
    doses = doses_of(claim, spec)
    return replace(
        found,
        tables=[dose_table(doses, found.fits), largest_table(doses, found.fits), efficacy_table(found.fits, ppl)],
        checks=update_checks(claim, list(found.fits), ppl, ratio),
        curves=round_curves(claim, found.fits) if claim.kind == "succession" else [],
    )


def survived(fit: Fit, test: str) -> bool:
    """Return whether a stored test of a study passes. Args: test: `EFFICACY`, or `WITHOUT` the stability term."""
    return next(item.passed for item in fit.tests if item.id == test)


def dose_table(doses: Sequence[Dose], fits: Mapping[str, Fit]) -> TableShown:
    """Return the table of doses: how strong each was, what the module kept with the term and without, and the word."""
    rows: list[Row] = []
    for dose in doses:
        fit = fits[dose.study]
        kept = (fit.gap_closures.get(arm) for arm in (ZERO_SHOT, ZERO_SHOT_FREE))
        parts = [None if ratio is None else ratio.estimate for ratio in kept]
        yes = ["yes" if survived(fit, test) else "no" for test in (EFFICACY, WITHOUT)]
        rows.append([dose.study, dose.on, dose.steps, dose.rate, dose.text, *parts, *yes, fit.verdict])
    columns = ["study", "updated on", "steps", "rate", "measured on", "kept with the term", "kept without"]
    columns += ["survived with the term", "survived without", "verdict"]
    caption = (
        "What the module keeps of the gain of an oracle trained on the updated backbone. Survived: at least half, by "
        "the lower bound. A dose is VACUOUS where the module keeps nine tenths without the stability term."
    )
    return TableShown(id="doses", title="Doses", caption=caption, columns=columns, rows=rows)


def largest_table(doses: Sequence[Dose], fits: Mapping[str, Fit]) -> TableShown:
    """Return the table of the largest dose survived, of every text that is updated on and every domain text."""
    rows: list[Row] = []
    for on, text in dict.fromkeys((dose.on, dose.text) for dose in doses):
        own = [dose for dose in doses if (dose.on, dose.text) == (on, text)]
        row: Row = [on, text]
        for test in (EFFICACY, WITHOUT):
            kept = [dose for dose in own if survived(fits[dose.study], test)]
            row += [kept[-1].study, kept[-1].steps, kept[-1].rate] if kept else [None, None, None]
        rows.append(row)
    named = [f"{name} {how} the term" for how in ("with", "without") for name in ("largest", "steps", "rate")]
    return TableShown(
        id="largest-doses",
        title="Largest dose survived",
        caption="The last dose of its ladder whose lower bound keeps half of the oracle's gain; empty where none does.",
        columns=["updated on", "measured on", *named],
        rows=rows,
    )


class Efficacies(NamedTuple):
    """The protocol's efficacy and the record's of one study; None where a denominator is not positive."""

    protocol: float | None
    e1: float | None
    e2: float | None
    e3: float | None
    e4: float | None
    e5: float


def efficacies(ppl: Mapping[str, float], closure: Ratio | None) -> Efficacies:
    """Return the efficacies of one study. Args: ppl: arm -> perplexity; closure: the protocol's, in bits per byte."""
    gain = {arm: _gain(ppl, arm) for arm in (ZERO_SHOT, ORACLE)}
    cold = (ppl[RANDOM] - ppl[ORACLE]) / ppl[RANDOM]
    return Efficacies(
        protocol=None if closure is None else closure.estimate,
        e1=_part(ppl[RAW] - ppl[ZERO_SHOT], ppl[RAW] - ppl[ORACLE_BEFORE]),
        e2=_part(gain[ZERO_SHOT], gain[ORACLE]),
        e3=_part(gain[ZERO_SHOT], cold),
        e4=_part(ppl[RANDOM_OFF] - ppl[ZERO_SHOT], ppl[RANDOM_OFF] - ppl[ORACLE]),
        e5=ppl[ZERO_SHOT] / ppl[ORACLE],
    )


def _gain(ppl: Mapping[str, float], arm: str) -> float:
    """Return (off - on) / off of a module."""
    return (ppl[OFF[arm]] - ppl[arm]) / ppl[OFF[arm]]


def _part(numerator: float, denominator: float) -> float | None:
    return numerator / denominator if denominator > 0 else None


def efficacy_table(fits: Mapping[str, Fit], ppl: Mapping[str, Mapping[str, float]]) -> TableShown:
    """Return the table of efficacies of every study: the protocol's with its interval, the record's beside it."""
    rows: list[Row] = []
    for study, judged in fits.items():
        closure = judged.gap_closures.get(ZERO_SHOT)
        protocol, *published = efficacies(ppl[study], closure)
        rows.append([study, protocol, *ends_of(closure), *published])
    caption = (
        "Efficacy of the protocol: (raw - zero-shot) / (raw - oracle) on the updated backbone in bits per byte, with "
        "its 95 % set. E1 to E5 are the record's, from perplexities: E1 divides by a gain measured on the backbone "
        "before the update, E2 and E3 by relative gains on other bases, E4 starts from an untrained interface, E5 is a "
        "ratio of perplexities (1 is parity, above is worse)."
    )
    columns = ["study", "efficacy", "lower", "upper", "E1", "E2", "E3", "E4", "E5"]
    return TableShown(id="efficacies", title="Efficacies", caption=caption, columns=columns, rows=rows)


def update_checks(
    claim: ClaimFacts, studies: list[str], ppl: Mapping[str, Mapping[str, float]], ratio: float | None
) -> list[Check]:
    """Return the original's pass rules of an update or a succession (C4 to C6). Args: ratio: of generated text."""
    if claim.kind == "succession":
        return _succession_checks(claim, studies, ppl)
    own = ppl[studies[0]]
    found = efficacies(own, None)
    if ratio is None:
        return [check("E1", "published rule of the T5 update", found.e1, 0.50)]
    tiers = [
        check("S1", "gain of the domain net before the update", _gain(own, BEFORE), 0.03, above=True),
        check("S2", "zero-shot gain after the update", _gain(own, ZERO_SHOT), 0.03, above=True),
        check("S3", "E2", found.e2, 0.50),
    ]
    words = "perplexity of the last over the first part of generated text, to stay below"
    whole = all(tier.passed for tier in tiers)
    fourth = Check(id="S4", words=words, value=ratio, threshold=3.0, passed=ratio < 3.0)
    return [*tiers, fourth, Check(id="S5", words="S1, S2 and S3", value=None, threshold=None, passed=whole)]


def _succession_checks(claim: ClaimFacts, studies: list[str], ppl: Mapping[str, Mapping[str, float]]) -> list[Check]:
    last = {text: [study for study in studies if study.endswith(f"-{text}")][-1] for text in claim.texts}
    start = min(_gain(ppl[f"round1-{text}"], BEFORE) for text in claim.texts)
    gains = {study: _gain(ppl[study], ZERO_SHOT) for study in studies}
    e3 = {text: efficacies(ppl[study], None).e3 for text, study in last.items()}
    return [
        check("start", "least gain of a domain before any update", start, 0.03, above=True),
        *(check(study, f"zero-shot gain of {study}", gain, 0.03, above=True) for study, gain in gains.items()),
        *(check(f"efficacy-{text}", f"E3 of {text} after the last round", found, 0.40) for text, found in e3.items()),
        check("all-rounds", "least zero-shot gain of all rounds and domains", min(gains.values()), 0.03, above=True),
    ]


def generation_table(generation: GenerationManifest) -> TableShown:
    """Return the table of generated texts: ratio of perplexities and variety, with the module and without."""
    rows: list[Row] = [
        [sample.arm, sample.seed, sample.ratio, sample.distinct4, sample.text[:80]] for sample in generation.samples
    ]
    caption = (
        "Greedy, 100 tokens after 20 random ones. Ratio: perplexity of the last quarter over that of the first, the "
        "original's figure; text that repeats itself passes it, so the share of different 4-grams stands beside it."
    )
    columns = ["arm", "seed", "ratio", "different 4-grams", "begins with"]
    return TableShown(id="generation", title="Generated text", caption=caption, columns=columns, rows=rows)


def round_curves(claim: ClaimFacts, fits: Mapping[str, Fit]) -> list[Curve]:
    """Return bits per byte by round for every text of a succession."""
    curves = []
    for text in claim.texts:
        own = {int(study[5:].split("-")[0]): judged for study, judged in fits.items() if study.endswith(f"-{text}")}
        series = [
            Series.of(arm, {float(number): judged.arms[arm].domain[BPB.metric] for number, judged in own.items()})
            for arm in DRAWN
        ]
        caption = (
            f"Held-out {text} text after every round of updates; "
            "`before` is the module on the backbone it was trained beside."
        )
        curves.append(
            Curve(
                id=f"rounds-{text}",
                title=f"Rounds of updates, {text}",
                x_label="round",
                y_label="bits per byte (less is better)",
                caption=caption,
                log_x=False,
                series=series,
            )
        )
    return curves


JUDGED = tuple(OfStudies(kind, studies, judge, again, asked, of_doses) for kind in ("update", "succession"))
