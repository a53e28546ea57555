"""A module carried over an update of its backbone, or over several (protocol section 6).

The original's efficacies E1 to E5 and its pass rules of C4 to C6 stand beside the verdict and decide nothing.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import replace

from abi.base.catalogue import (
    BEFORE,
    BEFORE_OFF,
    ORACLE,
    ORACLE_BEFORE,
    ORACLE_OFF,
    RANDOM,
    RANDOM_NET,
    RANDOM_OFF,
    RAW,
    SURVIVED,
    ZERO_SHOT,
    ZERO_SHOT_FREE,
    ZERO_SHOT_OFF,
)
from abi.base.page_manifests import GenerationManifest
from abi.judge.contrasts import Contrast, Plan, Questions, Refutation
from abi.judge.fits import Check, Curve, Fit, Ratio, Row, Series, TableShown
from abi.judge.kinds import Findings, OfStudies, StudiesGiven
from abi.judge.protocol import BPB, Asks
from abi.judge.results import ClaimFacts, StudyResult
from abi.judge.studies import check, judge_studies, same_words
from abi.plan.specs.judge import Criteria, JudgeStudy

OFF = {BEFORE: BEFORE_OFF, ZERO_SHOT: ZERO_SHOT_OFF, ORACLE: ORACLE_OFF}
"""An arm -> the same module without its net."""
DRAWN = (RAW, ZERO_SHOT, ZERO_SHOT_FREE, RANDOM_NET, ORACLE, BEFORE)


def update_plan(criteria: Criteria, kind: str = "update") -> Plan:
    """Return what the survival of an update is asked, in bits per byte on one text (protocol section 6).

    SUPPORTED: there is room, zero-shot covers at least half of the oracle's gain, and it is better than the module
    after an update without the stability term and than a random module. REFUTED: an upper bound says the contrary.
    """
    asks, half, c = Asks(SURVIVED, criteria), criteria.half, SURVIVED.candidate
    efficacy = Contrast("u.efficacy.bits_per_byte", BPB, {c: 1, ORACLE: -half, RAW: half - 1})
    beside = [
        Contrast(f"{name}.{arm}", BPB, {c: 1, arm: -1}, required=False)
        for name, arm in (("u.drift", BEFORE), ("u.net", ZERO_SHOT_OFF), ("u.net", RANDOM_NET))
    ]
    tests = (*asks.room(BPB), efficacy, *asks.better(BPB), asks.benefit("5.benefit.bits_per_byte"), *beside)
    refutations = (Refutation("u", (efficacy,)), Refutation("g", asks.beaten(BPB)), asks.text_refutations()[0])
    return Plan(kind, None, SURVIVED, BPB, Questions(tests, refutations), (asks.no_gain(),), {})


def studies(claim: ClaimFacts, rounds: int) -> list[str]:
    """Return the studies of a claim: every text after every round."""
    return [f"round{number}-{text}" for number in range(1, rounds + 1) for text in claim.texts]


def asked(claim: ClaimFacts, study: str, arms: Collection[str], criteria: Criteria) -> Plan:
    """Return what the survival of an update is asked, in bits per byte."""
    return update_plan(criteria, claim.kind)


def judge(given: StudiesGiven) -> Findings:
    """Return the verdict of all rounds and texts; efficacies and generated texts beside it."""
    found, written = judge_studies(given, asked), given.generation
    if written is None:
        return _beside(found, given.claim, given.perplexity, None)
    found = _beside(found, given.claim, given.perplexity, written.ratio)
    return replace(found, tables=[*found.tables, generation_table(written)])


def again(stored: StudyResult, spec: JudgeStudy, strict: float) -> Findings:
    """Return efficacies, pass rules and curves of a stored result, made again from its perplexities and fits."""
    texts = [row for table in stored.tables if table.id == "generation" for row in table.rows]
    ratios = [float(str(row[2])) for row in texts if row[0] == "module"]
    ratio = math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else None
    return _beside(same_words(stored), stored.claim, stored.perplexity, ratio)


def _beside(
    found: Findings, claim: ClaimFacts, ppl: Mapping[str, Mapping[str, float]], ratio: float | None
) -> Findings:
    return replace(
        found,
        tables=[efficacy_table(found.fits, ppl)],
        checks=update_checks(claim, list(found.fits), ppl, ratio),
        curves=round_curves(claim, found.fits) if claim.kind == "succession" else [],
    )


def efficacies(ppl: Mapping[str, float], closure: Ratio | None) -> dict[str, float | None]:
    """Return the protocol's efficacy and the record's E1 to E5 of one study; None where a denominator is not positive.

    Args: ppl: arm -> perplexity; closure: the protocol's, in bits per byte.
    """
    gain = {arm: _gain(ppl, arm) for arm in (ZERO_SHOT, ORACLE)}
    cold = (ppl[RANDOM] - ppl[ORACLE]) / ppl[RANDOM]
    return {
        "protocol": None if closure is None else closure.estimate,
        "E1": _part(ppl[RAW] - ppl[ZERO_SHOT], ppl[RAW] - ppl[ORACLE_BEFORE]),
        "E2": _part(gain[ZERO_SHOT], gain[ORACLE]),
        "E3": _part(gain[ZERO_SHOT], cold),
        "E4": _part(ppl[RANDOM_OFF] - ppl[ZERO_SHOT], ppl[RANDOM_OFF] - ppl[ORACLE]),
        "E5": ppl[ZERO_SHOT] / ppl[ORACLE],
    }


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
        found = efficacies(ppl[study], closure)
        rows.append([study, found["protocol"], *bounds(closure), *(found[f"E{i}"] for i in range(1, 6))])
    caption = (
        "Efficacy of the protocol: (raw - zero-shot) / (raw - oracle) on the updated backbone in bits per byte, with "
        "its 95 % set. E1 to E5 are the record's, from perplexities: E1 divides by a gain measured on the backbone "
        "before the update, E2 and E3 by relative gains on other bases, E4 starts from an untrained interface, E5 is a "
        "ratio of perplexities (1 is parity, above is worse)."
    )
    columns = ["study", "efficacy", "lower", "upper", "E1", "E2", "E3", "E4", "E5"]
    return TableShown(id="efficacies", title="Efficacies", caption=caption, columns=columns, rows=rows)


def bounds(closure: Ratio | None) -> tuple[float | None, float | None]:
    """Return the ends of a bounded set, or (None, None)."""
    if closure is None or not closure.bounded:
        return None, None
    return closure.pieces[0][0], closure.pieces[-1][1]


def update_checks(
    claim: ClaimFacts, studies: list[str], ppl: Mapping[str, Mapping[str, float]], ratio: float | None
) -> list[Check]:
    """Return the original's pass rules of an update or a succession (C4 to C6). Args: ratio: of generated text."""
    if claim.kind == "succession":
        return _succession_checks(claim, studies, ppl)
    own = ppl[studies[0]]
    found = efficacies(own, None)
    if ratio is None:
        return [check("E1", "E1, published rule of the T5 update", found["E1"], 0.50)]
    tiers = [
        check("S1", "gain of the domain net before the update", _gain(own, BEFORE), 0.03, above=True),
        check("S2", "zero-shot gain after the update", _gain(own, ZERO_SHOT), 0.03, above=True),
        check("S3", "E2", found["E2"], 0.50),
    ]
    words, whole = "perplexity of the last over the first part of generated text", all(tier.passed for tier in tiers)
    fourth = Check(id="S4", words=words, value=ratio, threshold=3.0, passed=ratio < 3.0)
    return [*tiers, fourth, Check(id="S5", words="S1, S2 and S3", value=None, threshold=None, passed=whole)]


def _succession_checks(claim: ClaimFacts, studies: list[str], ppl: Mapping[str, Mapping[str, float]]) -> list[Check]:
    last = {text: [study for study in studies if study.endswith(f"-{text}")][-1] for text in claim.texts}
    start = min(_gain(ppl[f"round1-{text}"], BEFORE) for text in claim.texts)
    gains = {study: _gain(ppl[study], ZERO_SHOT) for study in studies}
    e3 = {text: efficacies(ppl[study], None)["E3"] for text, study in last.items()}
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


JUDGED = (OfStudies("update", studies, judge, again, asked), OfStudies("succession", studies, judge, again, asked))
