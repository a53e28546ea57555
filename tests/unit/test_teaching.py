"""What a source teaches on general text: shared tokens, shifts, carried interfaces and corrections, gains, honest arms."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from made_arms import AS_SCHEDULED, BASE, recipes_of
from made_shifts import dense, whole
from safetensors.torch import load_file
from scipy.stats import ortho_group

from abi.arms.alignment import pair_states, spread_rows
from abi.arms.closed_form import GAINS, choose_gains, solve
from abi.arms.fitting import Budget, Nets, Solved, Task, Variant, closed_tasks, fit_all, gradient_tasks, make
from abi.arms.forms import LinearMap, LogitBias, corrections, load_fitted
from abi.arms.general_lesson import GeneralLesson, Pair, carried_corrections, carried_interface, shared_tokens, shift_of
from abi.arms.gradient import Batch, FitData, Lessons, Objective, Shift
from abi.base.errors import AlignmentError, ConfigError, DataError
from abi.base.files import sha256_tensors
from abi.base.names import CLOSED_FORM
from abi.models.head import Head
from abi.models.loop import BatchOrder, Phase, Schedule
from abi.models.module import AbiModule, ModuleConfig
from abi.models.states import States
from abi.models.tokenizers import spellings
from abi.plan.specs.arms import VariantSection

FEW_SHOT, GENERAL_ONLY, ORACLE_KD = (recipes_of(regime) for regime in ("few-shot", "general-only", "oracle-kd"))
TARGET, SOURCE = ModuleConfig(8, (2,), 6), ModuleConfig(16, (2,), 6)
SCHEDULE = Schedule([Phase(3, 1e-2)])
MATCHED = Budget(SCHEDULE, Batch(4), Objective("matched", 1.0, 1.0), 1e-3, rates=AS_SCHEDULED)
FEW = Budget(SCHEDULE, Batch(4), Objective("ce"), 1e-3, windows=(4, 8), rates=AS_SCHEDULED)
KD = Budget(SCHEDULE, Batch(4), Objective("kd"), 1e-3, rates=AS_SCHEDULED)


def trained(config, seed=0):
    module, rng = AbiModule(config, seed), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=rng)
    return module.requires_grad_(False)


def head_of(vocabulary, width, seed=1):
    rng = torch.Generator().manual_seed(seed)
    draw = torch.randn(vocabulary, width, generator=rng), torch.randn(vocabulary, generator=rng)
    return Head(draw[0], 0.5, draw[1])


@pytest.fixture
def pair(make_states):
    """One-position windows of a target (width 8) and a source (width 16) that have read the same."""
    target, source = make_states(), make_states(width=16, vocabulary=13, seed=4, name="source")
    return target.positions(torch.arange(60)), source.positions(torch.arange(60))


IDS = torch.arange(9), torch.arange(9) + 2


def lesson_of(net, pair):
    """The lesson of a source module on the paired positions, and the source's carried interface."""
    target, source = pair
    shift = shift_of(net, source, head_of(13, 16), IDS, 11)
    return FitData(target, head_of(11, 8), shift=shift), carried_interface(net, source, target, TARGET, 1e-3)


def taught(net, pair):
    """The nets and data of a general-only seed, as the stage makes them."""
    lesson, carried = lesson_of(net, pair)
    held_out = replace(lesson, states=lesson.states.select(range(20)), shift=lesson.shift.select(list(range(20))))
    data = FitData(lesson.states, lesson.head, carried_corrections(lesson, 1e-3), lesson.shift, held_out)
    return Nets(source=net, wrong=trained(SOURCE, 8)), replace(
        data,
        carried={"source": carried, "other": carried_interface(trained(SOURCE, 8), pair[1], pair[0], TARGET, 1e-3)},
    )


def fit(regime, nets, data, budget, folder, names=None, seed=1):
    recipes = recipes_of(regime) if names is None else recipes_of(regime, only=names)
    return fit_all(recipes, TARGET, nets, data, budget, seed=seed, folder=folder, base=BASE, text="t")


def content(folder):
    return {
        str(p.relative_to(folder)).partition("/")[2]: sha256_tensors(load_file(p))
        for p in sorted(Path(folder).rglob("*.safetensors"))
    }


def arm_of(name):
    return Path(name).parts[1].rpartition("-")[0]


# vocabularies


def test_tokens_are_shared_by_their_bytes_and_specials_never():
    target, source = [None, "a", "é", " the", "x", None], ["x", None, " the", "a", "a", "A"]
    at_target, at_source = shared_tokens(target, source)
    assert list(zip(at_target.tolist(), at_source.tolist(), strict=True)) == [(1, 3), (3, 2), (4, 0)]


def test_a_byte_level_and_a_unigram_vocabulary_share_what_they_spell_alike(tokenizers):
    spelled = {kind: spellings(tokenizers[kind], 370) for kind in tokenizers}
    at_target, at_source = shared_tokens(spelled["bpe"], spelled["unigram"])
    assert len(at_target) > 100
    assert all(
        spelled["bpe"][i] == spelled["unigram"][j] for i, j in zip(at_target.tolist(), at_source.tolist(), strict=True)
    )
    specials = {kind: set(tokenizers[kind].all_special_ids) for kind in tokenizers}
    assert not specials["bpe"] & set(at_target.tolist())
    assert not specials["unigram"] & set(at_source.tolist())


def test_vocabularies_with_too_little_in_common_are_refused(refuses):
    with refuses("vocabularies: 1 of 11 target tokens are in the source's", AlignmentError):
        shared_tokens(["a", *(f"b{i}" for i in range(10))], ["a", "c"])
    assert len(shared_tokens(["a", *(f"b{i}" for i in range(9))], ["a", "c"])[0]) == 1


@pytest.mark.parametrize(("n", "most"), [(5, 9), (9, 9), (10, 3), (1000, 7)])
def test_rows_are_spread_over_all_of_them(n, most):
    rows = spread_rows(n, most).tolist()
    assert len(rows) == len(set(rows)) == min(n, most)
    assert rows == sorted(rows)
    assert rows[0] == 0
    assert n - rows[-1] <= math.ceil(n / len(rows))


def test_pairs_are_scored_on_both_sides_and_spread_over_all_of_the_text(make_states):
    target, source = make_states(), make_states(positions=4, width=16, vocabulary=13, seed=4, name="source")
    at_target, at_source = pair_states(target, source, None)
    ends = target.char_end.flatten()[at_target]
    assert torch.equal(ends, source.char_end.flatten()[at_source])
    assert len(ends) > 5
    assert ((at_target % 6 >= target.skip) & (at_source % 4 >= source.skip)).all()
    few = pair_states(target, source, 5)
    rows = spread_rows(len(ends), 5)
    assert torch.equal(few[0], at_target[rows])
    assert torch.equal(few[1], at_source[rows])


# shift


def test_a_shift_is_the_log_ratio_that_the_module_makes_at_shared_tokens(pair):
    source, head, net = pair[1], head_of(13, 16), trained(SOURCE, 1)
    shift = shift_of(net, source, head, IDS, 11)
    final, net64 = source.final(slice(None)).squeeze(1).double(), trained(SOURCE, 1).double()
    moved = final + net64(source.taps((2,), slice(None)).double()).squeeze(1)
    logits = [0.5 * x @ head.weight.double().T + head.bias.double() for x in (moved, final)]
    ratio = logits[0].log_softmax(-1) - logits[1].log_softmax(-1)
    assert ratio.abs().max() > 0.1
    rows = whole(shift)
    torch.testing.assert_close(rows[:, :9].double(), ratio[:, 2:11], rtol=2e-3, atol=2e-3)
    assert not rows[:, 9:].any()
    assert rows.shape == (60, 11)
    assert (shift.shared.shape, shift.shared.dtype) == ((60, 9), torch.float16)  # tokens of one side take no memory


def test_rows_of_a_shift_are_bit_by_bit_those_of_the_whole_vocabulary():
    rng = torch.Generator().manual_seed(0)
    shared, tokens = torch.randn(7, 4, generator=rng).half(), torch.tensor([8, 0, 5, 3])
    every = torch.zeros(7, 9, dtype=torch.float16)
    every[:, tokens] = shared
    shift = Shift(shared, tokens, 9)
    for index in (slice(2, 5), torch.tensor([6, 0, 6]), torch.tensor([], dtype=torch.long)):
        assert torch.equal(shift.rows(index, torch.device("cpu")), every[index].float())
    assert torch.equal(whole(shift.select([4, 1])), every[[4, 1]].float())


def test_a_module_that_says_nothing_shifts_nothing(pair):
    net = trained(SOURCE, 1)
    net.proj_out.weight.zero_()
    assert not whole(shift_of(net, pair[1], head_of(13, 16), IDS, 11)).any()


def test_a_shift_does_not_depend_on_its_chunks(pair, monkeypatch):
    once, carried = lesson_of(trained(SOURCE, 1), pair)
    monkeypatch.setattr("abi.arms.general_lesson.PAIRED_ROWS", 7)
    parts, again = lesson_of(trained(SOURCE, 1), pair)
    torch.testing.assert_close(whole(once.shift), whole(parts.shift), rtol=1e-2, atol=1e-3)
    torch.testing.assert_close(carried.proj_in.weight, again.proj_in.weight, rtol=1e-4, atol=1e-5)
    corrected = carried_corrections(parts, 1e-3)
    monkeypatch.undo()
    torch.testing.assert_close(corrected, carried_corrections(parts, 1e-3), rtol=1e-4, atol=1e-5)


# carried interface


@pytest.mark.parametrize("tap_norms", [False, True])
def test_an_interface_carried_to_its_own_backbone_is_itself(make_states, tap_norms):
    states, config = make_states().positions(torch.arange(72)), ModuleConfig(8, (0, 2), 6, tap_norms=tap_norms)
    net = trained(config, 3)
    for norm in net.tap_lns:
        norm.bias.zero_()  # `proj_in` has no bias to take one up
    carried = carried_interface(net, states, states, config, 1e-9)
    taps = states.taps((0, 2), slice(None))
    torch.testing.assert_close(carried.interface_state(taps), net.interface_state(taps), rtol=1e-3, atol=1e-3)
    assert not carried.proj_out.weight.any()
    assert not any(p.requires_grad for p in carried.parameters())


def test_a_carried_interface_is_the_ridge_of_the_sources_state_before_its_norm(pair):
    net = trained(SOURCE, 1)
    carried = carried_interface(net, pair[1], pair[0], TARGET, 0.1)
    x = pair[0].taps((2,), slice(None)).flatten(1).double()
    y = (pair[1].taps((2,), slice(None)).flatten(1) @ net.proj_in.weight.T).double()
    gram = x.T @ x
    wanted = torch.linalg.solve(gram + 0.1 * gram.diagonal().mean() * torch.eye(8, dtype=torch.float64), x.T @ y)
    torch.testing.assert_close(carried.proj_in.weight.double(), wanted.T, rtol=1e-4, atol=1e-5)
    assert torch.equal(carried.abi_ln.weight, net.abi_ln.weight)
    assert torch.equal(carried.abi_ln.bias, net.abi_ln.bias)


def test_a_carried_interface_knows_nothing_of_the_sources_domain_net(pair):
    one, two = trained(SOURCE, 1), trained(SOURCE, 1)
    for parameter in two.domain_parameters().values():
        parameter.add_(1)
    first, second = (carried_interface(net, pair[1], pair[0], TARGET, 1e-3).state_dict() for net in (one, two))
    assert all(torch.equal(first[name], second[name]) for name in first)


# carried corrections


def test_a_shift_that_a_correction_makes_gives_that_correction_back(pair):
    head, wanted = head_of(11, 8), torch.randn(60, 8, generator=torch.Generator().manual_seed(2))
    shift = wanted @ (0.5 * head.weight).T
    for constant in (0.0, 3.0 * torch.randn(60, 1)):
        found = carried_corrections(FitData(pair[0], head, shift=dense(shift - constant)), 1e-10)
        torch.testing.assert_close(found.squeeze(1), wanted, rtol=1e-3, atol=1e-3)


def test_corrections_do_not_see_a_constant_per_position(pair):
    lesson, _ = lesson_of(trained(SOURCE, 1), pair)
    moved = replace(lesson, shift=dense(whole(lesson.shift) + torch.randn(60, 1)))
    torch.testing.assert_close(
        carried_corrections(moved, 1e-3), carried_corrections(lesson, 1e-3), rtol=1e-3, atol=1e-4
    )


def test_corrections_are_weighted_by_how_usual_a_token_is(pair):
    """Against whitened least squares, in float64: rows of the head under the root of their mean probability."""
    lesson, _ = lesson_of(trained(SOURCE, 1), pair)
    head, shift = lesson.head, whole(lesson.shift).double()
    final = pair[0].final(slice(None)).squeeze(1).double()
    usual = (0.5 * final @ head.weight.double().T + head.bias.double()).softmax(-1).mean(0)
    rows = 0.5 * head.weight.double()
    centred, root = rows - usual @ rows, usual.sqrt().unsqueeze(1)
    level = shift - (shift @ usual).unsqueeze(1)
    wanted = torch.linalg.lstsq(root * centred, (root * level.T)).solution.T
    torch.testing.assert_close(carried_corrections(lesson, 1e-12).squeeze(1).double(), wanted, rtol=1e-3, atol=1e-3)


# gain


def gained(model, pair, factor):
    """A lesson that a model scaled by `factor` would answer exactly, on held-out positions."""
    states, head = pair[0], head_of(11, 8)
    correction, bias = model.correction(states, slice(None)), model.logit_bias
    own = bias if correction is None else (0.5 * correction.squeeze(1)) @ head.weight.T
    return FitData(states, head, shift=dense((factor * own).expand(60, 11)))


def models():
    linear, bias, rng = LinearMap((2,), 8), LogitBias(11), torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in (*linear.parameters(), *bias.parameters()):
            parameter.copy_(torch.randn(parameter.shape, generator=rng))
    return {"module": trained(TARGET, 6), "linear": linear, "bias": bias}


SCALED = {"module": {"proj_out.weight"}, "linear": {"weight", "bias"}, "bias": {"logit_bias"}}


@pytest.mark.parametrize("name", SCALED)
@pytest.mark.parametrize(("factor", "gain"), [(2.0, 1.5), (1.5, 1.5), (1.0, 1.0), (0.5, 0.5), (0.0, 0.0), (-1.0, 0.0)])
def test_the_gain_brings_an_arm_as_close_to_the_lesson_as_the_grid_allows(pair, name, factor, gain):
    model = models()[name]
    before = {key: value.clone() for key, value in model.state_dict().items()}
    assert choose_gains([model], gained(model, pair, factor)) == [gain]
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key] * gain if key in SCALED[name] else before[key])


def test_the_gain_does_not_depend_on_its_batch_nor_read_a_target(pair, monkeypatch):
    model = models()["module"]
    lesson = gained(model, pair, 0.75)
    monkeypatch.setattr(States, "targets", lambda *_: pytest.fail("a gain read the tokens of a text"))
    assert [choose_gains([models()["module"]], lesson, batch) for batch in (7, 60, 512)] == [[0.75]] * 3


def test_the_closed_form_of_a_lesson_is_solved_once_for_each_random_net(pair, monkeypatch):
    nets, data = taught(trained(SOURCE, 1), pair)
    solved, asked = Solved(1e-3), []
    monkeypatch.setattr("abi.arms.fitting.solve", lambda *given: asked.append(given) or solve(*given))
    recipe = recipes_of("general-only")["random"]
    for draw in (0, 1, 0):
        put, alone = (make(recipe, "random", TARGET, nets, data, seed=1, draw=draw) for _ in range(2))
        solved.put(put, "random", Task("matched", draw, draw, data))
        solve(alone.model, data, 1e-3)
        assert torch.equal(put.model.proj_out.weight, alone.model.proj_out.weight)
    assert len(asked) == 2


def test_a_gain_is_chosen_on_the_held_out_lesson_alone(pair, tmp_path, monkeypatch):
    nets, data = taught(trained(SOURCE, 1), pair)
    seen = []
    monkeypatch.setattr(
        "abi.arms.fitting.choose_gains", lambda arms, lesson: seen.extend([lesson] * len(arms)) or [1.0] * len(arms)
    )
    records = fit("general-only", nets, data, MATCHED, tmp_path)
    assert seen
    assert all(lesson is data.held_out for lesson in seen)
    assert len(seen) == len(records)
    assert {record.gain for record in records} == {1.0}


def test_every_record_of_a_lesson_holds_its_gain_and_of_other_regimes_none(pair, data_of, tmp_path):
    nets, data = taught(trained(SOURCE, 1), pair)
    assert {r.gain for r in fit("general-only", nets, data, MATCHED, tmp_path / "a")} <= set(GAINS)
    records = fit("oracle-kd", *data_of("oracle-kd"), KD, tmp_path / "b")
    assert not any("gain" in record.model_fields_set for record in records)


# positions, first, standardise


def test_positions_are_one_position_windows_of_the_same_states(make_states):
    states, flat = make_states(), torch.tensor([0, 7, 7, 71, 30])
    found = states.positions(flat)
    assert len(found) == 5
    assert (found.skip, found.manifest.positions) == (0, 1)
    for row, (window, position) in enumerate((i // 6, i % 6) for i in flat.tolist()):
        assert torch.equal(
            found.taps((0, 2), slice(row, row + 1))[0, 0], states.taps((0, 2), slice(None))[window, position]
        )
        assert torch.equal(found.final(slice(None))[row, 0], states.final(slice(None))[window, position])
        assert found.targets(slice(None))[row, 0] == states.targets(slice(None))[window, position]
        assert found.char_end[row, 0] == states.char_end[window, position]
        assert found.target_bytes[row, 0] == states.target_bytes[window, position]
        assert found.document[row] == states.document[window]
    assert (len(states), states.skip, states.manifest.positions) == (12, 1, 6)


def test_the_first_share_of_a_lesson_keeps_states_teacher_and_shift_together(pair):
    _, data = taught(trained(SOURCE, 1), pair)
    quarter = data.first(0.25)
    assert data.first(1) is data
    assert len(quarter.states) == len(quarter.teacher) == len(quarter.shift) == 15
    assert torch.equal(quarter.states.final(slice(None)), data.states.final(slice(0, 15)))
    assert torch.equal(quarter.teacher, data.teacher[:15])
    assert torch.equal(whole(quarter.shift), whole(data.shift)[:15])
    assert quarter.held_out is data.held_out
    assert len(data.first(1e-6).states) == 1


def test_what_is_carried_on_a_share_of_a_text_knows_nothing_of_the_rest(pair, monkeypatch):
    """The lesson of a variant is a part of the whole one; its interface and its corrections are not."""
    monkeypatch.setattr("abi.arms.general_lesson.module_of_seed", lambda path, seed, states: trained(SOURCE, 1))
    stage = object.__new__(GeneralLesson)
    stage.head, stage.config, stage.penalty, stage.ids = head_of(11, 8), TARGET, 1e-3, IDS
    stage.inputs, stage.closed_only, stage.variants = {"source": []}, [2], [VariantSection(share=0.25)]
    stage.pairs = {split: Pair(*pair, head_of(13, 16)) for split in ("train", "calibration")}
    _, data = stage.of(1)
    part = data.of_text("", 0.25)
    lesson, alone = lesson_of(trained(SOURCE, 1), (pair[0].select(range(15)), pair[1].select(range(15))))
    assert torch.equal(whole(part.shift), whole(lesson.shift))
    assert torch.equal(part.teacher, carried_corrections(lesson, 1e-3))
    assert torch.equal(part.carried["source"].proj_in.weight, alone.proj_in.weight)
    assert not torch.equal(part.carried["source"].proj_in.weight, data.carried["source"].proj_in.weight)
    assert stage.of(2)[1].others == {}


def test_a_limit_of_rows_keeps_whole_windows_spread_evenly(pair):
    _, data = taught(trained(SOURCE, 1), pair)  # 60 windows of one position
    assert data.at_most(None) is data.at_most(60) is data.at_most(61) is data
    few = data.at_most(7)
    index = [0, 8, 17, 25, 34, 42, 51]
    assert torch.equal(few.states.final(slice(None)), data.states.final(torch.tensor(index)))
    assert torch.equal(few.teacher, data.teacher[index])
    assert torch.equal(whole(few.shift), whole(data.shift)[index])
    assert len(data.at_most(0).states) == 1


def test_a_linear_map_is_standardised_on_all_one_position_windows(pair):
    linear = LinearMap((0, 2), 8)
    linear.standardise(pair[0])
    x = pair[0].taps((0, 2), slice(None)).flatten(1)
    torch.testing.assert_close(linear.mean, x.mean(0))
    torch.testing.assert_close(linear.std, x.std(0))


# what is fitted


def windows_of(task):
    return [row.tolist() for row in task.data.states.final(slice(None)).flatten(1)]


def test_few_windows_are_among_the_more_and_the_same_for_all_arms_of_a_seed(make_states, head):
    data = FitData(make_states(n=40), head)
    budget = replace(FEW, windows=(8, 32))
    few, many = gradient_tasks(data, budget, 1)
    assert [(t.fit, t.draw, t.net_draw, len(t.data.states)) for t in (few, many)] == [
        ("ce", 8, 0, 8),
        ("ce", 32, 0, 32),
    ]
    assert windows_of(many)[:8] == windows_of(few)
    assert not any(closed_tasks(recipe, data, budget) for recipe in FEW_SHOT.values())
    assert windows_of(gradient_tasks(data, budget, 2)[0]) != windows_of(few)


def test_a_ladder_takes_each_windows_teacher_along(make_states, head):
    states = make_states()
    data = FitData(states, head, states.final(slice(None)))
    for task in gradient_tasks(data, FEW, 1):
        assert torch.equal(task.data.teacher, task.data.states.final(slice(None)))


def test_a_ladder_longer_than_the_text_is_refused(make_states, head, refuses):
    with refuses("a ladder of 13 windows on a text of 12", DataError):
        gradient_tasks(FitData(make_states(), head), replace(FEW, windows=(4, 13)), 1)


def test_variants_and_closed_forms_stand_beside_the_fit(pair, refuses):
    _, data = taught(trained(SOURCE, 1), pair)
    other = Schedule([Phase(9, 1e-2)])
    budget = replace(MATCHED, variants={"matched-9": Variant(other), "matched-quarter": Variant(SCHEDULE, 0.25)})
    with refuses(r"there is no 25% of this text to fit on \(there is: none\)", DataError):
        gradient_tasks(data, budget, 1)
    data = replace(data, others={("", 0.25): data.first(0.25)})
    tasks = gradient_tasks(data, budget, 1) + closed_tasks(GENERAL_ONLY["random"], data, budget)
    assert [(t.fit, t.draw, t.net_draw, len(t.data.states)) for t in tasks] == [
        ("matched", 0, 0, 60), ("matched-9", 0, 0, 60), ("matched-quarter", 0, 0, 15),
        (CLOSED_FORM, 0, 0, 60), (CLOSED_FORM, 1, 1, 60), (CLOSED_FORM, 2, 2, 60),
    ]  # fmt: skip
    assert tasks[1].schedule is other
    assert tasks[0].data is tasks[1].data is data
    assert closed_tasks(GENERAL_ONLY["unfrozen"], data, budget) == []


def test_a_variant_on_other_text_is_fitted_on_it_and_starts_from_its_own_interface(pair, tmp_path, refuses):
    nets, data = taught(trained(SOURCE, 1), pair)
    other = replace(data.first(0.5), carried={"source": trained(TARGET, 5)})
    budget = replace(MATCHED, variants={"matched-written": Variant(SCHEDULE, text="written")})
    with refuses("there is no 100% of written text to fit on", DataError):
        gradient_tasks(data, budget, 1)
    data = replace(data, others={("written", 1.0): other})
    assert [task.data for task in gradient_tasks(data, budget, 1)] == [data, other]
    fit("general-only", nets, data, budget, tmp_path / "both", ["transferred"])
    fit("general-only", nets, other, MATCHED, tmp_path / "alone", ["transferred"])
    both, alone = content(tmp_path / "both"), content(tmp_path / "alone")
    [written] = [value for name, value in both.items() if name.startswith("matched-written")]
    [usual] = [value for name, value in both.items() if name.startswith("matched/")]
    [wanted] = [value for name, value in alone.items() if name.startswith("matched/")]
    assert written == wanted != usual


# honesty


@pytest.fixture
def data_of(make_states, pair):
    """Nets, data of a seed in each regime, as the stages make them."""

    def make_data(regime, seed=1):
        if regime == "general-only":
            return taught(trained(SOURCE, seed), pair)
        states, oracle = make_states(n=12), trained(TARGET, 2)
        turned = dict(enumerate(("aligned", "own", "other", "home"), start=1))
        rotations = {n: torch.from_numpy(ortho_group.rvs(6, random_state=i)).float() for i, n in turned.items()}
        nets = Nets(source=trained(SOURCE, seed), home=trained(TARGET, 3), oracle=oracle, wrong=trained(SOURCE, 8),
                    rotations=rotations)  # fmt: skip
        teacher = corrections(oracle, states) if regime == "oracle-kd" else None
        data = FitData(states, head_of(11, 8), teacher)
        if regime == "few-shot":
            shifts = {
                name: lesson_of(net, pair)[0].shift for name, net in (("source", nets.source), ("wrong", nets.wrong))
            }
            lessons = Lessons(shifts | {"permuted": shifts["wrong"]}, torch.arange(72).view(12, 6) % 60)
            data = replace(data, lessons=lessons, carried={"source": lesson_of(nets.source, pair)[1]})
        return nets, data

    return make_data


BUDGETS = {"oracle-kd": KD, "few-shot": FEW, "general-only": MATCHED}


def test_in_general_only_the_sources_net_reaches_only_the_arms_that_hold_it(pair, tmp_path):
    """The lesson and the carried interface stay; only the weights of the net that moves are others."""
    nets, data = taught(trained(SOURCE, 1), pair)
    others = replace(nets, source=trained(SOURCE, 99))
    fit("general-only", nets, data, MATCHED, tmp_path / "one")
    fit("general-only", others, data, MATCHED, tmp_path / "two")
    first, second = content(tmp_path / "one"), content(tmp_path / "two")
    assert first.keys() == second.keys()
    differ = {arm_of(name) for name in first if first[name] != second[name]}
    assert differ == {"transferred", "permuted", "unfrozen"}
    same = {arm_of(name) for name in first if first[name] == second[name]}
    assert same == {"random", "no-domain", "linear", "bias", "direct", "wrong-domain"}


@pytest.mark.parametrize("regime", BUDGETS)
def test_all_arms_of_a_seed_start_from_one_interface(data_of, regime):
    nets, data = data_of(regime)
    starts = {
        name: make(recipe, name, TARGET, nets, data, seed=1).model.interface_parameters()
        for name, recipe in recipes_of(regime).items()
        if recipe.form == "module"
    }
    wanted, apart = starts["transferred"], GENERAL_ONLY["wrong-domain"].start
    if regime == "general-only":
        # a net of another domain comes with the interface of its own module
        for start, name in ((wanted, "source"), (starts.pop("wrong-domain"), apart.removeprefix("carried-"))):
            assert all(torch.equal(p, data.carried[name].interface_parameters()[key]) for key, p in start.items())
    if regime == "few-shot":
        # arms that are taught, and the one that is not, start from the source's interface, whoever teaches
        carried = [starts.pop(name) for name, recipe in FEW_SHOT.items() if recipe.start == "carried"]
        assert len(carried) == 4
        wanted_there = data.carried["source"].interface_parameters()
        assert all(torch.equal(p, wanted_there[key]) for start in carried for key, p in start.items())
    assert all(torch.equal(p, wanted[key]) for start in starts.values() for key, p in start.items())


@pytest.mark.parametrize("regime", BUDGETS)
def test_all_arms_of_a_seed_share_steps_and_batches(data_of, regime, tmp_path, monkeypatch):
    seen = []

    class Recorded(BatchOrder):
        def __init__(self, n, batch, seed, of):
            super().__init__(n, batch, seed, of)
            self.log = []
            seen.append((n, batch, self.log))

        def __getitem__(self, step):
            index = super().__getitem__(step)
            self.log.append(index.tolist())
            return index

    monkeypatch.setattr("abi.arms.gradient.BatchOrder", Recorded)
    records = fit(regime, *data_of(regime), BUDGETS[regime], tmp_path)
    sizes = sorted({n for n, _, _ in seen})
    assert sizes == {"oracle-kd": [12], "few-shot": [4, 8], "general-only": [60]}[regime]
    for size in sizes:
        assert len([log for n, _, log in seen if n == size]) == 1  # one order for all, taken together
    fits = {r.arm for r in records if r.fit != CLOSED_FORM}
    assert fits == set(recipes_of(regime))
    assert {r.steps for r in records if r.fit != CLOSED_FORM} == {3}


def test_with_a_random_source_the_placebo_differs_in_the_net_alone(data_of, pair, tmp_path):
    """A source whose net is the very net the placebo draws: then `transferred` is `random`, bit for bit."""
    nets, data = data_of("general-only")
    placebo = make(GENERAL_ONLY["random"], "random", TARGET, nets, data, seed=1).model
    nets = replace(nets, source=placebo)
    fit("general-only", nets, data, MATCHED, tmp_path, ["transferred", "random"])
    for name in ("matched", CLOSED_FORM):
        one, two = (
            load_fitted(tmp_path / "seed1" / name / f"{arm}-0").state_dict() for arm in ("transferred", "random")
        )
        assert all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize("regime", ["oracle-kd", "few-shot"])
def test_with_the_placebos_net_as_source_the_transferred_arm_is_the_placebo(data_of, regime, tmp_path):
    nets, data = data_of(regime)
    nets = replace(nets, source=make(ORACLE_KD["random"], "random", TARGET, nets, data, seed=1).model)
    fit(regime, nets, data, BUDGETS[regime], tmp_path / "arms", ["transferred", "random"])
    hashes = content(tmp_path / "arms")
    mine = {name: value for name, value in hashes.items() if arm_of(name) == "transferred"}
    assert mine
    assert all(hashes[name.replace("transferred", "random")] == value for name, value in mine.items())


def test_in_few_shot_the_oracle_reaches_native_alone(data_of, tmp_path):
    nets, data = data_of("few-shot")
    fit("few-shot", nets, data, FEW, tmp_path / "one")
    fit("few-shot", replace(nets, oracle=trained(TARGET, 77)), data, FEW, tmp_path / "two")
    first, second = content(tmp_path / "one"), content(tmp_path / "two")
    assert {arm_of(name) for name in first if first[name] != second[name]} == {"native"}


@pytest.mark.parametrize("name", [n for n, recipe in GENERAL_ONLY.items() if recipe.start.startswith("carried")])
def test_an_arm_of_general_only_without_the_carried_interface_is_refused(data_of, name, refuses):
    nets, data = data_of("general-only")
    with refuses(f"{name} needs a carried interface of a source", ConfigError):
        make(GENERAL_ONLY[name], name, TARGET, nets, replace(data, carried={}), seed=1)


def test_no_recipe_of_general_only_asks_for_an_oracle():
    assert {recipe.net for recipe in GENERAL_ONLY.values()} == {"source", "wrong", "random", "permuted", "none"}
    assert {recipe.rotation for recipe in GENERAL_ONLY.values()} == {"identity"}


@pytest.mark.parametrize("name", GENERAL_ONLY)
def test_every_arm_learns_a_lesson_from_its_closed_form_on(pair, name, tmp_path):
    """No control starts further away than the claim: without a step an arm is its own closed form."""
    nets, data = taught(trained(SOURCE, 1), pair)
    still = replace(MATCHED, schedule=Schedule([Phase(1, 0.0)], weight_decay=0.0))
    fit("general-only", nets, replace(data, held_out=None), still, tmp_path, [name])
    own = load_fitted(tmp_path / "seed1" / "matched" / f"{name}-0").state_dict()
    model = make(GENERAL_ONLY[name], name, TARGET, nets, data, seed=1).model
    solve(model, data, MATCHED.ridge_penalty)
    assert all(torch.equal(own[key], value) for key, value in model.state_dict().items())


def test_a_lesson_lowers_its_own_loss_for_every_arm(pair, tmp_path):
    """From its closed form on, an arm comes closer to the lesson: the steps are of the same objective the gain is judged by."""
    nets, data = taught(trained(SOURCE, 1), pair)
    longer = replace(MATCHED, schedule=Schedule([Phase(60, 1e-2)]), batch=Batch(60))
    short = {r.arm: r.final_loss for r in fit("general-only", nets, data, MATCHED, tmp_path / "a") if r.steps}
    long = {r.arm: r.final_loss for r in fit("general-only", nets, data, longer, tmp_path / "b") if r.steps}
    assert all(long[arm] < short[arm] + 0.01 for arm in short)
