"""benchmarks/calibration_rates.py at a tiny size: every fit through the arms' own code, judged on held-out text alone."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from scipy.stats import ortho_group

from abi.arms.fitting import Nets
from abi.arms.forms import LinearMap, LogitBias, corrections
from abi.arms.general_lesson import carried_corrections
from abi.arms.gradient import FitData, Objective
from abi.arms.losses import correction_mse
from abi.base.catalogue import REGIMES
from abi.models.loop import Phase, Schedule
from abi.models.module import AbiModule, ModuleConfig
from abi.plan.config import load
from abi.plan.workflow import Workflow

pytestmark = pytest.mark.slow  # whole results or backbones: not part of `make quick`

PATH = Path(__file__).parents[2] / "benchmarks" / "calibration_rates.py"
SPEC = importlib.util.spec_from_file_location("calibration_rates", PATH)
rates = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(rates)

STUDY = Workflow(load("smoke"))
CLAIMS = {
    "oracle-kd": "t5_to_gpt2", "few-shot": "t5_to_gpt2_few_shot", "general-only": "t5_to_gpt2_general_only",
    "reconstruction": "t5_same_backbone",
}  # fmt: skip
CONFIG = ModuleConfig(8, (2,), 6)
FEW = {form: values[1:3] for form, values in rates.RATES.items()} | {"lora": ()}  # it needs a backbone: test_lora.py


class Fake:
    """What a regime's teacher gives, from made-up states."""

    def __init__(self, regime, states, held, head):
        self.teacher = REGIMES[regime].taught_by
        self.regime, self.states, self.held, self.head, self.config = regime, states, held, head, CONFIG
        self.inputs = {"train": "results/x/states/b/python.train.json"}

    def own(self, role, seed):
        assert role == self.teacher
        return AbiModule(CONFIG, seed=40 + seed).requires_grad_(False)

    def of(self, seed):
        own, aligned = (torch.from_numpy(ortho_group.rvs(6, random_state=i)).float() for i in (1, 2))
        net = AbiModule(CONFIG, seed=9).requires_grad_(False)
        nets = Nets(source=net, oracle=net, before=net, own=own, aligned=aligned)
        if self.regime == "general-only":
            lessons = [
                FitData(s.positions(torch.arange(60)), self.head, shift=torch.randn(60, 11).half())
                for s in (self.states, self.held)
            ]
            teacher = carried_corrections(lessons[0], 1e-3)
            return nets, FitData(lessons[0].states, self.head, teacher, lessons[0].shift, lessons[1], net)
        teacher = None if self.teacher is None else corrections(self.own(self.teacher, seed), self.states)
        return nets, FitData(self.states, self.head, teacher)


@pytest.fixture
def fake(make_states, head, monkeypatch):
    """Put made-up states in place of a study's; return the paths that were read."""
    states, held, read = make_states(n=20), make_states(n=10, seed=3, name="held"), []
    monkeypatch.setattr(rates, "teacher_of", lambda spec, inputs: Fake(spec.regime, states, held, head))
    monkeypatch.setattr(rates, "read_states", lambda path, split: read.append((str(path), split)) or held)
    return read


@pytest.mark.parametrize("regime", CLAIMS)
def test_every_fit_gives_a_row_per_form_and_rate(fake, regime):
    rows = list(rates.rows_of(STUDY, CLAIMS[regime], FEW))
    fit = STUDY.claim(CLAIMS[regime]).fit
    mine = [row for row in rows if row[0] == CLAIMS[regime]]
    assert [row[:4] for row in mine] == [
        [CLAIMS[regime], fit, form, r] for form in rates.ARM[regime] for r in FEW[form]
    ]
    assert all(float(row[4]) >= 0 for row in rows)
    assert len({row[4] for row in mine}) == len(mine)
    assert len(rows) - len(mine) == (2 if regime == "oracle-kd" else 0)
    assert len(rows[0]) == len(rates.COLUMNS)
    assert fake == ([] if regime == "general-only" else [("results/x/states/b/python.calibration.json", "calibration")])


@pytest.mark.parametrize("regime", CLAIMS)
def test_the_rate_of_the_modules_is_not_chosen_on_the_arm_of_a_claim(regime):
    assert "transferred" not in rates.ARM[regime].values()
    assert rates.ARM["general-only"]["module"] == "random"


def test_few_shot_is_the_mean_over_the_ladder(fake, monkeypatch):
    seen = []
    monkeypatch.setattr(rates, "objective_on", lambda *_: seen.append(float(len(seen))) or seen[-1])
    row = next(rates.rows_of(STUDY, CLAIMS["few-shot"], FEW))
    assert len(seen) == len(STUDY.scale.calibration["ce"].windows) == 2
    assert float(row[4]) == sum(seen) / 2


def test_a_scaled_schedule_keeps_the_ratios_of_its_phases():
    schedule = Schedule([Phase(4, 1e-2, 2), Phase(3, 1e-3)], weight_decay=0.0)
    found = rates.scaled(schedule, 3e-2)
    assert [phase.lr for phase in found.phases] == pytest.approx([3e-2, 3e-3])
    assert [replace(phase, lr=0) for phase in found.phases] == [replace(phase, lr=0) for phase in schedule.phases]
    assert (found.weight_decay, found.steps) == (0.0, 7)


def test_the_objective_is_the_fits_own_on_all_windows(make_states, head, monkeypatch):
    states = make_states()
    model = LinearMap((2,), 8)
    torch.nn.init.normal_(model.weight, std=0.1)
    model.requires_grad_(False)
    teacher = corrections(AbiModule(CONFIG).requires_grad_(False), states)
    data = FitData(states, head, teacher)
    own = rates.objective_on(model, data, Objective("correction-mse"))
    assert own == pytest.approx(float(correction_mse(model.correction(states, slice(None)), teacher)), rel=1e-5)
    ce = rates.objective_on(model, data, Objective("ce"))
    logits = head.logits(states.final(slice(None)) + model.correction(states, slice(None))).flatten(0, 1)
    wanted = torch.nn.functional.cross_entropy(logits, states.targets(slice(None)).flatten())
    assert ce == pytest.approx(float(wanted), rel=1e-5)
    monkeypatch.setattr(rates, "POSITIONS", 7)
    assert rates.objective_on(model, data, Objective("ce")) == pytest.approx(ce, rel=1e-6)


def test_a_matched_objective_is_the_distance_to_the_lesson(make_states, head):
    states = make_states().positions(torch.arange(60))
    shift = torch.randn(60, 11).half()
    plain = LogitBias(11).requires_grad_(False)  # not fitted: the plain backbone
    found = rates.objective_on(plain, FitData(states, head, shift=shift), Objective("matched", 1.0, 1.0))
    logits = head.logits(states.final(slice(None))).squeeze(1)
    taught = (logits + shift.float()).log_softmax(-1)
    wanted = (taught.exp() * (taught - logits.log_softmax(-1))).sum(-1).mean()
    assert found == pytest.approx(float(wanted), rel=1e-4)
