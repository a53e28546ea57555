import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from made_arms import AS_SCHEDULED, BASE, recipes_of
from safetensors.torch import load_file
from scipy.stats import ortho_group

from abi.arms import fitting
from abi.arms.alignment import conjugated
from abi.arms.fitting import Budget, Nets, fit_all, make
from abi.arms.forms import LinearMap, LogitBias, corrections, load_fitted, save_fitted
from abi.arms.gradient import Batch, FitData, Objective
from abi.base.errors import ConfigError, TamperError
from abi.base.files import sha256_tensors
from abi.base.names import CLOSED_FORM
from abi.models import loop
from abi.models.loop import BatchOrder, Phase, Schedule
from abi.models.module import AbiModule, ModuleConfig

ORACLE_KD, RECONSTRUCTION = recipes_of("oracle-kd"), recipes_of("reconstruction")
CONFIG = ModuleConfig(8, (0, 2), 6, tap_norms=True)
INTERFACE = {
    "tap_lns.0.weight",
    "tap_lns.0.bias",
    "tap_lns.1.weight",
    "tap_lns.1.bias",
    "proj_in.weight",
    "abi_ln.weight",
    "abi_ln.bias",
    "proj_out.weight",
}
DOMAIN = {
    "domain_alpha",
    "domain.net.0.weight",
    "domain.net.0.bias",
    "domain.net.2.weight",
    "domain.net.2.bias",
    "domain.ln.weight",
    "domain.ln.bias",
}
TRAINS = {
    **dict.fromkeys(
        ("home", "home-identity", "native", "transferred", "random", "permuted", "identity", "no-domain"), INTERFACE
    ),
    "published": (INTERFACE | DOMAIN) - {"abi_ln.weight", "abi_ln.bias"},
    **dict.fromkeys(("unfrozen", "direct"), INTERFACE | DOMAIN),
    "wrong-domain": INTERFACE,
    "linear": {"weight", "bias"},
    "bias": {"logit_bias"},
}
NO_CLOSED_FORM = {"published", "unfrozen", "direct"}
MODULES = [name for name in TRAINS if name not in {"linear", "bias"}]
WITH_NET = [name for name in MODULES if name != "no-domain"]
SCHEDULE = Schedule([Phase(2, 1e-2), Phase(2, 1e-3)])
BUDGET = Budget(SCHEDULE, Batch(4), Objective("kd"), 1e-3, rates=AS_SCHEDULED)


def trained(config=CONFIG, seed=0):
    """A module whose every parameter differs from its initialisation."""
    module, rng = AbiModule(config, seed), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=rng)
    return module.requires_grad_(False)


def nets_of(source=1, oracle=2, width=16):
    """Nets of one seed; the source lives on a backbone of another width."""
    there = ModuleConfig(width, (4, 7), 6)
    turned = {"aligned": source, "own": oracle, "other": 3, "home": 4}
    return Nets(
        source=trained(there, source), home=trained(seed=41), oracle=trained(seed=oracle), wrong=trained(there, 31),
        rotations={n: torch.from_numpy(ortho_group.rvs(6, random_state=s)).float() for n, s in turned.items()},
    )  # fmt: skip


@pytest.fixture
def nets():
    return nets_of()


@pytest.fixture
def data(make_states, head):
    states = make_states()
    return FitData(states, head, corrections(trained(seed=2), states))


def fit(data, nets, folder, names=tuple(ORACLE_KD), kind="oracle-kd", seed=1, budget=BUDGET, checkpoints=None):
    given = {"seed": seed, "folder": folder, "base": BASE, "text": "t", "checkpoints": checkpoints}
    return fit_all(recipes_of(kind, only=names), CONFIG, nets, data, budget, **given)


def content(folder):
    """Hash of the tensors of every weight file below a folder."""
    return {
        str(p.relative_to(folder)).partition("/")[2]: sha256_tensors(load_file(p))
        for p in sorted(Path(folder).rglob("*.safetensors"))
    }


def changed(before, after):
    return {name for name in after if not torch.equal(before[name], after[name])}


def test_every_recipe_is_known_here():
    assert set(TRAINS) == set(ORACLE_KD)


@pytest.mark.parametrize("name", TRAINS)
def test_an_arm_trains_what_its_recipe_says_and_freezes_the_rest(data, nets, name):
    arm = make(ORACLE_KD[name], name, CONFIG, nets, data, seed=1)
    parameters = dict(arm.model.named_parameters())
    assert set(arm.trainable) == TRAINS[name]
    assert set(arm.frozen) - {"rotation", "head"} == set(parameters) - TRAINS[name]
    assert all(arm.trainable[n] is parameters[n] for n in TRAINS[name])
    assert arm.frozen["head"] is data.head.weight


@pytest.mark.parametrize("name", TRAINS)
def test_a_gradient_fit_changes_what_trains_and_nothing_else(data, nets, name, tmp_path):
    before = make(ORACLE_KD[name], name, CONFIG, nets, data, seed=1).model.state_dict()
    fit(data, nets, tmp_path, [name])
    after = load_fitted(tmp_path / "seed1" / "kd" / f"{name}-0").state_dict()
    assert changed(before, after) == TRAINS[name]


@pytest.mark.parametrize("name", [name for name in TRAINS if name not in NO_CLOSED_FORM])
def test_a_closed_form_fit_changes_the_last_map_alone(data, nets, name, tmp_path):
    before = make(ORACLE_KD[name], name, CONFIG, nets, data, seed=1).model.state_dict()
    fit(data, nets, tmp_path, [name])
    after = load_fitted(tmp_path / "seed1" / CLOSED_FORM / f"{name}-0").state_dict()
    assert changed(before, after) == (TRAINS[name] if name in {"linear", "bias"} else {"proj_out.weight"})


def test_the_nets_the_arms_are_made_of_are_not_touched(data, nets, tmp_path):
    before = [{n: t.clone() for n, t in net.state_dict().items()} for net in (nets.source, nets.oracle)]
    fit(data, nets, tmp_path)
    assert not any(changed(b, net.state_dict()) for b, net in zip(before, (nets.source, nets.oracle), strict=True))


@pytest.mark.parametrize(
    ("name", "giver"),
    [
        ("transferred", "source"),
        ("identity", "source"),
        ("unfrozen", "source"),
        ("native", "oracle"),
        ("wrong-domain", "wrong"),
    ],
)
def test_a_moved_net_is_its_givers_bit_for_bit(data, nets, name, giver):
    model = make(ORACLE_KD[name], name, CONFIG, nets, data, seed=1).model
    assert sha256_tensors(model.domain_parameters()) == sha256_tensors(getattr(nets, giver).domain_parameters())


def test_frozen_nets_keep_the_hash_of_their_giver_through_both_fits(data, nets, tmp_path):
    records = fit(data, nets, tmp_path, ["transferred", "identity", "home", "native"])
    givers = {"transferred": nets.source, "identity": nets.source, "home": nets.home, "native": nets.oracle}
    assert len(records) == 8
    assert all(record.domain_sha256 == sha256_tensors(givers[record.arm].domain_parameters()) for record in records)


ROTATIONS = {
    "home": "home",
    "native": "own",
    "transferred": "aligned",
    "random": "aligned",
    "permuted": "aligned",
    "unfrozen": "aligned",
    "wrong-domain": "other",
}


@pytest.mark.parametrize("name", WITH_NET)
def test_a_net_sits_behind_the_rotation_of_its_recipe(data, nets, name):
    rotation = make(ORACLE_KD[name], name, CONFIG, nets, data, seed=1).model.rotation
    assert torch.equal(rotation, nets.rotations[ROTATIONS[name]] if name in ROTATIONS else torch.eye(6))


def test_the_published_arm_folds_the_rotation_as_the_original_does(data, nets):
    model = make(ORACLE_KD["published"], "published", CONFIG, nets, data, seed=1).model
    folded = conjugated(dict(nets.source.state_dict()), nets.rotations["aligned"], published=True)
    assert all(torch.equal(model.state_dict()[name], folded[name]) for name in DOMAIN)


@pytest.mark.parametrize("name", [name for name in MODULES if name not in {"transferred", "no-domain"}])
def test_all_arms_of_a_seed_start_from_one_interface(data, nets, name):
    wanted = make(ORACLE_KD["transferred"], "transferred", CONFIG, nets, data, seed=1).model.interface_parameters()
    found = make(ORACLE_KD[name], name, CONFIG, nets, data, seed=1).model.interface_parameters()
    assert set(found) == INTERFACE
    assert all(torch.equal(found[n], wanted[n]) for n in INTERFACE)


def test_the_arm_without_a_net_starts_from_the_interface_of_the_others(data, nets):
    bare, full = (make(ORACLE_KD[n], n, CONFIG, nets, data, seed=1).model for n in ("no-domain", "transferred"))
    assert all(torch.equal(p, full.interface_parameters()[n]) for n, p in bare.interface_parameters().items())


def test_another_seed_starts_from_another_interface(data, nets):
    first, second = (make(ORACLE_KD["transferred"], "transferred", CONFIG, nets, data, seed=s).model for s in (1, 2))
    assert not torch.equal(first.proj_in.weight, second.proj_in.weight)


def test_a_permuted_net_has_the_sources_weights_in_another_order(data, nets):
    model = make(ORACLE_KD["permuted"], "permuted", CONFIG, nets, data, seed=1).model
    for name, given in nets.source.domain_parameters().items():
        own = model.domain_parameters()[name]
        assert torch.equal(own.flatten().sort().values, given.flatten().sort().values)
        assert torch.equal(own, given) == (own.dim() == 0)


def test_a_random_net_is_a_fresh_one(data, nets):
    model = make(ORACLE_KD["random"], "random", CONFIG, nets, data, seed=1).model
    assert model.domain_alpha == 1
    assert torch.equal(model.domain.ln.weight, torch.ones(6))
    assert not set(model.domain.net[0].weight.flatten().tolist()) & set(
        nets.source.domain.net[0].weight.flatten().tolist()
    )


FROM_SOURCE = {"transferred", "identity", "permuted", "published", "unfrozen"}


def test_no_weight_of_the_source_reaches_a_placebo_or_control(data, tmp_path):
    one, two = nets_of(source=1), nets_of(source=1)
    two.source = trained(ModuleConfig(16, (4, 7), 6), 99)
    fit(data, one, tmp_path / "one")
    fit(data, two, tmp_path / "two")
    first, second = content(tmp_path / "one"), content(tmp_path / "two")
    differ = {Path(name).parts[1].rpartition("-")[0] for name in first if first[name] != second[name]}
    assert differ == FROM_SOURCE
    same = {Path(name).parts[1].rpartition("-")[0] for name in first if first[name] == second[name]}
    assert same == set(ORACLE_KD) - FROM_SOURCE


def test_no_weight_of_the_oracle_reaches_an_arm_but_through_its_teaching(data, tmp_path):
    one, two = nets_of(), nets_of()
    two.oracle = trained(seed=98)
    fit(data, one, tmp_path / "one")
    fit(data, two, tmp_path / "two")
    first, second = content(tmp_path / "one"), content(tmp_path / "two")
    assert {Path(n).parts[1] for n in first if first[n] != second[n]} == {"native-0"}


def test_two_runs_are_bit_identical(data, tmp_path):
    records = [fit(data, nets_of(), tmp_path / name) for name in ("one", "two")]
    assert content(tmp_path / "one") == content(tmp_path / "two")
    one, two = ([record.model_copy(update={"elapsed_s": None}) for record in found] for found in records)
    assert one == two


def test_an_arm_does_not_depend_on_which_others_are_fitted(data, nets, tmp_path):
    fit(data, nets, tmp_path / "all")
    fit(data, nets, tmp_path / "some", ["random", "transferred"])
    whole, some = content(tmp_path / "all"), content(tmp_path / "some")
    assert all(whole[name] == some[name] for name in some)


def test_all_gradient_arms_share_steps_and_batches(data, nets, tmp_path, monkeypatch):
    seen = []

    class Recorded(BatchOrder):
        def __init__(self, *args):
            super().__init__(*args)
            seen.append([])

        def __getitem__(self, step):
            index = super().__getitem__(step)
            seen[-1].append(index.tolist())
            return index

    monkeypatch.setattr("abi.arms.gradient.BatchOrder", Recorded)
    records = fit(data, nets, tmp_path)
    assert len(seen) == 1  # all arms take every step together
    assert len([record for record in records if record.fit == "kd"]) == len(ORACLE_KD)
    assert {record.steps for record in records if record.fit == "kd"} == {4} == {len(seen[0])}
    assert {record.steps for record in records if record.fit == CLOSED_FORM} == {0}


def test_another_seed_sees_another_order(data, nets, tmp_path):
    losses = [fit(data, nets, tmp_path / str(seed), ["bias"], seed=seed)[0].final_loss for seed in (1, 2)]
    assert losses[0] != losses[1]


def test_random_arms_have_three_different_draws_in_closed_form_and_one_by_gradient(data, nets, tmp_path):
    records = fit(data, nets, tmp_path, ["random", "permuted", "transferred"])
    draws = {(fit_name, arm): [r.draw for r in records if (r.fit, r.arm) == (fit_name, arm)]
             for fit_name in ("kd", CLOSED_FORM) for arm in ("random", "permuted", "transferred")}  # fmt: skip
    assert draws == {
        ("kd", "random"): [0], ("kd", "permuted"): [0], ("kd", "transferred"): [0],
        (CLOSED_FORM, "random"): [0, 1, 2], (CLOSED_FORM, "permuted"): [0, 1, 2], (CLOSED_FORM, "transferred"): [0],
    }  # fmt: skip
    hashes = [r.domain_sha256 for r in records if r.fit == CLOSED_FORM]
    assert len(set(hashes)) == 7


@pytest.mark.parametrize("name", sorted(NO_CLOSED_FORM))
def test_a_recipe_that_trains_more_than_the_last_map_has_no_closed_form(data, nets, tmp_path, name):
    assert [r.fit for r in fit(data, nets, tmp_path, [name])] == ["kd"]


@pytest.mark.parametrize("name", TRAINS)
def test_a_saved_arm_gives_the_corrections_of_the_fitted_one(data, nets, name, tmp_path, monkeypatch):
    kept = []
    monkeypatch.setattr(
        "abi.arms.fitting.save_fitted",
        lambda model, place, facts: kept.append((model, place)) or save_fitted(model, place, facts),
    )
    fit(data, nets, tmp_path, [name])
    assert kept
    for model, place in kept:
        again = load_fitted(place)
        assert type(again) is type(model)
        if isinstance(model, LogitBias):
            assert torch.equal(again.logit_bias, model.logit_bias)
        else:
            assert torch.equal(again.correction(data.states, slice(None)), model.correction(data.states, slice(None)))


def test_records_say_where_an_arm_lies_and_what_trained(data, nets, tmp_path):
    for record in fit(data, nets, tmp_path):
        assert record.seed == 1
        assert isinstance(load_fitted(tmp_path / record.folder), AbiModule | LinearMap | LogitBias)
        if record.fit == "kd":
            model = load_fitted(tmp_path / record.folder)
            assert record.n_trainable == sum(p.numel() for n, p in model.named_parameters() if n in TRAINS[record.arm])
            assert len(record.phase_floors) == 2


def test_a_closed_form_record_counts_what_was_solved(data, nets, tmp_path):
    record = next(r for r in fit(data, nets, tmp_path, ["transferred"]) if r.fit == CLOSED_FORM)
    assert record.n_trainable == 6 * 8


@pytest.mark.parametrize("name", ["transferred", "linear", "bias"])
def test_a_closed_form_reads_at_most_its_rows_and_a_gradient_fit_reads_all(data, nets, tmp_path, name):
    positions = data.states.manifest.positions
    fit(data, nets, tmp_path / "few", [name], budget=replace(BUDGET, closed_form_rows=3 * positions))
    fit(data.at_most(3 * positions), nets, tmp_path / "by hand", [name])
    fit(data, nets, tmp_path / "all", [name])
    few, by_hand, whole = (content(tmp_path / folder) for folder in ("few", "by hand", "all"))
    closed, gradient = (next(file for file in few if file.startswith(kind)) for kind in (CLOSED_FORM, "kd"))
    assert few[closed] == by_hand[closed] != whole[closed]
    assert few[gradient] == whole[gradient] != by_hand[gradient]


def test_the_best_step_of_a_short_fit_is_its_last(data, nets, tmp_path):
    budget = replace(BUDGET, schedule=Schedule([Phase(40, 3e-2)]))
    assert fit(data, nets, tmp_path, ["bias"], budget=budget)[0].best_step == 40


@pytest.mark.parametrize(("name", "lost", "words"), [
    ("transferred", "source", "transferred needs the source net"), ("permuted", "source", "permuted needs the permuted net"),
    ("native", "oracle", "native needs the oracle net"), ("transferred", "aligned", "needs the aligned rotation"),
    ("native", "own", "needs the own rotation"), ("published", "aligned", "needs the inverse rotation"),
    ("home", "home", "home needs the home net"), ("wrong-domain", "wrong", "wrong-domain needs the wrong net"), ("wrong-domain", "other", "needs the other rotation"),
])  # fmt: skip
def test_an_arm_without_its_net_or_rotation_is_refused(data, nets, name, lost, words, refuses):
    if lost in nets.rotations:
        del nets.rotations[lost]
    if hasattr(nets, lost):
        setattr(nets, lost, None)
    with refuses(words, ConfigError):
        make(ORACLE_KD[name], name, CONFIG, nets, data, seed=1)


def test_a_closed_form_that_touches_a_frozen_part_is_tampering(data, nets, tmp_path, monkeypatch, refuses):
    monkeypatch.setattr(fitting, "solve", lambda model, *_: model.domain_alpha.data.add_(1))
    with refuses("arm transferred: a frozen part changed in a closed-form fit", TamperError):
        fit(data, nets, tmp_path, ["transferred"])
    assert not (tmp_path / "seed1" / CLOSED_FORM).exists()


def test_a_killed_fit_goes_on_where_it_was(data, nets, tmp_path, monkeypatch):
    whole, kept, scratch = (tmp_path / name for name in ("whole", "kept", "scratch"))
    fit(data, nets, whole, ["transferred"])
    steps, final = [], data.states.final

    def mortal(index):
        steps.append(1)
        if len(steps) == 4:
            raise KeyboardInterrupt
        return final(index)

    monkeypatch.setitem(loop.fit_together.__kwdefaults__, "checkpoint_every_s", 0.0)
    monkeypatch.setattr(data.states, "final", mortal)
    with pytest.raises(KeyboardInterrupt):
        fit(data, nets, kept, ["transferred"], checkpoints=scratch)
    assert [p.name for p in scratch.iterdir()] == ["1-kd-0.safetensors"]
    fit(data, nets, kept, ["transferred"], checkpoints=scratch)
    assert len(steps) == 5
    assert content(kept) == content(whole)
    assert list(scratch.iterdir()) == []


@pytest.fixture
def before():
    return Nets(before=trained(seed=5))


@pytest.mark.parametrize(
    ("name", "trains"), [("candidate", INTERFACE | DOMAIN), ("random", INTERFACE), ("linear", {"weight", "bias"})]
)
def test_a_reconstruction_arm_trains_what_its_recipe_says(data, before, name, trains, tmp_path):
    arm = make(RECONSTRUCTION[name], name, CONFIG, before, data, seed=1)
    assert set(arm.trainable) == trains
    start = {n: t.clone() for n, t in arm.model.state_dict().items()}
    fit(
        data,
        before,
        tmp_path,
        [name],
        kind="reconstruction",
        budget=replace(BUDGET, objective=Objective("correction-mse")),
    )
    assert changed(start, load_fitted(tmp_path / "seed1" / "correction-mse" / f"{name}-0").state_dict()) == trains


def test_a_candidate_starts_from_its_native_module(data, before):
    model = make(RECONSTRUCTION["candidate"], "candidate", CONFIG, before, data, seed=1).model
    assert changed(before.before.state_dict(), model.state_dict()) == set()
    assert model is not before.before


def test_the_random_control_of_a_reconstruction_differs_in_the_net_alone(data, before):
    model = make(RECONSTRUCTION["random"], "random", CONFIG, before, data, seed=1).model
    assert changed(before.before.state_dict(), model.state_dict()) == DOMAIN


def test_a_reconstruction_without_a_native_module_is_refused(data, nets, refuses):
    with refuses("starts from the candidate's native module", ConfigError):
        make(RECONSTRUCTION["candidate"], "candidate", CONFIG, nets, data, seed=1)


def test_the_card_of_an_arm_names_its_backbone(data, nets, tmp_path):
    fit(data, nets, tmp_path, ["transferred"])
    folder = tmp_path / "seed1" / "kd" / "transferred-0"
    assert "base_model: b\n" in (folder / "README.md").read_text()
    assert json.loads((folder / "abi_config.json").read_text())["rotated"] is True
