"""Updates of a backbone: what trains, what is held, what stays."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import mse_loss

from abi.base.errors import TamperError
from abi.base.files import sha256_tensors
from abi.models import loop
from abi.models.backbone import targets
from abi.models.loop import Phase, Schedule, fit
from abi.models.module import AbiModule, ModuleConfig
from abi.models.tokenizers import pack
from abi.models.update import UpdateRecipe, abi_states, general_loss, part_of_round, trainable, update

RECIPE = UpdateRecipe(Schedule([Phase(6, 5e-3, 2)]), 4, "all", 0.0, 3)
UPDATED = ("t5", "t5-v1.1", "gpt2", "qwen2", "gpt_neox")


def module_of(backbone, seed=1):
    return AbiModule(ModuleConfig(16, (1, backbone.depth), 6), seed).requires_grad_(False)


def weights(backbone):
    return {name: p.detach().clone() for name, p in backbone.model.named_parameters()}


def changed(before, backbone):
    return {name for name, p in backbone.model.named_parameters() if not torch.equal(p, before[name])}


def update_on(backbone, anchor, texts, window, recipe, **given):
    return update(backbone, anchor, pack(backbone.tokenizer, texts, window.length), window, recipe, **given)


def ends_of(backbone):
    """Names of the parameters of embeddings and head."""
    ends = backbone.model.get_input_embeddings(), backbone.model.get_output_embeddings()
    ids = {id(p) for end in ends for p in end.parameters()}
    return {name for name, p in backbone.model.named_parameters() if id(p) in ids}


@torch.no_grad()
def drift(backbone, anchor, module, texts, window):
    windows = pack(backbone.tokenizer, texts, window.length)
    states = [abi_states(module, of.hidden_states(windows, window)) for of in (backbone, anchor)]
    return float(mse_loss(*states))


@pytest.mark.parametrize("family", UPDATED)
def test_without_the_term_an_update_is_plain_training_bit_for_bit(make_backbone, texts, window_of, family):
    plain, updated, anchor = (make_backbone(family) for _ in range(3))
    window = window_of(plain)
    windows = pack(plain.tokenizer, texts, window.length)
    order = loop.BatchOrder(len(windows), RECIPE.batch, RECIPE.seed)

    def loss(step):
        logits = plain.logits(windows[order[step]], window)
        wanted = targets(windows[order[step]], window)
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), wanted.flatten().long())

    losses = fit(loss, dict(plain.model.named_parameters()), RECIPE.schedule).losses
    figures = update_on(updated, anchor, texts, window, RECIPE)
    assert figures.loss_nats == pytest.approx(sum(losses) / len(losses), rel=1e-6)
    assert sha256_tensors(weights(updated)) == sha256_tensors(weights(plain))
    assert figures.stability_mse is None


@pytest.mark.parametrize("family", UPDATED)
def test_the_term_holds_the_states_of_the_module(make_backbone, texts, window_of, family):
    held, free, anchor = (make_backbone(family) for _ in range(3))
    window, module = window_of(held), module_of(held)
    figures = update_on(held, anchor, texts, window, replace(RECIPE, stability=5.0), modules=[module])
    update_on(free, anchor, texts, window, RECIPE)
    moved = [drift(one, anchor, module, texts, window) for one in (held, free)]
    assert 0 < moved[0] < 0.7 * moved[1]
    assert figures.stability_mse > 0


def test_the_term_is_the_mean_over_modules_of_the_mean_squared_drift(make_backbone, texts, window_of):
    backbone, anchor = make_backbone("gpt2", seed=1), make_backbone("gpt2")
    window, modules = window_of(backbone), [module_of(anchor, seed) for seed in (1, 2)]
    once = UpdateRecipe(Schedule([Phase(1, 1e-9)]), 4, "all", 2.0, 3)
    windows = pack(anchor.tokenizer, texts, window.length)
    batch = windows[loop.BatchOrder(len(windows), 4, 3)[0]]
    with torch.no_grad():
        states = [[abi_states(m, of.hidden_states(batch, window)) for m in modules] for of in (backbone, anchor)]
        wanted = sum(float(((a - b) ** 2).mean()) for a, b in zip(*states, strict=True)) / 2
        plain = torch.nn.functional.cross_entropy(
            backbone.logits(batch, window).flatten(0, 1), targets(batch, window).flatten().long()
        )
    figures = update_on(backbone, anchor, texts, window, once, modules=modules)
    assert figures.stability_mse == pytest.approx(wanted, rel=1e-5)
    assert figures.loss_nats == pytest.approx(float(plain) + 2 * wanted, rel=1e-5)


@pytest.mark.parametrize("family", UPDATED)
def test_the_body_is_all_but_embeddings_and_head(make_backbone, texts, window_of, family):
    backbone, anchor = make_backbone(family), make_backbone(family)
    before, head = weights(backbone), backbone.head()
    update_on(backbone, anchor, texts, window_of(backbone), replace(RECIPE, trains="body"))
    assert changed(before, backbone) == set(before) - ends_of(backbone)
    assert torch.equal(backbone.head().weight, head.weight)


@pytest.mark.parametrize("family", UPDATED)
def test_all_is_all(make_backbone, texts, window_of, family):
    backbone, anchor = make_backbone(family), make_backbone(family)
    before = weights(backbone)
    update_on(backbone, anchor, texts, window_of(backbone), RECIPE)
    assert changed(before, backbone) == set(before)
    assert set(trainable(backbone, "all")) == set(before)


def test_an_updated_backbone_is_frozen_again(make_backbone, texts, window_of):
    backbone = make_backbone("gpt2")
    update_on(backbone, make_backbone("gpt2"), texts, window_of(backbone), replace(RECIPE, trains="body"))
    assert not backbone.model.training
    assert not any(p.requires_grad for p in backbone.model.parameters())


def test_anchor_and_modules_stay_as_they_are(make_backbone, texts, window_of):
    backbone, anchor = make_backbone("gpt2"), make_backbone("gpt2")
    modules = [module_of(anchor, seed) for seed in (1, 2)]
    before = [sha256_tensors(weights(anchor)), *(sha256_tensors(m.state_dict()) for m in modules)]
    update_on(backbone, anchor, texts, window_of(backbone), replace(RECIPE, stability=1.0), modules=modules)
    assert [sha256_tensors(weights(anchor)), *(sha256_tensors(m.state_dict()) for m in modules)] == before


@pytest.mark.parametrize("moved", ["anchor", "module"])
def test_a_change_of_what_is_frozen_is_tampering(make_backbone, texts, window_of, moved, monkeypatch, refuses):
    backbone, anchor = make_backbone("gpt2"), make_backbone("gpt2")
    module = module_of(anchor)
    victim = anchor.model.transformer.wte.weight if moved == "anchor" else module.proj_in.weight
    real = loop.BatchOrder.__getitem__

    def meddle(order, step):
        victim.data.add_(1e-6)
        return real(order, step)

    monkeypatch.setattr(loop.BatchOrder, "__getitem__", meddle)
    with refuses("update: a frozen part changed during training", TamperError):
        update_on(backbone, anchor, texts, window_of(backbone), replace(RECIPE, stability=1.0), modules=[module])


def test_a_backbone_cannot_be_its_own_anchor(make_backbone, texts, window_of, refuses):
    backbone = make_backbone("gpt2")
    with refuses("a frozen part changed during training", TamperError):
        update_on(backbone, backbone, texts, window_of(backbone), RECIPE)


def test_a_term_without_a_module_is_refused(make_backbone, texts, window_of, refuses):
    backbone = make_backbone("gpt2")
    with refuses("update: a stability weight of 1.0 needs a module whose states are held"):
        update_on(backbone, make_backbone("gpt2"), texts, window_of(backbone), replace(RECIPE, stability=1.0))


@pytest.mark.parametrize(("n", "rounds"), [(9, 3), (10, 3), (4, 4), (5, 1)])
def test_rounds_share_no_text_and_leave_none_out(n, rounds):
    given = [f"text {i}" for i in range(n)]
    parts = [part_of_round(given, number, rounds) for number in range(1, rounds + 1)]
    assert sorted(text for part in parts for text in part) == sorted(given)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_another_seed_sees_the_text_in_another_order(make_backbone, texts, window_of):
    made = [make_backbone("gpt2") for _ in range(3)]
    for backbone, seed in zip(made, (3, 3, 4), strict=True):
        update_on(backbone, make_backbone("gpt2"), texts, window_of(backbone), replace(RECIPE, seed=seed))
    hashes = [sha256_tensors(weights(backbone)) for backbone in made]
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_killed_update_goes_on_to_the_same_bits(make_backbone, texts, window_of, tmp_path, monkeypatch):
    recipe, checkpoint = replace(RECIPE, stability=1.0), tmp_path / "update.safetensors"

    def run(**options):
        backbone, anchor = make_backbone("gpt2"), make_backbone("gpt2")
        told = update_on(backbone, anchor, texts, window_of(backbone), recipe, modules=[module_of(anchor)], **options)
        return sha256_tensors(weights(backbone)), replace(told, elapsed_s=0.0)  # with the drift of all its steps

    whole, real, seen = run(), loop.BatchOrder.__getitem__, []

    def mortal(order, step):
        seen.append(step)
        if seen == [0, 1, 2, 3]:
            raise KeyboardInterrupt
        return real(order, step)

    monkeypatch.setitem(loop.fit_together.__kwdefaults__, "checkpoint_every_s", 0.0)
    monkeypatch.setitem(loop.fit.__kwdefaults__, "checkpoint_every_s", 0.0)
    monkeypatch.setattr(loop.BatchOrder, "__getitem__", mortal)
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint=checkpoint)
    assert checkpoint.exists()
    assert run(checkpoint=checkpoint) == whole
    assert seen == [0, 1, 2, 3, 3, 4, 5]


def test_the_general_loss_is_the_mean_over_tokens_of_the_first_windows(make_backbone, texts, window_of):
    backbone = make_backbone("t5")
    window = window_of(backbone)
    windows = pack(backbone.tokenizer, texts, window.length)[:7]
    with torch.no_grad():
        log_p = torch.log_softmax(backbone.logits(windows, window).double(), -1)
    wanted = -log_p.gather(-1, targets(windows, window).long().unsqueeze(-1)).mean()
    assert general_loss(
        backbone, pack(backbone.tokenizer, texts, window.length), window, most=7, batch=3
    ) == pytest.approx(float(wanted), rel=1e-5)
