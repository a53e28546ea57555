import sys
import threading

import pytest
import torch
from made_arms import edited

from abi.models import attach as inference
from abi.models.attach import attach, generate
from abi.models.backbone import stride
from abi.models.identity import weights_hash
from abi.models.module import AbiModule, ModuleConfig

IDS = torch.arange(24).reshape(2, 12) + 3


def make_module(backbone, taps=None, seed=0, size=1.0):
    taps = taps or (backbone.depth,)
    module = AbiModule(ModuleConfig(backbone.width, taps, 8, tap_norms=len(taps) > 1), seed).requires_grad_(False)
    module.proj_out.weight.mul_(size)
    return module


def facts_of(backbone, facts):
    return edited(facts, base_sha256=weights_hash(backbone))


def n_hooks(backbone):
    """The hooks of abi on a backbone; transformers keeps some of its own there."""
    hooks = [hook for part in backbone.model.modules() for hook in part._forward_pre_hooks.values()]
    return sum(getattr(hook, "__module__", "") == inference.__name__ for hook in hooks)


@torch.no_grad()
def stored_path(backbone, window, parts):
    """Logits by the path of stored states: head(final + weighted corrections)."""
    hidden = backbone.hidden_states(IDS, window)
    total = sum(w * m(torch.stack([hidden[tap] for tap in m.config.taps], dim=2)) for m, w in parts)
    return backbone.head().logits(hidden[-1] + total)


@pytest.fixture(scope="module")
def gpt2(make_backbone):
    return make_backbone("gpt2")


@pytest.mark.parametrize("taps", ["final", "all"])
def test_an_attached_module_gives_the_logits_of_stored_states(backbone, window_of, taps):
    window = window_of(backbone)
    module = make_module(backbone, tuple(range(backbone.depth + 1)) if taps == "all" else None)
    expected = stored_path(backbone, window, [(module, 1.0)])
    plain = backbone.logits(IDS, window)
    with attach(backbone, module):
        got = backbone.logits(IDS, window)
    assert torch.allclose(got, expected, atol=1e-5, rtol=1e-5)
    assert (got - plain).abs().max() > 1e-3


def test_a_rotated_module_is_attached_as_it_is(gpt2, window_of):
    module = make_module(gpt2)
    module.set_rotation(torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(0)))[0])
    with attach(gpt2, module):
        got = gpt2.logits(IDS, window_of(gpt2))
    assert torch.allclose(got, stored_path(gpt2, window_of(gpt2), [(module, 1.0)]), atol=1e-5)


def test_after_detaching_logits_are_the_same_bits_and_no_hook_is_left(backbone, window_of):
    window, before, hooks = window_of(backbone), weights_hash(backbone), n_hooks(backbone)
    plain = backbone.logits(IDS, window)
    attached = attach(backbone, make_module(backbone, (0, backbone.depth)))
    assert n_hooks(backbone) == hooks + 3  # a pass begins, its block is read, its head
    backbone.logits(IDS, window)
    attached.detach()
    attached.detach()
    assert torch.equal(backbone.logits(IDS, window), plain)
    assert (n_hooks(backbone), weights_hash(backbone)) == (hooks, before)


def test_an_error_inside_the_block_detaches_too(gpt2):
    hooks = n_hooks(gpt2)
    with pytest.raises(KeyError), attach(gpt2, make_module(gpt2)):
        raise KeyError
    assert n_hooks(gpt2) == hooks


def test_attaching_twice_is_refused_and_the_first_stays(gpt2, window_of, refuses):
    with attach(gpt2, make_module(gpt2)):
        logits = gpt2.logits(IDS, window_of(gpt2))
        with refuses("is attached to this backbone already; detach it first"):
            attach(gpt2, make_module(gpt2, seed=1))
        assert torch.equal(gpt2.logits(IDS, window_of(gpt2)), logits)


def test_a_module_of_another_backbone_is_refused(gpt2, make_backbone, facts, refuses):
    module, other = make_module(gpt2), make_backbone("gpt2", seed=1)
    with attach(gpt2, module, facts_of(gpt2, facts)):
        pass
    with refuses("belongs to other weights .of gpt2_medium. than this backbone's"):
        attach(other, module, facts_of(gpt2, facts))
    assert n_hooks(other) == 0


@pytest.mark.parametrize(
    ("width", "taps", "words"), [(8, (2,), "8 wide, and this one is 16 wide"), (16, (0, 3), "reads tap 3, .* 0 to 2")]
)
def test_another_width_and_a_missing_tap_are_refused(gpt2, width, taps, words, refuses):
    with refuses(words):
        attach(gpt2, AbiModule(ModuleConfig(width, taps, 4)))


def test_a_backbone_without_a_list_of_blocks_refuses_modules_of_several_taps(make_backbone, monkeypatch, refuses):
    gpt2 = make_backbone("gpt2")
    monkeypatch.setattr(inference.nn, "ModuleList", type("Other", (torch.nn.ModuleList,), {}))
    with refuses("only modules that read the final state work on it"):
        attach(gpt2, AbiModule(ModuleConfig(16, (0, 2), 4)))
    with attach(gpt2, make_module(gpt2)):
        pass


@pytest.mark.parametrize("attached", [False, True])
def test_greedy_generation_is_the_same_with_and_without_cache(backbone, attached):
    module = make_module(backbone, (1, backbone.depth), size=3.0)
    ids = IDS[:, :6]
    plain = generate(backbone, ids, 10)
    if not attached:
        assert torch.equal(plain, generate(backbone, ids, 10, cache=False))
        return
    with attach(backbone, module):
        cached, slow = generate(backbone, ids, 10), generate(backbone, ids, 10, cache=False)
    assert torch.equal(cached, slow)
    assert torch.equal(generate(backbone, ids, 10), plain)


def test_greedy_generation_takes_the_highest_logit_of_the_attached_model(gpt2, window_of):
    module = make_module(gpt2, size=3.0)
    with attach(gpt2, module):
        made = generate(gpt2, IDS[:1, :6], 6)
    logits = stored_path_of(gpt2, torch.cat([IDS[:1, :6], made], dim=1), module)
    ends = 1 if 1 in made else None
    assert torch.equal(logits[:, 5:].argmax(-1)[:, : made.shape[1]][:, :ends], made[:, :ends])
    assert not torch.equal(made, generate(gpt2, IDS[:1, :6], 6))


@torch.no_grad()
def stored_path_of(backbone, ids, module):
    from abi.models.backbone import Window

    final = backbone.hidden_states(ids, Window(ids.shape[1], 0, 0))[-1]
    return backbone.head().logits(final + module(final.unsqueeze(2)))


def test_a_seed_gives_the_same_draws_and_leaves_torch_alone(gpt2):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, two, other = (generate(gpt2, IDS[:, :6], 8, temperature=0.9, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_numbers_that_others_draw_meanwhile_change_no_draw(gpt2):
    expected = generate(gpt2, IDS[:, :6], 8, temperature=0.9, seed=1)
    drawing = gpt2.model.register_forward_hook(lambda *_: torch.manual_seed(9) and None)
    found = generate(gpt2, IDS[:, :6], 8, temperature=0.9, seed=1)
    drawing.remove()
    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("ids", "n", "temperature", "words"),
    [
        (IDS[:, :0], 4, 0, "give some text"),
        (IDS[0], 4, 0, "are not .B, L. ids"),
        (IDS + 9999, 4, 0, "ids from 0 to"),
        (IDS, 0, 0, "ask for 1 or more"),
        (IDS, 4, -1, "temperature -1"),
        (IDS, 60, 0, "72 tokens are more than the model's 64 positions"),
    ],
)
def test_what_cannot_be_generated_is_one_sentence(gpt2, ids, n, temperature, words, refuses):
    with refuses(words):
        generate(gpt2, ids, n, temperature=temperature)


@pytest.mark.parametrize("ids", [torch.tensor([[5.7, 6.2]]), {"input_ids": torch.zeros(1, 0, dtype=torch.long)}])
def test_ids_that_are_none_are_one_sentence(gpt2, ids, refuses):
    with refuses("give whole numbers" if isinstance(ids, torch.Tensor) else "ids of shape .1, 0. under a mask"):
        generate(gpt2, ids, 1)


@pytest.mark.parametrize("least", [-1, 3])
def test_more_tokens_at_least_than_at_most_are_refused(gpt2, least, refuses):
    with refuses(f"at least {least} of 2 tokens"):
        generate(gpt2, IDS, 2, least=least)


def test_threads_that_use_a_model_first_do_not_measure_each_others_hooks(make_backbone):
    """One found the other's factor in its head, and kept it: the module was then a hundred times too strong."""
    before, told = sys.getswitchinterval(), []

    def first(backbone):
        try:
            generate(backbone, IDS[:1], 2)
        except Exception as error:
            told.append(error)

    sys.setswitchinterval(1e-5)
    try:
        for seed in range(8):
            backbone = make_backbone("gpt2", seed=seed)
            threads = [threading.Thread(target=first, args=(backbone,)) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert backbone.form.before == pytest.approx(1.0)
            assert backbone.facts.cache < 1e-3
    finally:
        sys.setswitchinterval(before)
    assert told == []


@pytest.mark.parametrize("n", [7919, 7907 * 7919, 12])
def test_a_sample_is_of_different_ids_however_many_there_are(n):
    assert len({(i * stride(n)) % n for i in range(1, 13)}) == 12
