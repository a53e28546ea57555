"""Learning rates: every arm's own, from one grid with the same trials, on held-out text, with a seed of no study."""

import math
from dataclasses import replace

import pytest
import torch
from made_arms import BASE, PROVENANCE, recipes_of
from made_results import CLAIM, edit, judge, put, run
from made_shifts import dense
from scipy.stats import ortho_group

from abi.arms.fitting import Budget, Nets, Solved, fit_all, fit_arms, gradient_tasks, make, train_arms
from abi.arms.forms import LinearMap, LogitBias, corrections
from abi.arms.general_lesson import carried_corrections
from abi.arms.gradient import Batch, FitData, Objective
from abi.arms.losses import correction_mse
from abi.arms.rates import choose, mean_objectives, tried_rates
from abi.base.errors import TamperError
from abi.base.files import scales
from abi.base.job import Job
from abi.base.manifests.rates import RatesManifest, TriedArm
from abi.base.names import LORA
from abi.base.regimes import REGIMES
from abi.models.loop import Phase, Schedule
from abi.models.module import AbiModule, ModuleConfig
from abi.plan.config import load
from abi.plan.kinds.base import TRIAL, seeds_of
from abi.plan.specs.arms import ChooseRates
from abi.plan.workflow import Workflow
from abi.steps import choose_rates

CONFIG = ModuleConfig(8, (2,), 6)
GRID, SEED = (1e-3, 1e-2, 1e-1), 0
NAMES = {
    "oracle-kd": ("transferred", "random", "linear", "bias"), "few-shot": ("transferred", "no-domain", "linear", "bias"),
    "general-only": ("transferred", "permuted", "linear", "bias"), "reconstruction": ("candidate", "random", "linear"),
}  # fmt: skip
OBJECTIVES = {
    "oracle-kd": Objective("kd"), "few-shot": Objective("ce"), "general-only": Objective("matched", 1.0, 1.0),
    "reconstruction": Objective("correction-mse"),
}  # fmt: skip


def budget_of(regime):
    """Twelve steps in two phases, the second ten times slower."""
    schedule = Schedule([Phase(8, 1.0, 2), Phase(4, 0.1)], weight_decay=0.0)
    return Budget(schedule, Batch(4), OBJECTIVES[regime], 1e-3, (4, 8) if regime == "few-shot" else ())


class Taught:
    """What a regime's teacher gives, from made-up states."""

    def __init__(self, regime, states, held, head):
        self.regime, self.states, self.held, self.head, self.config = regime, states, held, head, CONFIG

    def own(self):
        return AbiModule(CONFIG, seed=40).requires_grad_(False)

    def lesson(self, states):
        """What a module of the target says of some positions: one that can be learnt, so that a gain is not 0."""
        final = states.final(slice(None)).squeeze(1)
        moved = final + self.own().correction(states, slice(None)).squeeze(1)
        plain, taught = (self.head.logits(s).log_softmax(-1) for s in (final, moved))
        return FitData(states, self.head, shift=dense((taught - plain).half()))

    def of(self, seed):
        assert seed == SEED
        turned = dict(enumerate(("own", "aligned", "home", "other"), start=1))
        rotations = {n: torch.from_numpy(ortho_group.rvs(6, random_state=i)).float() for i, n in turned.items()}
        net = AbiModule(CONFIG, seed=9).requires_grad_(False)
        nets = Nets(source=net, home=net, oracle=net, wrong=net, before=net, rotations=rotations)
        if self.regime == "general-only":
            lessons = [self.lesson(s.positions(torch.arange(60))) for s in (self.states, self.held)]
            teacher = carried_corrections(lessons[0], 1e-3)
            return nets, FitData(
                lessons[0].states, self.head, teacher, lessons[0].shift, lessons[1], {"source": net, "other": net}
            )
        taught = REGIMES[self.regime].taught_by is not None
        return nets, FitData(self.states, self.head, corrections(self.own(), self.states) if taught else None)


@pytest.fixture
def taught_in(make_states, head):
    """The teacher of a regime, with train states of 20 windows and held-out ones of 10."""
    states, held = make_states(n=20), make_states(n=10, seed=3, name="held")
    return lambda regime: Taught(regime, states, held, head)


def held_out(taught, data):
    if data.held_out is not None:
        return data.held_out
    teacher = None if data.teacher is None else corrections(taught.own(), taught.held)
    return FitData(taught.held, data.head, teacher)


def trials(taught, names=None, grid=GRID):
    nets, data = taught.of(SEED)
    recipes = {name: recipes_of(taught.regime)[name] for name in names or NAMES[taught.regime]}
    budget = budget_of(taught.regime)
    return tried_rates(recipes, CONFIG, nets, data, held_out(taught, data), budget, grid, seed=SEED)


# the choice


@pytest.mark.parametrize("regime", NAMES)
def test_an_arm_chooses_the_rate_that_is_best_where_it_is_fitted_alone(taught_in, regime):
    taught = taught_in(regime)
    found = trials(taught)
    nets, data = taught.of(SEED)
    for name, values in found.items():
        alone = []
        for rate in GRID:
            budget, rungs = replace(budget_of(regime), rates={name: rate}), []
            for task in gradient_tasks(data, budget, SEED):
                arm = make(recipes_of(regime)[name], name, CONFIG, nets, task.data, seed=SEED)
                fit_arms({name: arm}, task, budget, SEED, Solved(budget.ridge_penalty), None)
                rungs += mean_objectives([arm.model], held_out(taught, data), budget.objective).tolist()
            alone.append(sum(rungs) / len(rungs))
        assert values == pytest.approx(alone, rel=1e-6)
        assert len(set(values)) == len(GRID)
        chosen = choose(name, GRID, values)
        assert chosen.rate == GRID[alone.index(min(alone))]
        assert chosen.at_end == (chosen.rate != GRID[1])
        assert chosen.objectives == values


def test_a_ladder_is_tried_on_every_rung_and_the_mean_counts(taught_in):
    taught = taught_in("few-shot")
    nets, data = taught.of(SEED)
    recipes, budget = {"bias": recipes_of("few-shot")["bias"]}, budget_of("few-shot")
    rung = {
        n: tried_rates(
            recipes, CONFIG, nets, data, held_out(taught, data), replace(budget, windows=(n,)), GRID, seed=SEED
        )
        for n in budget.windows
    }
    for i, value in enumerate(trials(taught, ["bias"])["bias"]):
        assert value == pytest.approx(sum(found["bias"][i] for found in rung.values()) / 2, rel=1e-12)


def test_a_rate_that_diverges_is_never_chosen_and_disturbs_no_other_arm(taught_in, refuses):
    taught = taught_in("oracle-kd")
    found = trials(taught, grid=(1e-2, 1e30))
    diverged = next(name for name, values in found.items() if not math.isfinite(values[1]))
    for name, values in found.items():
        assert values[0] == trials(taught, [name], (1e-2, 1e-1))[name][0]
        chosen = choose(name, (1e-2, 1e30), values)
        assert chosen.rate == 1e-2
        assert chosen.objectives[1] is None or chosen.objectives[1] > values[0]
    nets, data = taught.of(SEED)
    budget = replace(budget_of("oracle-kd"), rates={diverged: 1e30})
    [task] = gradient_tasks(data, budget, SEED)
    arms = {diverged: make(recipes_of("oracle-kd")[diverged], diverged, CONFIG, nets, data, seed=SEED)}
    with refuses(f"{diverged} seed 0: the loss is"):  # a fit itself still refuses it
        train_arms(arms, task, budget, SEED, Solved(1e-3), None)


def test_an_arm_without_a_finite_objective_is_refused(refuses):
    with refuses("the objective of bias is finite at none of 0.1, 1; put lower rates into `rates` of its fit"):
        choose("bias", (0.1, 1.0), (float("nan"), float("inf")))


def test_of_equal_objectives_the_lowest_rate_is_chosen():
    assert choose("bias", GRID, (2.0, 1.0, 1.0)).rate == GRID[1]


def test_the_objective_is_the_fits_own_on_all_windows(make_states, head, monkeypatch):
    states = make_states()
    model = LinearMap((2,), 8)
    torch.nn.init.normal_(model.weight, std=0.1)
    model.requires_grad_(False)
    teacher = corrections(AbiModule(CONFIG).requires_grad_(False), states)
    data = FitData(states, head, teacher)
    own = float(mean_objectives([model], data, Objective("correction-mse")))
    assert own == pytest.approx(float(correction_mse(model.correction(states, slice(None)), teacher)), rel=1e-5)
    ce = float(mean_objectives([model], data, Objective("ce")))
    logits = head.logits(states.final(slice(None)) + model.correction(states, slice(None))).flatten(0, 1)
    wanted = torch.nn.functional.cross_entropy(logits, states.targets(slice(None)).flatten())
    assert ce == pytest.approx(float(wanted), rel=1e-5)
    monkeypatch.setattr("abi.arms.rates.POSITIONS", 7)
    assert float(mean_objectives([model], data, Objective("ce"))) == pytest.approx(ce, rel=1e-6)


def test_a_matched_objective_is_the_distance_to_the_lesson(make_states, head):
    states = make_states().positions(torch.arange(60))
    shift = torch.randn(60, 11).half()
    plain = LogitBias(11).requires_grad_(False)  # not fitted: the plain backbone
    found = float(mean_objectives([plain], FitData(states, head, shift=dense(shift)), Objective("matched", 1.0, 1.0)))
    logits = head.logits(states.final(slice(None))).squeeze(1)
    taught = (logits + shift.float()).log_softmax(-1)
    wanted = (taught.exp() * (taught - logits.log_softmax(-1))).sum(-1).mean()
    assert found == pytest.approx(float(wanted), rel=1e-4)


# fits at the chosen rates


def test_arms_that_chose_different_rates_are_fitted_at_them(taught_in, tmp_path):
    taught = taught_in("oracle-kd")
    nets, data = taught.of(SEED)
    rates, given = {"transferred": 1e-2, "bias": 1e-1}, {"seed": SEED, "base": BASE, "text": "t"}

    def fitted(names, rates, place):
        budget = replace(budget_of("oracle-kd"), rates=rates)
        entries = fit_all(
            recipes_of("oracle-kd", only=names), CONFIG, nets, data, budget, folder=tmp_path / place, **given
        )
        return {entry.arm: entry for entry in entries if entry.fit == "kd"}

    both = fitted(list(rates), rates, "both")
    assert {arm: entry.lr for arm, entry in both.items()} == rates
    for arm, rate in rates.items():
        assert fitted([arm], {arm: rate}, f"own-{arm}")[arm].sha256 == both[arm].sha256
        assert fitted([arm], {arm: 3 * rate}, f"other-{arm}")[arm].sha256 != both[arm].sha256


def test_a_schedule_at_a_rate_keeps_the_ratios_of_its_phases():
    schedule = Schedule([Phase(4, 1.0, 2), Phase(3, 0.1)], weight_decay=0.0)
    found = schedule.at(3e-2)
    assert [phase.lr for phase in found.phases] == pytest.approx([3e-2, 3e-3])
    assert [replace(phase, lr=0) for phase in found.phases] == [replace(phase, lr=0) for phase in schedule.phases]
    assert (found.weight_decay, found.steps, found.peak) == (0.0, 7, 3e-2)


# the job


@pytest.mark.parametrize("regime", NAMES)
def test_the_job_writes_every_arms_choice_and_reads_calibration_text_alone(taught_in, regime, monkeypatch, tmp_path):
    taught, read = taught_in(regime), []
    monkeypatch.setattr(choose_rates, "lesson_of", lambda spec, inputs: taught)
    monkeypatch.setattr(choose_rates, "read_states", lambda path, split: read.append((path, split)) or taught.held)
    monkeypatch.setattr(choose_rates, "module_of_seed", lambda path, seed, states: taught.own())
    spec = next(
        workflow_of("smoke").of(name).rates_spec() for name in fitted("smoke") if regime_of("smoke", name) == regime
    )
    budget = spec["budget"] | {
        "batch": 4,
        "batch_of": "windows",
        **({"windows": [4, 8]} if regime == "few-shot" else {}),
    }
    arms = recipes_of(regime, only=NAMES[regime])
    job = Job("choose_rates", ChooseRates.model_validate({**spec, "budget": budget, "arms": arms}), "c", [], 1)
    inputs = dict.fromkeys(("calibration", "oracle", "reference"), "path")
    choose_rates.run(job, inputs, {"manifest": str(tmp_path / "rates.json")})
    found = RatesManifest.read(tmp_path / "rates.json")
    assert (found.seed, found.grid) == (0, budget["rates"])
    assert tuple(found.rates(NAMES[regime])) == NAMES[regime]
    assert read == ([] if regime == "general-only" else [("path", "calibration")])


# what it reads


def workflow_of(scale):
    return Workflow(load(scale))


def fitted(scale):
    return [name for name, claim in workflow_of(scale).config.claims.items() if claim.fit != "portable"]


def regime_of(scale, name):
    return workflow_of(scale).claim(name).regime


@pytest.mark.parametrize("scale", scales())
def test_the_seed_of_the_trials_is_in_no_study(scale):
    workflow = workflow_of(scale)
    [seed] = seeds_of(TRIAL)
    assert seed == 0
    for name in fitted(scale):
        jobs, whole = workflow.of(name), f"1-{workflow.config.closed_form_seeds(name)}"
        assert jobs.rates_spec()["seeds"] == [seed]
        judged = [path for paths in jobs.verdict_input().values() for path in paths]
        assert not [path for path in judged if TRIAL in path]
        for batch in workflow.batches("evaluation", workflow.config.closed_form_seeds(name)):
            read = [jobs.evidence_input(batch), jobs.calibration_input(batch)]
            assert not [path for inputs in read for path in str(inputs).split("'") if TRIAL in path]
        assert seed not in seeds_of(whole)
        for role, paths in jobs.module_files(TRIAL).items():
            assert [path.rpartition("/")[2] for path in paths] == [f"{TRIAL}.json"], role


@pytest.mark.parametrize("scale", scales())
def test_trials_see_what_the_fits_see_and_calibration_text_and_never_test_text(scale):
    workflow = workflow_of(scale)
    for name in fitted(scale):
        jobs, claim = workflow.of(name), workflow.claim(name)
        inputs, fits = jobs.rates_input(), jobs.calibration_input("1-1")
        more = {"backbone"} if LORA in claim.arms else set()
        states = [path for paths in inputs.values() for path in ([paths] if isinstance(paths, str) else paths)
                  if "/states/" in path or "/written/" in path]  # fmt: skip
        assert not [path for path in states if ".test." in path]
        if claim.regime == "general-only":
            assert set(inputs) == set(fits) - {"rates", "written"}
            assert {path.rpartition("/")[2].partition(".")[0] for path in states} == {workflow.general}
        else:
            assert set(inputs) == set(fits) - {"rates"} | {"calibration"} | more
            assert inputs["calibration"] == workflow.states(claim.target, claim.text, "calibration")
        assert bool(jobs.rates_model()) == bool(more)
        assert fits["rates"] == [f"{workflow.results}/rates/{name}.json"]


def test_seeds_of_the_closed_form_alone_need_no_rates():
    workflow = workflow_of("tiny")
    assert workflow.config.closed_form_seeds(CLAIM) > workflow.config.seeds(CLAIM) == 5
    assert "rates" in workflow.of(CLAIM).calibration_input("1-5")
    assert "rates" not in workflow.of(CLAIM).calibration_input("6-10")


def test_what_variants_and_the_closed_form_need_reruns_no_trial():
    budget = workflow_of("tiny").of("gpt2_to_qwen_general_only").rates_spec()["budget"]
    assert not {"variants", "written", "closed_form_rows", "budgets"} & set(budget)


# damage


def tried(**changes):
    return TriedArm(**{"arm": "bias", "objectives": [2.0, 1.0, None], "rate": 1e-2, "at_end": False, **changes})


DAMAGE = {
    "a rate outside the grid": (put("arms/0/rate", 0.05), "bias has the rate 0.05, and its lowest objective is that of 0.01"),
    "another choice": (put("arms/0/rate", 0.001), "bias has the rate 0.001, and its lowest objective is that of 0.01"),
    "one objective less": (lambda d: d["arms"][0]["objectives"].pop(), "bias has 2 objectives for 3 rates"),
    "no objective": (put("arms/0/objectives", [None] * 3), "its lowest objective is that of None"),
    "an end that is none": (put("arms/0/at_end", True), "bias: at_end is True of the rate 0.01"),
    "no arm": (put("arms", []), "arms"),
}  # fmt: skip


@pytest.fixture
def manifest(tmp_path):
    path = tmp_path / "rates.json"
    RatesManifest(seed=0, grid=list(GRID), arms=[tried()], provenance=PROVENANCE).write(path)
    assert RatesManifest.read(path).rates(["bias"]) == {"bias": 1e-2}
    return path


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_choice_is_refused_in_one_sentence(manifest, name, refuses):
    change, words = DAMAGE[name]
    edit(manifest, change)
    with refuses(words):
        RatesManifest.read(manifest)


def test_an_arm_that_was_not_tried_is_refused(manifest, refuses):
    with refuses("rates: linear chose none; delete the manifest of the rates and rebuild it"):
        RatesManifest.read(manifest).rates(["bias", "linear"])


# the verdict


def test_a_result_holds_the_grid_and_the_choices_and_the_page_says_so(here):
    workflow = workflow_of("tiny")
    found = run("show", CLAIM, cwd=here)
    grid = workflow.scale.calibration["kd"].rates
    assert "Every arm chose its learning rate among" in found.stdout
    assert f"{grid[0]:g}" in found.stdout
    path = workflow.of(CLAIM).verdict_input()["rates"][0]
    result = here / workflow.result_file(CLAIM)
    assert f'"{path}"' in result.read_text(encoding="utf-8")
    edit(
        path,
        lambda d: d["arms"][0].update(objectives=[0.1, *d["arms"][0]["objectives"][1:]], rate=grid[0], at_end=True),
    )
    with pytest.raises(TamperError, match=f"was fitted at a rate of {grid[1]:g} and chose {grid[0]:g}; rerun"):
        judge(workflow, CLAIM)
