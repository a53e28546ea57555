"""What `abi check` refuses of an experiment: what would fail in its job, or would be left out there in silence."""

import copy
import re

import pytest
from evidence_rows import ROOT
from made_results import WORKFLOW

from abi.plan.experiment_faults import READ, recipes_for
from abi.plan.faults import Faults
from abi.plan.kinds.experiment import ExperimentClaim, OfExperiment

CLAIM = {
    "title": "whether patience pays",
    "statement": "A moved module gains nothing by more than a quarter of the steps.",
    "kind": "experiment",
    "backbone": "gpt2_medium",
    "module": "standard",
    "texts": ["python"],
    "fit": "kd",
    "seeds": 3,
    "record": {"result_file": "patience.json"},
    "arms": {
        "long": {"recipe": "transferred", "by": "steps", "objective": "kd"},
        "short": {"recipe": "transferred", "by": "steps", "steps": 0.25, "rate_of": "long"},
        "solved": {"recipe": "transferred", "by": "solve"},
        "after": {"recipe": "transferred", "start": "solved", "by": "steps"},
        "noisy": {"recipe": "transferred", "start": "solved", "noise": "null", "size": 0.5},
        "random": {"recipe": "random", "by": "steps"},
        "linear": {"recipe": "linear", "by": "solve"},
    },
    "statements": {
        "enough": {
            "says": "A quarter of the steps is enough.",
            "about": "short",
            "placebo": "random",
            "tests": {"as-long": {"weights": {"short": 1, "long": -1}, "margin": -0.01}},
        }
    },
}


def claim_with(change):
    claim = copy.deepcopy(CLAIM)
    change(claim, claim["arms"], claim["statements"]["enough"])
    return ExperimentClaim.model_validate(claim)


def told(change):
    faults = Faults(WORKFLOW.config.scale, {}, [], [])
    OfExperiment.check(claim_with(change), "claims.patience", faults)
    return faults.sentences


def arm(**keys):
    return lambda c, arms, s: arms.update(extra={"recipe": "transferred", **keys})


def ask(**keys):
    return lambda c, arms, s: s["tests"].update(extra=keys)


def update(**keys):
    """The same claim on updates, with an arm that has some keys."""

    def change(claim, arms, statement):
        arms.clear()
        of = {"update": "gpt2_medium_general_fast"}
        arms.update(short={"recipe": "source", **of}, random={"recipe": "random-net", **of})
        arms.update(long={"recipe": "source", **of, "way": "free"})
        statement["tests"]["as-long"]["metric"] = keys.pop("metric", "bits_per_byte")
        if keys:
            arms["extra"] = keys

    return change


SOUND = {
    "as it stands": lambda c, arms, s: None,
    "on updates": update(),
    "agreement with a limit of its own": ask(weights={"solved": 1}, metric="top1", by=0.5),
    "a multiple in figures of code": ask(weights={"solved": 1, "raw": -1.3}, metric="keywords.greedy"),
    "a part of the JS of another": ask(weights={"solved": 1, "reference": -0.1}, metric="teacher_js_nats"),
    "bits per byte on general text": ask(weights={"solved": 1, "raw": -1}, metric="bits_per_byte", scope="general"),
    "a diagnostic on general text": ask(weights={"solved": 1, "raw": -1}, metric="five_kept", scope="general"),
    "noise on the plain backbone": lambda c, arms, s: arms.update(extra={"recipe": "raw", "noise": "state", "size": 1}),
    "a bias that is solved": lambda c, arms, s: arms.update(extra={"recipe": "bias", "by": "solve"}),
    "noise of size 0 that is asked for": arm(start="solved", noise="abi", size=0),
}


@pytest.mark.parametrize("name", SOUND)
def test_what_an_experiment_can_do_is_not_refused(name):
    assert told(SOUND[name]) == []


ARMS = {
    "noise null": (arm(start="solved", noise=None, size=1), 'noise: a bare null of YAML is no noise; write "null"'),
    "noise without size": (arm(start="solved", noise="abi"), "size: is missing"),
    "size without noise": (arm(start="solved", size=1), "size: is that of noise, and the arm has none"),
    "noise of what is not made yet": (arm(noise="state", size=1), "start: an arm is made before it is read"),
    "noise in a linear map": (arm(start="linear", noise="abi", size=1), "'linear' is no module"),
    "a fit of a reading": (arm(start="solved", precision="bf16", by="solve"), "by: the arm is read as it is"),
    "on from a reading": (arm(start="noisy", by="solve"), "start: 'noisy' is read as it is"),
    "objective of a solve": (arm(by="solve", objective="kd"), "objective: an arm that takes no steps has none"),
    "steps of a solve": (arm(by="solve", steps=0.5), "steps: an arm that takes no steps has none"),
    "rate of a solve": (arm(by="steps", rate_of="solved"), "rate_of: 'solved' chooses no rate"),
    "rate of one that takes it": (arm(by="steps", rate_of="short"), "rate_of: 'short' chooses no rate"),
    "steps of a bias": (arm(recipe="bias", by="steps"), "by: a bias changes no state"),
    "arm without update": (update(recipe="source"), "update: the other arms are read on updates"),
    "recipe on an update": (update(recipe="transferred", update="gpt2_medium_general_fast"), "cannot make"),
    "steps on an update": (update(recipe="raw", update="gpt2_medium_general_fast", by="steps"), "by: on an update"),
}


@pytest.mark.parametrize("name", ARMS)
def test_an_arm_that_cannot_be_as_it_is_asked_is_one_sentence(name):
    change, words = ARMS[name]
    [sentence] = told(change)
    assert sentence.startswith("claims.patience.arms.extra")
    assert words in sentence


@pytest.mark.parametrize(
    ("recipe", "teaches"),
    [(name, False) for name in ("lora", "identity", "published", "home", "native", "wrong-domain", "candidate", "carried")]
    + [(name, True) for name in ("transferred", "permuted", "unfrozen")],
)  # fmt: skip
def test_a_recipe_whose_nets_no_experiment_has_is_refused_with_those_that_can_be_made(recipe, teaches):
    reference = {"reference_module": "standard"} if teaches else {}
    found = told(lambda c, arms, s: (c.update(reference), arms.update(extra={"recipe": recipe})))
    [sentence] = [one for one in found if "arms.extra" in one]
    made = "candidate" if teaches else "transferred"
    assert f"extra.recipe: this experiment cannot make {recipe!r}; use one of " in sentence
    assert made in sentence.rpartition("use one of ")[2].split(", ")


@pytest.mark.parametrize(
    ("begin", "end", "given"),
    [
        ("whose nets an experiment has:", "With `reference_module`", {}),
        ("what can be made then is", "The others", {"reference_module": "standard"}),
    ],
)
def test_the_recipes_that_can_be_made_are_those_of_the_document(begin, end, given):
    document = " ".join((ROOT / "docs" / "extending.md").read_text(encoding="utf-8").split())
    told_there = re.findall("`([a-z-]+)`", document.partition(begin)[2].partition(end)[0])
    assert told_there
    assert {*told_there, *READ} <= set(recipes_for(claim_with(lambda c, arms, s: c.update(given))))


def test_a_misspelt_recipe_is_told_with_the_closest():
    [sentence] = told(arm(recipe="transfered"))
    assert "did you mean 'transferred'?" in sentence


@pytest.mark.parametrize("name", ["raw", "candidate", "oracle", "reference"])
def test_a_name_that_evidence_has_is_no_name_of_an_arm(name):
    [sentence] = told(lambda c, arms, s: arms.update({name: {"recipe": "transferred"}}))
    assert sentence.startswith(f"claims.patience.arms.{name}: is what evidence calls an arm of its own")


def test_arms_that_go_on_from_each_other_are_one_sentence():
    [sentence] = told(
        lambda c, arms, s: arms.update(
            {"a.1": {"recipe": "random", "start": "b"}, "b": {"recipe": "random", "start": "a.1"}}
            | {"c": {"recipe": "random", "start": "b"}}
        )
    )
    assert sentence == "claims.patience.arms: a.1, b go on from each other; take `start` out of one"


TESTS = {
    "weights all 0": (ask(weights={"solved": 0}), "weights: are all 0"),
    "weights of a part": (ask(weights={"solved": 1, "oracle": -0.8}), "weights: sum to 0.2"),
    "weights of one sign in code": (ask(weights={"solved": 1}, metric="passed.greedy"), "weights: sum to 1"),
    "agreement on general text": (
        ask(weights={"solved": 1, "raw": -1}, metric="top1", scope="general"),
        "scope: top1 is measured on domain text alone",
    ),
    "the teacher on general text": (
        ask(weights={"solved": 1, "random": -1}, metric="teacher_js_nats", scope="general"),
        "scope: teacher_js_nats is measured on domain text alone",
    ),
    "code on general text": (
        ask(weights={"solved": 1, "raw": -1}, metric="passed.greedy", scope="general"),
        "scope: generated code is of tasks",
    ),
    "the reference with itself": (ask(weights={"solved": 1, "reference": -1}), "is of arms against the reference"),
    "a metric of another kind": (ask(weights={"solved": 1, "raw": -1}, metric="top5_margin"), "is not a metric"),
}


@pytest.mark.parametrize("name", TESTS)
def test_a_test_that_asks_nothing_or_for_what_there_is_not_is_one_sentence(name):
    change, words = TESTS[name]
    [sentence] = told(change)
    assert sentence.startswith("claims.patience.statements.enough.tests.extra")
    assert words in sentence


def test_another_backbone_has_diagnostics_alone():
    def change(claim, arms, statement):
        arms["other"] = {"recipe": "raw", "noise": "state", "size": 1, "backbone": "gpt2"}
        statement["tests"]["extra"] = {"weights": {"other": 1, "raw": -1}}

    [sentence] = told(change)
    assert "tests.extra.metric: 'other' is on another backbone, where there is no js_nats; ask in one of" in sentence


@pytest.mark.parametrize("metric", ["js_nats", "five_kept", "teacher_js_nats"])
def test_arms_on_several_updates_have_losses_alone(metric):
    [sentence] = told(update(metric=metric))
    assert f"metric: {metric} is not measured of these arms on updates; ask in one of bits_per_byte" in sentence


def test_a_statement_needs_a_required_test():
    def change(claim, arms, statement):
        for test in statement["tests"].values():
            test["required"] = False

    assert "enough.tests: none is required, so that nothing decides; require one" in "\n".join(told(change))


def test_a_statement_needs_its_arm_in_a_required_test_and_its_floors_in_some_test():
    def change(claim, arms, statement):
        statement["about"] = "solved"
        statement["floors"] = {"passed.greedy": 0.1}

    about, floors = sorted(told(change))
    assert "enough.about: 'solved' stands in no required test; give it a weight in one" in about
    assert "enough.floors: no test asks for 'passed.greedy'; ask for it, or take the floor out" in floors
