import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from abi.arms.closed_form import narrowed, solve
from abi.arms.forms import (
    ARM_FILE,
    LinearMap,
    LogitBias,
    Readout,
    corrections,
    load_fitted,
    save_fitted,
    save_simple,
)
from abi.arms.gradient import Batch, FitData, Objective, fit_gradients
from abi.base.errors import TamperError
from abi.models.loop import BatchOrder, Member, Phase, Schedule
from abi.models.module import AbiModule, ModuleConfig, derive_seed, without_domain_net

CONFIG = ModuleConfig(8, (0, 2), 6)
STEPS = Schedule([Phase(4, 1e-2)])

BASE = "a" * 64


@pytest.fixture
def data(make_states, head):
    """Twelve windows with the corrections of a teacher that reads one tap."""
    states = make_states()
    teacher = AbiModule(ModuleConfig(8, (2,), 5), seed=7).requires_grad_(False)
    return FitData(states, head, corrections(teacher, states))


def arms():
    return {"module": AbiModule(CONFIG, seed=1), "no net": AbiModule(without_domain_net(CONFIG), seed=1),
            "linear": LinearMap((0, 2), 8), "bias": LogitBias(11)}  # fmt: skip


def hand_ridge(x, y, penalty):
    x, y = x.double().numpy(), y.double().numpy()
    gram = x.T @ x
    return np.linalg.solve(gram + penalty * np.diag(gram).mean() * np.eye(len(gram)), x.T @ y)


@pytest.mark.parametrize("name", ["module", "no net"])
@pytest.mark.parametrize("rotated", [False, True])
def test_a_solved_module_is_the_ridge_of_its_abi_states(data, name, rotated):
    module = arms()[name].requires_grad_(False)
    if rotated:
        module.set_rotation(torch.linalg.qr(torch.randn(6, 6))[0])
    before = {n: p.clone() for n, p in module.state_dict().items()}
    solve(module, data, 1e-3, most_rows=5 * 6)
    z = module.abi_state(data.states.taps(CONFIG.taps, slice(None))).flatten(0, 1)
    np.testing.assert_allclose(
        module.proj_out.weight.T.numpy(), hand_ridge(z, data.teacher.flatten(0, 1), 1e-3), rtol=1e-4, atol=1e-5
    )
    assert [n for n in before if not torch.equal(before[n], module.state_dict()[n])] == ["proj_out.weight"]


def test_a_solved_linear_map_is_the_ridge_of_standardised_states(data):
    linear = LinearMap((0, 2), 8)
    linear.standardise(data.states)
    solve(linear, data, 1e-3, most_rows=5 * 6)
    x = data.states.taps((0, 2), slice(None)).flatten(2).flatten(0, 1).double()
    x = torch.cat([(x - x.mean(0)) / x.std(0), torch.ones(len(x), 1)], dim=1)
    wanted = hand_ridge(x, data.teacher.flatten(0, 1), 1e-3)
    np.testing.assert_allclose(linear.weight.detach().numpy(), wanted[:-1], rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(linear.bias.detach().numpy(), wanted[-1], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("rank", [1, 3])
def test_a_narrowed_linear_map_has_its_rank_and_the_least_distance_to_the_whole(data, rank):
    linear = LinearMap((0, 2), 8).requires_grad_(False)
    linear.standardise(data.states)
    solve(linear, data, 1e-3)
    cut = narrowed(linear, data, rank, most_rows=5 * 6)
    whole, found = (arm.correction(data.states, slice(None)).flatten(0, 1).double().numpy() for arm in (linear, cut))
    assert np.linalg.matrix_rank(cut.weight.double().numpy(), tol=1e-5) == rank
    left_out = np.linalg.svd(whole - whole.mean(0), compute_uv=False)[rank:]
    np.testing.assert_allclose(np.linalg.norm(whole - found), np.sqrt((left_out**2).sum()), rtol=1e-4, atol=1e-4)


def test_a_linear_teacher_is_found_exactly(data):
    states = data.states
    x = states.taps((0, 2), slice(None)).flatten(2)
    data.teacher = x @ torch.randn(16, 8) + torch.randn(8)
    linear = LinearMap((0, 2), 8)
    linear.standardise(states)
    solve(linear, data, 1e-9)
    torch.testing.assert_close(linear.correction(states, slice(None)), data.teacher, rtol=1e-3, atol=1e-3)


def test_a_module_that_is_the_teacher_solves_to_itself(data):
    module = AbiModule(CONFIG, seed=3).requires_grad_(False)
    data.teacher = corrections(module, data.states)
    module.proj_out.weight.zero_()
    solve(module, data, 1e-10)
    torch.testing.assert_close(corrections(module, data.states), data.teacher, rtol=1e-3, atol=1e-4)


def test_a_solved_bias_is_the_shift_of_the_mean_distribution(data):
    bias = LogitBias(11)
    solve(bias, data, 0.0, most_rows=5 * 6)
    final = data.states.final(slice(None)).double()
    weight, offset = data.head.weight.double(), data.head.bias.double()
    raw, taught = (
        F.softmax(0.5 * x @ weight.T + offset, -1).mean((0, 1)) for x in (final, final + data.teacher.double())
    )
    torch.testing.assert_close(bias.logit_bias.detach().double(), (taught / raw).log(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["module", "linear", "bias"])
def test_a_solve_does_not_depend_on_its_batch(data, name):
    first, second = arms()[name], arms()[name]
    solve(first, data, 1e-3, most_rows=1)
    solve(second, data, 1e-3, most_rows=600)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["module", "no net", "linear", "bias"])
def test_two_solves_are_bit_identical(data, name):
    first, second = arms()[name], arms()[name]
    for arm in (first, second):
        solve(arm, data, 1e-3)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_standardised_features_have_mean_zero_and_spread_one(data):
    linear = LinearMap((0, 2), 8)
    linear.standardise(data.states)
    features = linear.features(data.states.taps((0, 2), slice(None))).flatten(0, 1)
    torch.testing.assert_close(features.mean(0), torch.zeros(16), rtol=0, atol=1e-5)
    torch.testing.assert_close(features.std(0), torch.ones(16), rtol=1e-4, atol=0)


def test_an_unfitted_linear_map_and_bias_correct_nothing(data):
    assert LinearMap((0, 2), 8).correction(data.states, slice(None)).abs().max() == 0
    assert LogitBias(11).correction(data.states, slice(None)) is None
    assert LogitBias(11).logit_bias.abs().max() == 0
    assert LinearMap((0, 2), 8).logit_bias is None


def test_the_plain_backbone_reads_nothing_and_adds_nothing(data):
    readout = Readout(None, data.head)
    assert readout.read(data.states, slice(None)) is None
    plain = data.head.logits(data.states.final(slice(2))).flatten(0, 1)
    assert readout.logits(plain, None) is plain


def fitted(model, data, objective="kd", schedule=STEPS, trainable=None, frozen=None, seed=3, of="windows"):
    chosen = dict(model.named_parameters()) if trainable is None else trainable
    part = Member("fit", chosen, schedule, frozen or {})
    [trained] = fit_gradients([model], [part], data, Objective(objective), batch=Batch(4, of), seed=seed)
    return trained


def loss_by_hand(model, data, objective, index):
    correction = model.correction(data.states, index)
    if objective == "correction-mse":
        return F.mse_loss(correction, data.teacher[index])
    final = data.states.final(index).flatten(0, 1)
    student = data.head.logits(final if correction is None else final + correction.flatten(0, 1))
    if model.logit_bias is not None:
        student = student + model.logit_bias
    ce = F.cross_entropy(student, data.states.targets(index).flatten())
    if objective == "ce":
        return ce
    taught = data.head.logits(final + data.teacher[index].flatten(0, 1))
    kl = F.kl_div(F.log_softmax(student / 2, -1), F.softmax(taught / 2, -1), reduction="batchmean")
    return 0.1 * ce + 0.9 * 4 * kl


def test_every_position_is_a_window_of_its_own_with_what_is_taught_there(data):
    single, positions = data.by_position(), data.states.targets(slice(None)).shape[1]
    assert len(single.states) == 12 * positions
    for window, position in ((0, 0), (3, 1), (11, positions - 1)):
        at = slice(window * positions + position, window * positions + position + 1)
        assert torch.equal(single.states.final(at)[0, 0], data.states.final(slice(window, window + 1))[0, position])
        assert torch.equal(single.states.targets(at)[0, 0], data.states.targets(slice(window, window + 1))[0, position])
        assert torch.equal(single.teacher[at][0, 0], data.teacher[window, position])
        assert (int(single.states.windows[at]), int(single.states.document[at])) == (
            window,
            int(data.states.document[window]),
        )


@pytest.mark.parametrize(
    ("batch", "most", "windows"),
    [
        (Batch(8), 8, 8),
        (Batch(20), 12, 12),
        (Batch(13, "positions"), 13, 3),
        (Batch(2, "positions"), 2, 1),
        (Batch(500, "positions"), 72, 12),
    ],
)
def test_a_batch_is_at_most_what_there_is(data, batch, most, windows):
    assert data.states.targets(slice(None)).shape == (12, 6)
    assert (batch.at_most(data.states).size, batch.at_most(data.states).of) == (most, batch.of)
    assert batch.as_windows(data.states) == windows


CASES = [
    (name, objective) for name in ("module", "no net", "linear", "bias") for objective in ("ce", "kd", "correction-mse")
]


@pytest.mark.parametrize("of", ["windows", "positions"])
@pytest.mark.parametrize(("name", "objective"), [case for case in CASES if case != ("bias", "correction-mse")])
def test_a_gradient_fit_is_a_plain_loop_over_the_naive_loss(data, name, objective, of):
    own, plain = arms()[name], arms()[name]
    losses = fitted(own, data, objective, of=of).losses
    data = data if of == "windows" else data.by_position()
    order = BatchOrder(len(data.states), 4, 3)
    used = [p for n, p in plain.named_parameters() if not (name == "no net" and n == "domain_alpha")]
    optimizer = torch.optim.AdamW(used, lr=1e-2, weight_decay=0.01)
    for step in range(4):
        value = loss_by_hand(plain, data, objective, order[step])
        assert losses[step] == pytest.approx(value.item(), rel=1e-5)
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(used, 1.0)
        optimizer.step()
    for a, b in zip(own.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize("name", ["module", "linear", "bias"])
@pytest.mark.parametrize("objective", ["ce", "kd"])
def test_gradient_steps_lower_the_loss(data, name, objective):
    model = arms()[name]
    if name == "linear":
        model.standardise(data.states)
    losses = fitted(model, data, objective, Schedule([Phase(60, 3e-2)])).losses
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3])


def test_only_what_is_trainable_changes(data):
    module = AbiModule(CONFIG, seed=1)
    before = {n: p.clone() for n, p in module.state_dict().items()}
    interface = module.interface_parameters()
    fitted(module, data, trainable=interface, frozen=module.domain_parameters())
    assert {n for n in before if not torch.equal(before[n], module.state_dict()[n])} == set(interface)
    assert not any(p.requires_grad for p in module.parameters())


def test_a_net_that_is_called_frozen_and_trained_is_noticed(data, refuses):
    module = AbiModule(CONFIG, seed=1)
    with refuses("a frozen part changed", TamperError):
        fitted(module, data, frozen={"domain.ln.bias": module.domain.ln.bias})


def test_the_states_the_head_and_the_teacher_are_only_read(data):
    def parts():
        return [data.states.taps((0, 1, 2), slice(None)), data.head.weight, data.head.bias, data.teacher]

    before = [part.clone() for part in parts()]
    fitted(AbiModule(CONFIG), data)
    assert all(torch.equal(a, b) for a, b in zip(before, parts(), strict=True))


@pytest.mark.parametrize("objective", ["kd", "correction-mse"])
def test_an_objective_without_its_teacher_is_refused(data, objective, refuses):
    with refuses(f"objective {objective} needs a teacher"):
        fitted(AbiModule(CONFIG), FitData(data.states, data.head), objective)


def test_cross_entropy_does_not_look_at_a_teacher(data):
    first, second = AbiModule(CONFIG), AbiModule(CONFIG)
    fitted(first, data, "ce")
    fitted(second, FitData(data.states, data.head), "ce")
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_corrections_are_those_of_the_module_window_by_window(data):
    module = AbiModule(CONFIG, seed=4)
    own = corrections(module, data.states, batch=5)
    assert not own.requires_grad
    torch.testing.assert_close(own, module(data.states.taps(CONFIG.taps, slice(None))).detach(), rtol=1e-5, atol=1e-6)


def test_derived_seeds_are_31_bit_fixed_and_of_their_own():
    seeds = {derive_seed(role, seed) for role in ("interface", "placebo", "order") for seed in range(200)}
    assert len(seeds) == 600
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert derive_seed("interface", 1) == derive_seed("interface", "1") == 1560905097


@pytest.mark.parametrize("name", ["module", "no net", "linear", "bias"])
def test_a_saved_arm_comes_back_with_the_same_corrections(data, name, tmp_path, facts):
    model = arms()[name]
    fitted(model, data)
    save_fitted(model, tmp_path, facts)
    again = load_fitted(tmp_path)
    assert type(again) is type(model)
    assert name in ("module", "no net") or again.taps == model.taps
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), model.state_dict().values(), strict=True))
    if name != "bias":
        assert torch.equal(again.correction(data.states, slice(None)), model.correction(data.states, slice(None)))
    assert not any(p.requires_grad for p in again.parameters())


@pytest.mark.parametrize("name", ["linear", "bias"])
def test_a_simple_arm_is_saved_as_the_same_bytes_every_time(name, tmp_path):
    for i in range(20):
        save_simple(arms()[name], tmp_path / f"{i}", BASE)
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


@pytest.mark.parametrize("content", [b"", b"\xff" * 99])
def test_a_damaged_arm_is_refused(tmp_path, content, refuses):
    (tmp_path / ARM_FILE).write_bytes(content)
    with refuses("arm.safetensors: is not a readable safetensors file"):
        load_fitted(tmp_path)


def test_a_file_that_is_no_arm_and_a_folder_without_one_are_refused(tmp_path, refuses):
    save_file({"x": torch.ones(1)}, tmp_path / ARM_FILE)
    with refuses("holds no arm of abi; delete its folder and rebuild it"):
        load_fitted(tmp_path)
    with refuses("abi_config.json: does not exist"):
        load_fitted(tmp_path / "empty")


def rewritten(path, change):
    from abi.base.files import read_tensors

    stored, meta = read_tensors(path)
    tensors = {n: t.clone() for n, t in stored.items()}
    change(tensors)
    save_file(tensors, path, metadata=meta)


@pytest.mark.parametrize(("name", "tensor"), [("linear", "bias"), ("linear", "weight"), ("bias", "logit_bias")])
def test_an_arm_without_a_tensor_is_refused(tmp_path, name, tensor, refuses):
    save_simple(arms()[name], tmp_path / ARM_FILE, BASE)
    rewritten(tmp_path / ARM_FILE, lambda tensors: tensors.update({"other": tensors.pop(tensor)}))
    with refuses("arm.safetensors"):
        load_fitted(tmp_path)


@pytest.mark.parametrize("name", ["linear", "bias"])
def test_a_changed_weight_of_a_simple_arm_is_noticed(tmp_path, name, refuses):
    save_simple(arms()[name], tmp_path / ARM_FILE, BASE)
    content = (tmp_path / ARM_FILE).read_bytes()
    (tmp_path / ARM_FILE).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with refuses("hash"):
        load_fitted(tmp_path)


@pytest.mark.parametrize("name", ["linear", "bias", "module"])
def test_an_arm_of_another_backbone_is_refused_by_its_folder(tmp_path, facts, name, refuses):
    model = AbiModule(ModuleConfig(8, (2,), 5)) if name == "module" else arms()[name]
    save_fitted(model, tmp_path, facts)
    assert load_fitted(tmp_path, BASE) is not None
    with refuses(f"{tmp_path}: is an arm of another backbone than the states"):
        load_fitted(tmp_path, "b" * 64)


def test_an_arm_that_does_not_say_its_backbone_is_refused(tmp_path, refuses):
    save_simple(arms()["bias"], tmp_path / ARM_FILE, None)
    with refuses("holds no arm of abi"):
        load_fitted(tmp_path)
