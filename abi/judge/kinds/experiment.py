"""An experiment: every statement of it is a study, judged by the tests that it registers.

A statement is SUPPORTED where every required test holds and there is room, REFUTED where an upper bound says the
contrary of some required test (at the level of one of K), VACUOUS where the oracle itself gains next to nothing, or
stays below a floor that the statement registers.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import replace

from abi.base.diagnostics import CODE
from abi.base.names import AGREEMENT, CANDIDATE, ORACLE, TASKS
from abi.base.regimes import EXPERIMENT, Roles
from abi.judge.contrasts import Contrast, Measure, Plan, Questions, Refutation
from abi.judge.fits import ContrastFound, Fit, Row, TableShown
from abi.judge.kinds import Findings, OfStudies, StudiesGiven
from abi.judge.protocol import BPB, Asks
from abi.judge.results import STATEMENTS, ClaimFacts, StudyResult
from abi.judge.studies import judge_studies, same_words
from abi.judge.tables import thresholds_met
from abi.judge.verdict import decided_by
from abi.plan.specs.experiments import BOUNDS, ArmOfExperiment, Asked, Statement, said
from abi.plan.specs.judge import Criteria, JudgeStudy

REGISTERED, OF_PLACEBO = "t.", "p."
"""How the ids of tests begin: those that a statement registers, and the same asked of its placebo."""
FIXED = frozenset({"recipe", "start", "by", "objective", "steps", "rate_of"})
"""What of an arm has a column of its own."""


def of_study(claim: ClaimFacts, study: str) -> Statement:
    """Return the statement of a study, which is named `<statement>-<text>`."""
    found = {f"{name}-{one.text or claim.texts[0]}": one for name, one in claim.statements.items()}
    return found[study]


def studies(claim: ClaimFacts, rounds: int) -> list[str]:
    """Return the studies of an experiment, one per statement."""
    return [f"{name}-{one.text or claim.texts[0]}" for name, one in claim.statements.items()]


def asked(claim: ClaimFacts, study: str, arms: Collection[str], criteria: Criteria) -> Plan:
    """Return what a statement is asked: the tests that it registers, and whether there is room.

    Args: arms: those with agreement; every arm of an experiment has it, so none is asked about.
    """
    statement = of_study(claim, study)
    asks = Asks(Roles(CANDIDATE, (statement.placebo,), ()), criteria)
    room = [*asks.room(asks.agree), *asks.room(BPB)]
    floors = tuple(floor(f"0.floor.{metric}", metric, least) for metric, least in statement.floors.items())
    below = tuple(floor(f"vacuous.floor.{metric}", metric, least) for metric, least in statement.floors.items())
    required = {name: test for name, test in statement.tests.items() if test.required}
    tests = tuple(contrast(f"{REGISTERED}{name}", test, statement) for name, test in statement.tests.items())
    refuting = tuple(contrast(f"x.{name}", test, statement) for name, test in required.items())
    own = Questions((*room, *floors, *tests, *of_placebo(claim, statement)), (Refutation("x", refuting),))
    return Plan(claim.kind, None, asks.roles, tests[0].measure, own, (*asks.vacuous(), *below), {})


def contrast(id: str, test: Asked, statement: Statement) -> Contrast:
    """Return a registered test as a contrast, in which the arm that the statement is about is the candidate."""
    weights = {CANDIDATE if arm == statement.about else arm: weight for arm, weight in test.weights.items()}
    measure = Measure(test.metric, TASKS if test.metric in CODE else test.scope)
    return Contrast(id, measure, weights, margin=test.margin, required=test.required, by=test.by)


def of_placebo(claim: ClaimFacts, statement: Statement) -> tuple[Contrast, ...]:
    """Return the required tests asked of the placebo instead; they decide nothing (protocol section 6, experiment).

    None unless each of them sets the statement's arm against bounds alone, and the placebo was made alike: then a
    placebo that passes says that the tests do not ask for the module that was moved. Against another arm the placebo
    would answer another question than the statement's, and one that passes the rest alone would say nothing.
    """
    required = {name: test for name, test in statement.tests.items() if test.required}
    against = {arm for test in required.values() for arm in test.weights} - {statement.about}
    set_against_bounds = against <= set(BOUNDS) and all(
        t.weights.get(statement.about, 0) > 0 for t in required.values()
    )
    if not set_against_bounds or not alike(claim.arms, statement.about, statement.placebo):
        return ()
    found = []
    for name, test in required.items():
        weights = {statement.placebo if a == statement.about else a: w for a, w in test.weights.items()}
        asked = test.model_copy(update={"weights": weights, "required": False})
        found.append(contrast(f"{OF_PLACEBO}{name}", asked, statement))
    return tuple(found)


def alike(arms: Mapping[str, ArmOfExperiment], one: str, other: str) -> bool:
    """Return whether two arms, and those that they go on from, were made alike but for recipe and learning rate."""
    a, b = arms[one], arms[other]
    left = {"recipe": "", "rate_of": None, "start": None}
    if a.model_copy(update=left) != b.model_copy(update=left) or (a.start is None) != (b.start is None):
        return False
    return a.start is None or b.start is None or alike(arms, a.start, b.start)


def floor(id: str, metric: str, least: float) -> Contrast:
    """Return what an oracle has to reach: above it a test may hold, and below it the statement is VACUOUS."""
    return Contrast(id, Measure(metric, TASKS), {ORACLE: 1}, by=least, closed=True)


def judge(given: StudiesGiven) -> Findings:
    """Return the verdict of all statements; what each says and the seeds that pass the published marks beside it."""
    return _beside(judge_studies(given), given.claim, given.spec)


def again(stored: StudyResult, spec: JudgeStudy, strict: float) -> Findings:
    """Return the tables of a stored result, made again from its fits."""
    return _beside(same_words(stored), stored.claim, spec)


def _beside(found: Findings, claim: ClaimFacts, spec: JudgeStudy) -> Findings:
    limits = dict(spec.protocol.published_criteria)
    tables = [
        statement_table(claim, found.fits, spec.protocol.criteria),
        arms_table(claim),
        passes_table(found.fits, limits),
    ]
    return replace(found, tables=tables)


def statement_table(claim: ClaimFacts, fits: Mapping[str, Fit], criteria: Criteria) -> TableShown:
    """Return the table of statements with their words and deciding figures."""
    rows: list[Row] = []
    for study, fit in fits.items():
        statement, one = of_study(claim, study), deciding(claim, fit, criteria)
        bounds = (None, None) if one.interval is None else (one.interval.lower, one.interval.upper)
        figure = fit.arms[CANDIDATE].of(one.scope).get(one.metric)
        own = [None if figure is None else figure.mean, passes_too(fit)]
        found = [one.contrast, one.metric, one.mean, *bounds, one.limit]
        rows.append([study, said(statement), fit.verdict, statement.about, *own, *found])
    caption = (
        "What the original says in our words, and the contrast that decides: figures are turned so that more is "
        "better, and the limit is what it has to exceed. The arm that a statement is about is `candidate` in its "
        "study; `figure` is its own in that metric. `placebo`: whether the required tests hold of the placebo too, "
        "where they set the arm against bounds alone and the placebo was made alike."
    )
    decides = ["contrast", "metric", "mean", "lower", "upper", "limit"]
    columns = ["study", "statement", "verdict", "candidate", "figure", "placebo", *decides]
    return TableShown(id=STATEMENTS, title="Statements", caption=caption, columns=columns, rows=rows)


def deciding(claim: ClaimFacts, fit: Fit, criteria: Criteria) -> ContrastFound:
    """Return the contrast that decides, and where all holds the registered test that holds by the fewest half-widths
    of its interval.
    """
    found = {item.id: item for _, item in fit.contrasts()}
    tests = [test for test in fit.tests if test.required and test.id.startswith(REGISTERED) and test.interval]
    if fit.verdict != "SUPPORTED" or not tests:
        return found[decided_by(fit, asked(claim, fit.fit, set(fit.arms), criteria), criteria)]
    return min(tests, key=room_left)


def room_left(test: ContrastFound) -> float:
    """Return by how many half-widths of its interval a mean lies above its limit."""
    return math.inf if test.interval is None else test.interval.clearance(test.limit or 0.0)


def passes_too(fit: Fit) -> str:
    """Return whether the required tests hold of the placebo too: yes, no, or `-` where they cannot be asked of it."""
    asked = [test for test in fit.tests if test.id.startswith(OF_PLACEBO)]
    if not asked or any(test.interval is None for test in asked):
        return "-"
    return "yes" if all(test.passed for test in asked) else "no"


def arms_table(claim: ClaimFacts) -> TableShown:
    """Return how every arm of an experiment is made and fitted."""
    rows: list[Row] = []
    for name, arm in claim.arms.items():
        how = {"steps": f"{arm.objective}, {arm.steps:g} of the steps", "solve": "closed form", "nothing": "not fitted"}
        varied = arm.given(*(key for key in type(arm).model_fields if key not in FIXED))
        told = ", ".join(f"{key} {value}" for key, value in varied.items())
        rows.append([name, arm.start or arm.recipe, how[arm.by], told or "-", arm.rate_of or "-"])
    return TableShown(
        id="arms",
        title="Arms",
        caption="How each is made and fitted; an arm without `rate of` that takes steps chose its own rate.",
        columns=["arm", "made as, or goes on from", "fitted", "what else differs", "rate of"],
        rows=rows,
    )


def passes_table(fits: Mapping[str, Fit], limits: Mapping[str, float]) -> TableShown:
    """Return in how many seeds every arm meets all four published thresholds, by its means over groups."""
    rows: list[Row] = []
    for study, fit in fits.items():
        for arm, entry in fit.arms.items():
            if all(metric in entry.domain for metric in AGREEMENT):
                seeds = [str(seed) for seed in fit.counts.seeds]
                of = ({metric: entry.domain[metric].per_seed[seed] for metric in AGREEMENT} for seed in seeds)
                passed = sum(all(thresholds_met(means, limits).values()) for means in of)
                rows.append([study, arm, passed, len(seeds)])
    return TableShown(
        id="passes",
        title="Seeds that meet the published thresholds",
        caption="All four of them at once; they decide nothing.",
        columns=["study", "arm", "seeds that pass", "seeds"],
        rows=rows,
    )


JUDGED = (OfStudies(EXPERIMENT, studies, judge, again, asked),)
