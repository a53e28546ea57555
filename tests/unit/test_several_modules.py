"""Several modules on one model: rows, mixtures, generation, threads, swaps that leave nothing behind."""

import gc
import threading
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM

import abi
from abi.api.modules import on_device
from abi.base.errors import DataError
from abi.models.module import AbiModule

TEXTS = ["the state", "it is asked what comes next", "SELECT a", "the"]


def drawn(module, seed, scale=0.2):
    """A module whose writer is random, so that it changes what the model says."""
    net = type(module.net)(module.net.config, seed=seed)
    torch.nn.init.normal_(net.proj_out.weight, std=scale, generator=torch.Generator().manual_seed(seed))
    return replace(module, net=net.requires_grad_(False))


@pytest.fixture(scope="module")
def modules(trained, portable):
    """Two modules of the model, one that reads two hidden states, and a portable one."""
    first = drawn(trained, 1)
    deep = AbiModule(replace(first.net.config, taps=(1, 2), tap_norms=True), seed=3)
    torch.nn.init.normal_(deep.proj_out.weight, std=0.2, generator=torch.Generator().manual_seed(3))
    return {
        "a": first,
        "b": drawn(trained, 2),
        "deep": replace(first, net=deep.requires_grad_(False)),
        "p": drawn(portable, 4),
    }


@pytest.fixture
def model(gpt2):
    gpt2[0].eval()
    return gpt2[0]


@pytest.fixture(scope="module")
def batch(gpt2):
    return gpt2[1](TEXTS, padding=True, padding_side="left", return_tensors="pt")


def rows_of(batch, at):
    return {key: value[at] for key, value in batch.items()}


CHOICES = [
    ["a", "b", None, "a"],
    ["deep", None, "a", "deep"],
    ["p", "a", "p", None],
    [{"a": 0.5, "p": 2.0}, {"a": -1.0, "b": 0.25}, None, "deep"],
]


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_rows_with_different_modules_equal_the_rows_run_one_by_one(model, gpt2, modules, batch, choice):
    plain = model(**batch).logits
    with abi.attach(model, modules, tokenizer=gpt2[1]) as attached:
        with attached.using(choice):
            together = model(**batch).logits
        for row, own in enumerate(choice):
            with attached.using(own):
                alone = model(**rows_of(batch, [row])).logits
            torch.testing.assert_close(together[row], alone[0], atol=2e-5, rtol=1e-5)
            if own is None:
                assert torch.equal(together[row], plain[row])
            else:
                assert (together[row] - plain[row]).abs().max() > 1e-2
        assert torch.equal(model(**batch).logits, plain)  # none is in use
    assert torch.equal(model(**batch).logits, plain)


@pytest.mark.parametrize("name", ["a", "deep", "p"])
def test_one_module_for_all_rows_is_that_module_attached(model, gpt2, modules, batch, name):
    with abi.attach(model, modules[name], tokenizer=gpt2[1]):
        expected = model(**batch).logits
    with abi.attach(model, modules, tokenizer=gpt2[1]) as attached:
        attached.use(name)
        assert torch.equal(model(**batch).logits, expected)


@pytest.mark.parametrize("more", [{}, {"num_beams": 2}, {"use_cache": False}], ids=str)
def test_generation_uses_the_module_of_each_row(model, gpt2, modules, batch, more):
    choice, asked = ["a", "p", None, "deep"], {"max_new_tokens": 8, "do_sample": False, **more}
    with abi.attach(model, modules, tokenizer=gpt2[1]) as attached:
        together = attached.generate(**batch, **asked, module_ids=choice)
        for row, own in enumerate(choice):
            alone = attached.generate(**rows_of(batch, [row]), **asked, module_ids=own)
            assert torch.equal(together[row], alone[0])
    plain = model.generate(**batch, **asked)
    assert torch.equal(together[2], plain[2])
    assert not torch.equal(together, plain)


def test_an_encoder_decoder_has_rows_and_beams_too(make_backbone):
    backbone = make_backbone("t5")
    texts = [" ".join(TEXTS)] * 3
    batch = backbone.tokenizer(texts, return_tensors="pt")
    own = trained_beside(backbone)
    asked = {"max_new_tokens": 5, "do_sample": False, "num_beams": 2, "use_cache": False}
    with abi.attach(backbone, {"a": own}) as attached:
        together = attached.generate(**batch, **asked, module_ids=[None, "a", None])
        alone = [attached.generate(**rows_of(batch, [0]), **asked, module_ids=one)[0] for one in (None, "a")]
    assert torch.equal(together[0], alone[0])
    assert torch.equal(together[1], alone[1])
    assert not torch.equal(alone[0], alone[1])


def trained_beside(backbone):
    """A module of a backbone that changes much."""
    import api_world

    found = abi.train(backbone, None, api_world.prose(12), steps=1, rates=[1e-2])
    return drawn(found, 5, scale=1.0)


def test_a_hundred_swaps_leave_nothing_behind_and_run_nothing(model, gpt2, modules, batch):
    plain = model(**batch).logits
    hooks = [(part, len(part._forward_pre_hooks), len(part._forward_hooks)) for part in model.modules()]
    with abi.attach(model, modules, tokenizer=gpt2[1]) as attached:
        attached.use("a")
        first = model(**batch).logits
        gc.collect()
        before = tensors()
        during = sum(len(part._forward_pre_hooks) + len(part._forward_hooks) for part in model.modules())
        for i in range(100):
            attached.use([*modules][i % len(modules)])
            with attached.using(CHOICES[i % len(CHOICES)]):
                pass
        attached.use("a")
        gc.collect()
        assert tensors() == before
        assert during == sum(len(part._forward_pre_hooks) + len(part._forward_hooks) for part in model.modules())
        assert torch.equal(model(**batch).logits, first)
        for i in range(20):  # passes in between leave nothing either
            attached.use([*modules][i % len(modules)])
            model(**batch)
        attached.use("a")
        gc.collect()
        assert tensors() == before
    assert hooks == [(part, len(part._forward_pre_hooks), len(part._forward_hooks)) for part in model.modules()]
    assert "prepare_inputs_for_generation" not in vars(model)
    assert torch.equal(model(**batch).logits, plain)


def tensors():
    """How many tensors live, and how many numbers they hold."""
    found = [thing for thing in gc.get_objects() if issubclass(type(thing), torch.Tensor)]
    return len(found), sum(thing.numel() for thing in found)


def test_threads_have_a_choice_of_their_own(model, gpt2, modules, batch):
    asked = {"max_new_tokens": 6, "do_sample": False}
    choices = ["a", "p", CHOICES[0], None]
    with abi.attach(model, modules, tokenizer=gpt2[1]) as attached:
        expected = [attached.generate(**batch, **asked, module_ids=choice) for choice in choices]
        found = [None] * len(choices)

        def work(i):
            for _ in range(3):
                found[i] = attached.generate(**batch, **asked, module_ids=choices[i])

        threads = [threading.Thread(target=work, args=(i,)) for i in range(len(choices))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for i in range(len(choices)):
        assert torch.equal(found[i], expected[i])


def test_a_module_is_injected_and_revoked_while_others_stay(model, gpt2, modules, batch):
    plain = model(**batch).logits
    with abi.attach(model, {"a": modules["a"], "b": modules["b"]}, tokenizer=gpt2[1]) as attached:
        attached.use({"a": 1.0, "b": 0.5})
        both = model(**batch).logits
        attached.inject("p", modules["p"])
        attached.inject("deep", modules["deep"])
        assert torch.equal(model(**batch).logits, both)
        attached.use({"a": 1.0, "deep": 1.0, "p": 1.0})
        attached.revoke("deep")
        attached.revoke("p")
        left = model(**batch).logits
        attached.use("a")
        assert torch.equal(model(**batch).logits, left)
        attached.revoke("a")
        assert torch.equal(model(**batch).logits, plain)
        with pytest.raises(DataError, match="no module 'a'; attached: b"):
            attached.use("a")


@pytest.mark.parametrize("name", ["a", "p"])
def test_what_a_thread_has_chosen_goes_on_without_a_module_that_is_revoked(model, gpt2, modules, batch, name):
    plain = model(**batch).logits
    with abi.attach(model, modules, tokenizer=gpt2[1]) as attached, attached.using([name, "b", None, None]):
        attached.revoke(name)
        left = model(**batch).logits
        assert torch.equal(left[0], plain[0])
        assert not torch.equal(left[1], plain[1])


def test_detached_modules_are_not_put_back_by_a_choice(model, gpt2, modules, batch):
    attached = abi.attach(model, {"a": modules["a"]}, tokenizer=gpt2[1])
    attached.detach()
    calls = [
        lambda: attached.inject("p", modules["p"]),
        lambda: attached.use("a"),
        lambda: attached.using("a").__enter__(),
    ]
    for act in [*calls, lambda: attached.generate(**batch, module_ids="a")]:
        with pytest.raises(DataError, match="they were detached from the model; attach them again"):
            act()
    assert not model._forward_hooks


def test_a_module_is_left_where_it_is_by_a_model_elsewhere(modules):
    """A copy goes to the model's device: others may hold the module."""
    net = modules["a"].net
    there = on_device(net, torch.device("meta"))
    assert (there.device.type, net.device.type) == ("meta", "cpu")
    assert on_device(net, net.device) is net


def test_what_cannot_be_chosen_is_one_sentence(model, gpt2, qwen, modules, batch, refuses):
    with abi.attach(model, modules, tokenizer=gpt2[1]) as attached:
        with refuses("no module 'c'; attached: a, b, deep, p"):
            attached.use(["a", "c"])
        with refuses("Module is no choice; give a name"):
            attached.use(modules["a"])
        with refuses("weight 1 of 'a' is not a finite number"):
            attached.use({"a": "1"})
        with refuses("weight nan of 'a' is not a finite number"):
            attached.use({"a": float("nan")})
        with refuses("an empty list chooses nothing"):
            attached.use([])
        for ids in (["a", "b"], [None] * 3, ["a"] * 8):
            with refuses(f"{len(ids)} module_ids for 4 prompts; give one each, or one for all"):
                attached.generate(**batch, max_new_tokens=1, module_ids=ids)
        with refuses("'a' is taken"):
            attached.inject("a", modules["b"])
        for own in ("a", "p"):
            with refuses("3 module_ids for a batch of 4 rows"), attached.using([own, None, own]):
                model(**batch)
            with refuses("2 module_ids for a batch of 4 rows"), attached.using([own, None]):
                model(**batch)  # no beams: which rows are meant is not said
        with refuses("a module is attached to this backbone already"):
            abi.attach(model, modules["a"], tokenizer=gpt2[1])
    hooks = [len(part._forward_pre_hooks) for part in qwen[0].modules()]
    with refuses("32 wide, and this one is 40 wide"):
        abi.attach(qwen[0], modules, tokenizer=qwen[1])
    assert hooks == [len(part._forward_pre_hooks) for part in qwen[0].modules()]


def test_one_module_under_two_names_counts_twice_and_stays_while_one_of_them_does(model, gpt2, modules, batch):
    with abi.attach(model, {"a": modules["a"], "again": modules["a"]}, tokenizer=gpt2[1]) as attached:
        attached.use("a")
        alone = model(**batch).logits
        with attached.using({"a": 0.5, "again": 0.5}):
            torch.testing.assert_close(model(**batch).logits, alone)
        attached.revoke("again")
        assert torch.equal(model(**batch).logits, alone)


@pytest.mark.filterwarnings("ignore")
def test_a_model_that_was_placed_by_device_map_works_and_one_with_offloaded_weights_is_refused(
    world, model, gpt2, modules, batch, tmp_path, refuses
):
    """Accelerate wraps the forward of every placed part."""
    with abi.attach(model, modules["a"], tokenizer=gpt2[1]):
        wanted, text = model(**batch).logits, model.generate(**batch, max_new_tokens=4, do_sample=False)
    for places in ("auto", {"": "cpu"}):
        placed = AutoModelForCausalLM.from_pretrained(world / "small-gpt2", device_map=places).eval()
        with abi.attach(placed, modules["a"], tokenizer=gpt2[1]):
            assert torch.equal(placed(**batch).logits, wanted)
            assert torch.equal(placed.generate(**batch, max_new_tokens=4, do_sample=False), text)
    parts = ("transformer.wte", "transformer.wpe", "transformer.h.0", "transformer.h.1", "transformer.ln_f", "lm_head")
    places = dict.fromkeys(parts, "cpu") | {"transformer.h.0": "disk"}
    placed = AutoModelForCausalLM.from_pretrained(world / "small-gpt2", device_map=places, offload_folder=tmp_path)
    with refuses("some of its weights are offloaded; load it into memory whole"):
        abi.attach(placed, modules["a"], tokenizer=gpt2[1])
