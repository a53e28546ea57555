"""What modules of the source teach on a few domain windows: which positions, by whom, beside CE, and nobody else."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from made_arms import AS_SCHEDULED, BASE, recipes_of
from made_shifts import whole

from abi.arms import few_shot_lesson
from abi.arms.few_shot_lesson import SourceLessons, teaching
from abi.arms.fitting import Budget, Nets, Solved, few_windows, fit_all, gradient_tasks, make, train_arms
from abi.arms.general_lesson import carried_interface, pair_of, shift_of
from abi.arms.gradient import Batch, FitData, Lessons, Objective, Shift, objectives
from abi.arms.rates import mean_objectives
from abi.base.catalogue import teachers
from abi.base.errors import AlignmentError, ConfigError, DataError
from abi.base.files import sha256_tensors
from abi.base.names import PERMUTED_TAUGHT, SOURCE_TAUGHT, TRANSFERRED, WRONG_TAUGHT
from abi.models.head import Head
from abi.models.loop import Phase, Schedule
from abi.models.module import AbiModule, ModuleConfig, derive_seed, permute_domain_net

TARGET, SOURCE = ModuleConfig(8, (2,), 6), ModuleConfig(16, (2,), 6)
TAUGHT = {SOURCE_TAUGHT: "source", PERMUTED_TAUGHT: "permuted", WRONG_TAUGHT: "wrong"}
TEACHERS = tuple(TAUGHT.values())
RECIPES, SEED, V = recipes_of("few-shot"), 1, 11
BUDGET = Budget(
    Schedule([Phase(3, 1e-2)]), Batch(16, "positions"), Objective("ce", 1.0, 0.5), 1e-3, (4, 8), rates=AS_SCHEDULED
)
SPELLED = {"target": [f"t{i}" for i in range(V)], "source": ["x", "y", *(f"t{i}" for i in range(V))]}


def trained(config, seed=0):
    module, rng = AbiModule(config, seed), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=rng)
    return module.requires_grad_(False)


def head_of(vocabulary, width):
    rng = torch.Generator().manual_seed(1)
    return Head(torch.randn(vocabulary, width, generator=rng), 0.5, torch.randn(vocabulary, generator=rng))


@pytest.fixture
def states(make_states):
    """Domain windows of a target and of a source whose windows are shorter, so that only some positions are paired."""
    return make_states(n=12), make_states(n=12, positions=4, width=16, vocabulary=13, seed=4, name="source")


@pytest.fixture
def lessons_of(states, make_states, monkeypatch):
    """What `SourceLessons` makes of the windows of a ladder."""
    general = make_states(seed=7, name="g"), make_states(width=16, vocabulary=13, seed=8, name="h")
    given = {"source_train": states[1], "target_states": general[0], "source_states": general[1]}
    monkeypatch.setattr(few_shot_lesson, "read_states", lambda path, split: given[path])
    monkeypatch.setattr(few_shot_lesson, "read_head", lambda path, states: head_of(13, 16))
    monkeypatch.setattr(
        few_shot_lesson.TokensManifest, "read", lambda path: SimpleNamespace(spellings=SPELLED[path.partition("_")[0]])
    )
    keys = (*given, "source_head", "target_tokens", "source_tokens")

    def make_lessons(windows=(4, 8), max_rows=100):
        spec = SimpleNamespace(max_rows=max_rows, budget=SimpleNamespace(windows=windows, ridge_penalty=1e-3))
        return SourceLessons(spec, TEACHERS, dict(zip(keys, keys, strict=True)), states[0])

    return make_lessons


@pytest.fixture
def nets():
    rotations = {name: torch.eye(6) for name in ("aligned", "home", "own", "other")}
    return Nets(trained(SOURCE, 1), trained(TARGET, 3), trained(TARGET, 2), trained(SOURCE, 8), rotations=rotations)


@pytest.fixture
def data(states, lessons_of, nets):
    lessons = lessons_of()
    carried = carried_interface(nets.source, lessons.general.source, lessons.general.target, TARGET, 1e-3)
    on_windows = lessons.on_windows(nets, SEED, V)
    return FitData(states[0], head_of(V, 8), carried={"source": carried}, lessons=on_windows)


def fit(nets, data, folder, names=tuple(RECIPES), budget=BUDGET):
    given = {"seed": SEED, "folder": folder, "base": BASE, "text": "t"}
    entries = fit_all(recipes_of("few-shot", only=names), TARGET, nets, data, budget, **given)
    return {(entry.arm, entry.draw): entry for entry in entries}


# which positions


def test_a_lesson_is_on_scored_positions_of_the_few_windows_that_have_read_the_same_and_on_no_other(
    states, lessons_of, nets
):
    target, source = states
    found = lessons_of().on_windows(nets, SEED, V)
    few = few_windows(12, 8, SEED).tolist()
    ids = torch.arange(V), torch.arange(V) + 2
    told = whole(shift_of(nets.source, source.by_position(), head_of(13, 16), ids, V))
    there = {
        (target.manifest.documents[target.document[n]], int(target.char_end[n, t])): (n, t)
        for n in few for t in range(target.skip, 6)
    }  # fmt: skip
    paired = {}
    for n in range(12):
        for t in range(source.skip, 4):
            read = source.manifest.documents[source.document[n]], int(source.char_end[n, t])
            if read in there:
                paired[there[read]] = told[4 * n + t]
    assert 3 < len(paired) < 6 * len(few)
    rows = {(n, t): int(found.row[n, t]) for n in range(12) for t in range(6) if found.row[n, t] >= 0}
    assert rows.keys() == paired.keys()
    for place, row in rows.items():
        torch.testing.assert_close(whole(found.shifts["source"])[row], paired[place])


def test_at_most_so_many_positions_have_a_lesson(lessons_of, nets):
    found = lessons_of(max_rows=5).on_windows(nets, SEED, V)
    assert (found.row >= 0).sum() == len(found.shifts["source"]) == 5


def test_windows_that_the_source_has_not_read_and_a_ladder_that_is_too_long_are_refused(lessons_of, nets, refuses):
    # documents 2 and 3 of the source end before those of the target begin
    blind = next(seed for seed in range(100) if set(few_windows(12, 3, seed).tolist()) <= set(range(6, 12)))
    with refuses(f"no position that has read the same as one of the 3 windows of seed {blind}", AlignmentError):
        lessons_of(windows=(3,)).on_windows(nets, blind, V)
    with refuses("a ladder of 13 windows on a text of 12", DataError):
        lessons_of(windows=(13,)).on_windows(nets, SEED, V)


def test_every_rung_is_taught_on_its_own_windows(data):
    for task in gradient_tasks(data, BUDGET, SEED):
        order = few_windows(12, 8, SEED)[: task.draw]
        assert torch.equal(task.data.lessons.row, data.lessons.row[order])
        assert task.data.lessons.shifts is data.lessons.shifts  # rungs share them: no copy of [P, V] per rung


# by whom


def test_the_catalogue_names_a_teacher_per_arm_and_one_student_for_all():
    assert {name: recipe.teacher for name, recipe in RECIPES.items() if recipe.teacher} == TAUGHT
    assert len({replace(RECIPES[name], teacher="") for name in TAUGHT}) == 1
    assert teachers([RECIPES[name] for name in (TRANSFERRED, *TAUGHT, SOURCE_TAUGHT)]) == TEACHERS
    assert teachers(recipes_of("oracle-kd").values()) == ()


def test_teachers_are_the_source_its_permuted_net_and_the_wrong_domain(nets, data, states):
    before = sha256_tensors(nets.source.state_dict())
    assert teaching("source", nets, SEED) is nets.source
    assert teaching("wrong", nets, SEED) is nets.wrong
    permuted, again = teaching("permuted", nets, SEED), AbiModule(SOURCE)
    again.load_state_dict(nets.source.state_dict())
    permute_domain_net(again, derive_seed("permutation", SEED, 0))
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in permuted.state_dict().items())
    assert sha256_tensors(nets.source.state_dict()) == before
    shifts = data.lessons.shifts
    assert shifts.keys() == set(TEACHERS)
    assert not torch.equal(shifts["source"].shared, shifts["permuted"].shared)
    assert not torch.equal(shifts["source"].shared, shifts["wrong"].shared)


def test_an_arm_without_its_teacher_is_refused(nets, data, refuses):
    lacking = replace(data.lessons, shifts={"source": data.lessons.shifts["source"]})
    for lessons in (None, lacking):
        with refuses(f"{WRONG_TAUGHT} is taught by the module wrong, which the claim does not give", ConfigError):
            make(RECIPES[WRONG_TAUGHT], WRONG_TAUGHT, TARGET, nets, replace(data, lessons=lessons), seed=SEED)


# what is minimised


@pytest.mark.parametrize("index", [slice(None), torch.tensor([0, 4, 11])])
@pytest.mark.parametrize("weight", [0.5, 0.9, 1.0])
def test_the_objective_is_ce_on_every_position_and_kl_on_those_with_a_lesson(data, nets, index, weight):
    models = [trained(TARGET, 5), trained(TARGET, 6), trained(TARGET, 7)]
    found = objectives(models, data, Objective("ce", 2.0, weight), index, ["", "wrong", "source"])
    final, y, row = data.states.final(index).double(), data.states.targets(index), data.lessons.row[index]
    head, n = data.head, y.numel()

    def logits(states):
        return 0.5 * states @ head.weight.double().T + head.bias.double()

    for value, model, teacher in zip(found, models, ["", "wrong", "source"], strict=True):
        student = logits(final + model(data.states.taps((2,), index)).double())
        ce = torch.nn.functional.cross_entropy(student.flatten(0, 1), y.flatten())
        kl = torch.zeros((), dtype=torch.float64)
        for place in torch.nonzero(row >= 0).tolist() if teacher else []:
            i, t = place
            asked = ((logits(final[i, t]) + whole(data.lessons.shifts[teacher])[row[i, t]].double()) / 2).log_softmax(
                -1
            )
            kl += (asked.exp() * (asked - (student[i, t] / 2).log_softmax(-1))).sum()
        wanted = (1 - weight) * ce + weight * 4 * kl / n if teacher else ce
        assert float(value) == pytest.approx(float(wanted), rel=1e-4)


def test_a_batch_without_a_lesson_is_ce_alone_and_one_with_lessons_everywhere_has_its_gradient(data):
    models, objective = [trained(TARGET, 5)], Objective("ce", 1.0, 0.5)
    none = replace(data, lessons=replace(data.lessons, row=torch.full((12, 6), -1)))
    [plain], [asked] = (objectives(models, none, objective, slice(None), [name]) for name in ("", "source"))
    assert float(asked) == pytest.approx(0.5 * float(plain), rel=1e-6)
    everywhere = replace(
        data,
        lessons=Lessons({"source": Shift(torch.zeros(72, 0).half(), torch.arange(0), V)}, torch.arange(72).view(12, 6)),
    )
    model = trained(TARGET, 5)
    model.proj_out.weight.requires_grad_(True)
    [value] = objectives([model], everywhere, objective, slice(None), ["source"])
    value.backward()
    assert model.proj_out.weight.grad.abs().sum() > 0


def test_whoever_teaches_the_same_leaves_the_same_arm(nets, data, tmp_path):
    """Student, start, windows, steps and batches are equal: with equal shifts the three arms are bit-identical."""
    same = replace(data.lessons, shifts=dict.fromkeys(TEACHERS, data.lessons.shifts["source"]))
    alike, apart = (
        fit(nets, replace(data, lessons=same), tmp_path / "a", TAUGHT),
        fit(nets, data, tmp_path / "b", TAUGHT),
    )
    for draw in BUDGET.windows:
        assert len({alike[name, draw].sha256 for name in TAUGHT}) == 1
        assert len({apart[name, draw].sha256 for name in TAUGHT}) == 3
        assert alike[SOURCE_TAUGHT, draw].sha256 == apart[SOURCE_TAUGHT, draw].sha256


def test_no_other_arm_notices_that_a_source_teaches(nets, data, tmp_path):
    plain = [name for name in RECIPES if name not in TAUGHT]
    together, alone = fit(nets, data, tmp_path / "a"), fit(nets, replace(data, lessons=None), tmp_path / "b", plain)
    assert {key: together[key].sha256 for key in alone} == {key: entry.sha256 for key, entry in alone.items()}


def test_the_student_keeps_the_sources_net_and_starts_from_its_interface(nets, data, tmp_path):
    start = make(RECIPES[SOURCE_TAUGHT], SOURCE_TAUGHT, TARGET, nets, data, seed=SEED).model
    interface = data.carried["source"].interface_parameters()
    assert all(torch.equal(p, interface[key]) for key, p in start.interface_parameters().items())
    entries = fit(nets, data, tmp_path, TAUGHT)
    assert {entry.domain_sha256 for entry in entries.values()} == {sha256_tensors(nets.source.domain_parameters())}


def test_trials_judge_a_taught_arm_as_every_other_by_ce(nets, data, make_states):
    held = FitData(make_states(n=6, seed=3, name="held"), data.head)
    task, *_ = gradient_tasks(data, BUDGET, SEED)
    arm = make(RECIPES[SOURCE_TAUGHT], SOURCE_TAUGHT, TARGET, nets, task.data, seed=SEED)
    train_arms({SOURCE_TAUGHT: arm}, task, BUDGET, SEED, Solved(1e-3), None)
    [value] = mean_objectives([arm.model], held, BUDGET.objective).tolist()
    with torch.no_grad():
        logits = held.head.logits(held.states.final(slice(None)) + arm.model.correction(held.states, slice(None)))
    ce = torch.nn.functional.cross_entropy(logits.flatten(0, 1), held.states.targets(slice(None)).flatten())
    assert value == pytest.approx(float(ce), rel=1e-5)


def test_general_pairs_are_spread_and_of_one_text(states, lessons_of, make_states, refuses):
    target, source = make_states(seed=7), make_states(width=16, vocabulary=13, seed=8, name="h")
    pair = pair_of(target, source, head_of(13, 16), 10)
    assert len(pair.target) == len(pair.source) == 10
    assert torch.equal(pair.target.char_end, pair.source.char_end)
    other = make_states(seed=9, name="o")
    other.manifest = other.manifest.model_copy(update={"corpus_sha256": "f" * 64})
    with refuses("was made from other documents or splits", DataError):
        pair_of(target, other, head_of(13, 16), 10)
