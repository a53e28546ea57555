"""What the arms and statements of an experiment contradict in themselves.

Told before anything runs: the job would fail hours later, or leave out in silence what was asked.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from abi.base.catalogue import ARMS, Recipe
from abi.base.diagnostics import CODE, DIAGNOSTICS
from abi.base.names import AGREEMENT, BIAS, CANDIDATE, LINEAR, ORACLE, RANDOM, RANDOM_NET, RAW, REFERENCE
from abi.plan.faults import Faults
from abi.plan.specs.experiments import ArmOfExperiment, Asked, Statement

if TYPE_CHECKING:
    from abi.plan.kinds.experiment import ExperimentClaim

OWN_NAMES = (RAW, ORACLE, REFERENCE, CANDIDATE)
"""What evidence calls arms of every study."""
READ = (RAW, ORACLE, REFERENCE, "source")
"""What an arm may be read as that no recipe makes."""
ON_UPDATES = ("source", RANDOM_NET, RAW)
"""What is read on an updated backbone: the module, the same around a random net, nothing."""
OF_STEPS = ("objective", "steps", "rate_of", "temperature", "kd_weight", "local")
"""What of an arm says how it takes steps."""
WITH_TEACHER = "teacher_js_nats"
"""JS with what teaches, where an oracle does."""
LOSSES = ("bits_per_byte", "loss_nats")
MEASURED = (*AGREEMENT, *LOSSES, *DIAGNOSTICS, *CODE, WITH_TEACHER)
"""The metrics that evidence of an experiment has."""


def recipe_of(name: str, reference_teaches: bool) -> Recipe | None:
    """Return what a recipe is in an experiment: as in a reconstruction where the reference teaches, or `oracle-kd`."""
    of, taught = ARMS[name].recipes, "reconstruction" if reference_teaches else "oracle-kd"
    return of.get(taught) or of.get("oracle-kd")


def can_be_made(recipe: Recipe | None, reference_teaches: bool) -> bool:
    """Return whether an experiment has the nets of a recipe (`Experiment.nets` in `arms/experiment.py`)."""
    if recipe is None or recipe.form == "lora" or recipe.teacher:
        return False
    if recipe.form != "module" or recipe.start == "before":
        return True
    if recipe.rotation == "aligned":  # fitted to the source's space, which is read where an oracle teaches
        return recipe.start == "redrawn" and not reference_teaches
    return recipe.start == "redrawn" and recipe.rotation == "identity" and recipe.net in {"none", RANDOM}


def recipes_for(claim: "ExperimentClaim") -> list[str]:
    """Return what the arms of an experiment can be made or read as."""
    if on_updates(claim):
        return [*ON_UPDATES]
    teaches = claim.reference_module is not None
    return [*(name for name in ARMS if can_be_made(recipe_of(name, teaches), teaches)), *READ]


def on_updates(claim: "ExperimentClaim") -> bool:
    """Return whether the arms of an experiment are read on updated backbones."""
    return any(arm.update for arm in claim.arms.values())


def is_read(arm: ArmOfExperiment) -> bool:
    """Return whether an arm is a reading of what is there: such an arm takes no fit."""
    return bool(arm.noise or arm.precision or arm.net == "off" or arm.recipe in READ)


def way_to(name: str, arms: Mapping[str, ArmOfExperiment]) -> list[str]:
    """Return an arm, the one that it goes on from, and so on, back to the beginning or to one that stands there."""
    going = [name]
    while (start := arms[going[-1]].start) in arms and start not in going:
        going.append(str(start))
    return going


def made_as(name: str, arms: Mapping[str, ArmOfExperiment]) -> str:
    """Return the recipe at the beginning of an arm: its own, or that of the arm that it goes on from."""
    return arms[way_to(name, arms)[-1]].recipe


def circle_of(name: str, arms: Mapping[str, ArmOfExperiment]) -> list[str]:
    """Return the arms that go on from each other in a circle, of which this is one; none where it stands in none."""
    going = way_to(name, arms)
    return going if arms[going[-1]].start == name and len(going) > 1 else []


def check_arms(claim: "ExperimentClaim", where: str, faults: Faults) -> None:
    """Tell which arms cannot be made, read or fitted as they are asked."""
    valid = recipes_for(claim)
    for name, arm in claim.arms.items():
        at = f"{where}.{name}"
        if name in OWN_NAMES:
            faults.tell(f"{at}: is what evidence calls an arm of its own ({', '.join(OWN_NAMES)}); rename it")
        if arm.recipe in ARMS and arm.recipe not in valid:
            faults.tell(f"{at}.recipe: this experiment cannot make {arm.recipe!r}; use one of {', '.join(valid)}")
        else:
            faults.known(arm.recipe, valid, f"{at}.recipe", "recipe that this experiment can make")
        if on_updates(claim):
            _check_on_update(arm, at, faults)
            continue
        if circle := circle_of(name, claim.arms):
            faults.tell(f"{where}: {', '.join(sorted(circle))} go on from each other; take `start` out of one")
        elif arm.start in claim.arms and is_read(claim.arms[arm.start]):
            faults.tell(f"{at}.start: {arm.start!r} is read as it is; name an arm that a recipe makes")
        _check_fit(name, arm, claim.arms, at, faults)
        _check_reading(name, arm, claim.arms, at, faults)


def _check_on_update(arm: ArmOfExperiment, at: str, faults: Faults) -> None:
    if arm.update is None:
        faults.tell(f"{at}.update: the other arms are read on updates; name one here too, or ask in another experiment")
    fields = type(arm).model_fields
    other = [key for key, value in arm.given().items() if value != fields[key].default]
    for key in (key for key in other if key not in {"recipe", "update", "way"}):
        faults.tell(f"{at}.{key}: on an update a module is read as it is; take it out")


def _check_fit(name: str, arm: ArmOfExperiment, arms: Mapping[str, ArmOfExperiment], at: str, faults: Faults) -> None:
    if arm.by != "nothing" and is_read(arm):
        faults.tell(f"{at}.by: the arm is read as it is, so nothing of it is fitted; take it out")
    elif arm.by != "steps":
        for key in (key for key, value in arm.given(*OF_STEPS).items() if value is not None):
            faults.tell(f"{at}.{key}: an arm that takes no steps has none; take it out, or write `by: steps`")
    elif made_as(name, arms) == BIAS:
        faults.tell(f"{at}.by: a bias changes no state, which steps are made for; write `by: solve`")
    other = arms.get(arm.rate_of) if arm.rate_of else None
    if arm.by == "steps" and other is not None and arm.rate_of != name:
        if other.by != "steps" or other.rate_of is not None or is_read(other):
            faults.tell(
                f"{at}.rate_of: {arm.rate_of!r} chooses no rate; name an arm with `by: steps` and without `rate_of`"
            )


def _check_reading(
    name: str, arm: ArmOfExperiment, arms: Mapping[str, ArmOfExperiment], at: str, faults: Faults
) -> None:
    given = arm.model_fields_set
    if "noise" in given and arm.noise is None:
        faults.tell(f'{at}.noise: a bare null of YAML is no noise; write "null" in quotes, or take it out')
    elif arm.noise is not None and "size" not in given:
        faults.tell(f"{at}.size: is missing, so that nothing is disturbed; say how large the noise is")
    elif arm.noise is None and arm.size:
        faults.tell(f"{at}.size: is that of noise, and the arm has none; give it `noise`, or take it out")
    if not (arm.noise or arm.precision or arm.net == "off"):
        return
    base = made_as(name, arms)
    if arm.start is None and base not in READ:
        if arm.net == "on" and base in ARMS:
            faults.tell(f"{at}.start: an arm is made before it is read another way; make it as one and name that here")
    elif base in {LINEAR, BIAS} or (base == RAW and (arm.noise != "state" or arm.precision)):
        faults.tell(f"{at}: {base!r} is no module, which such a reading needs; read one")


def check_tests(statement: Statement, claim: "ExperimentClaim", at: str, faults: Faults) -> None:
    """Tell which tests of a statement ask nothing, or for what no evidence has."""
    for name, test in statement.tests.items():
        _check_weights(test, f"{at}.tests.{name}.weights", faults)
        _check_measured(test, claim, f"{at}.tests.{name}", faults)
    deciding = [test for test in statement.tests.values() if test.required]
    if not deciding:
        faults.tell(f"{at}.tests: none is required, so that nothing decides; require one")
    elif not any(test.weights.get(statement.about) for test in deciding):
        faults.tell(f"{at}.about: {statement.about!r} stands in no required test; give it a weight in one")
    asked = {test.metric for test in statement.tests.values()}
    for metric in (metric for metric in statement.floors if metric in CODE and metric not in asked):
        faults.tell(f"{at}.floors: no test asks for {metric!r}; ask for it, or take the floor out")


def _check_weights(test: Asked, at: str, faults: Faults) -> None:
    weights = test.weights.values()
    if not any(weights):
        faults.tell(f"{at}: are all 0, so that nothing is asked; give an arm another")
    # Of figures that are 0 where there is nothing, a part or a multiple of another arm's says something too.
    of_parts = (test.metric in CODE or test.metric == WITH_TEACHER) and min(weights) < 0 < max(weights)
    total = math.fsum(weights)
    if abs(total) > 1e-9 and not of_parts and not test.given("by", "margin"):
        faults.tell(f"{at}: sum to {total:g}, so that no two arms are compared; let them sum to 0, or add `by`")


def _check_measured(test: Asked, claim: "ExperimentClaim", at: str, faults: Faults) -> None:
    of_agreement = test.metric in AGREEMENT or test.metric in DIAGNOSTICS
    if on_updates(claim):
        _check_measured_on_updates(test, claim, at, faults)
    elif test.scope == "general" and test.metric in CODE:
        faults.tell(f"{at}.scope: generated code is of tasks, not of a text; take it out")
    elif test.scope == "general" and test.metric in (*AGREEMENT, WITH_TEACHER):
        faults.tell(f"{at}.scope: {test.metric} is measured on domain text alone; take it out, or ask in bits_per_byte")
    if of_agreement and REFERENCE in test.weights:
        faults.tell(f"{at}.weights: {test.metric} is of arms against the reference itself; take it out")
    for arm in (arm for arm in test.weights if arm in claim.arms and claim.arms[arm].backbone):
        if test.metric not in DIAGNOSTICS:
            faults.tell(
                f"{at}.metric: {arm!r} is on another backbone, where there is no {test.metric}; "
                f"ask in one of {', '.join(DIAGNOSTICS)}"
            )


def _check_measured_on_updates(test: Asked, claim: "ExperimentClaim", at: str, faults: Faults) -> None:
    if test.scope == "general":
        faults.tell(f"{at}.scope: updates are read on domain text alone; take it out")
    places = {name: (arm.update, arm.way) for name, arm in claim.arms.items()}
    first = next(iter(places.values()))
    other = [arm for arm in test.weights if places.get(arm, first) != first]
    measured = (*LOSSES, *([] if other else AGREEMENT), *CODE)  # of code `check_code` tells
    if test.metric in MEASURED and test.metric not in measured:
        asking = ", ".join(LOSSES)
        faults.tell(f"{at}.metric: {test.metric} is not measured of these arms on updates; ask in one of {asking}")
