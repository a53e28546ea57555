"""What an attached module does where a backbone is used in other ways: threads, positions, precision, gradients."""

import copy
import gc
import pickle
import threading

import pytest
import torch
from made_arms import edited
from small_models import small

from abi.models.attach import Marks, attach, generate
from abi.models.backbone import Backbone
from abi.models.module import AbiModule, ModuleConfig

IDS = torch.arange(24).reshape(2, 12) + 3


def module_of(backbone, taps=None, size=3.0):
    taps = taps or tuple(range(backbone.depth + 1))
    module = AbiModule(ModuleConfig(backbone.width, taps, 8, tap_norms=True)).requires_grad_(False)
    module.proj_out.weight.mul_(size)
    return module


@pytest.fixture
def gpt2(make_backbone):
    return make_backbone("gpt2")


@torch.no_grad()
def test_passes_side_by_side_do_not_mix(backbone, window_of):
    backbone.facts  # noqa: B018 (measured before the threads begin)
    batches = [IDS + shift for shift in range(6)]
    with attach(backbone, module_of(backbone)):
        alone = [backbone.logits(ids, window_of(backbone)) for ids in batches]
        found, start = {}, threading.Barrier(len(batches))

        def run(i):
            start.wait()
            with torch.no_grad():
                found[i] = [backbone.logits(batches[i], window_of(backbone)) for _ in range(8)]

        threads = [threading.Thread(target=run, args=(i,)) for i in range(len(batches))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(found) == len(batches)
    for i, expected in enumerate(alone):
        assert all(torch.allclose(logits, expected, atol=1e-5) for logits in found[i])


@torch.no_grad()
def test_a_resized_vocabulary_keeps_the_module(make_backbone, window_of):
    for family in ("gpt2", "t5", "llama"):
        backbone = make_backbone(family)
        rows = backbone.embeddings_out.weight.shape[0]
        plain = backbone.logits(IDS, window_of(backbone))
        with attach(backbone, module_of(backbone)):
            expected = backbone.logits(IDS, window_of(backbone))
            backbone.model.resize_token_embeddings(rows + 5, mean_resizing=False)
            found = backbone.logits(IDS, window_of(backbone))
            assert found.shape[-1] == rows + 5
            assert torch.allclose(found[..., :rows], expected, atol=1e-5)
        assert torch.allclose(backbone.logits(IDS, window_of(backbone))[..., :rows], plain, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("positions", [1, 4, torch.tensor([2, 7, 9]), torch.tensor([9, 0])])
def test_logits_of_some_positions_are_those_of_all(gpt2, positions):
    with attach(gpt2, module_of(gpt2)):
        whole = gpt2.model(input_ids=IDS, use_cache=False).logits
        some = gpt2.model(input_ids=IDS, use_cache=False, logits_to_keep=positions).logits
    wanted = whole[:, -positions:] if isinstance(positions, int) else whole[:, positions]
    assert torch.allclose(some, wanted, atol=1e-5)


def test_a_gradient_reaches_an_attached_module(backbone, window_of):
    module = module_of(backbone).requires_grad_(True)
    ids, window = IDS[:1], window_of(backbone)
    with attach(backbone, module):
        backbone.logits(ids, window)[..., 5].sum().backward()
    given = {name: p.grad for name, p in module.named_parameters()}
    assert all(grad is not None and grad.abs().max() > 0 for grad in given.values())
    before, parameter = given["proj_out.weight"][0, 0].item(), module.proj_out.weight
    values = []
    with attach(backbone, module), torch.no_grad():
        for step in (1e-2, -2e-2):
            parameter[0, 0] += step
            values.append(float(backbone.logits(ids, window)[..., 5].double().sum()))
    assert (values[0] - values[1]) / 2e-2 == pytest.approx(before, rel=2e-2, abs=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_module_of_half_precision_works(gpt2, window_of, dtype):
    plain, window = gpt2.logits(IDS, window_of(gpt2)), window_of(gpt2)
    with attach(gpt2, module_of(gpt2)):
        wanted = gpt2.logits(IDS, window)
    with attach(gpt2, module_of(gpt2).to(dtype)):
        found = gpt2.logits(IDS, window)
    assert found.dtype == torch.float32
    assert (found - wanted).abs().max() < 0.05 * (wanted - plain).abs().max()


@torch.no_grad()
def test_a_backbone_of_half_precision_works_and_cannot_be_compared(gpt2, make_backbone, window_of, facts, refuses):
    marks, module, window = Marks.of(gpt2), module_of(gpt2), window_of(gpt2)
    about = edited(facts, base_sha256=marks.weights)
    with attach(gpt2, module, about):
        wanted = gpt2.logits(IDS, window)
    half = Backbone(make_backbone("gpt2").model.to(torch.bfloat16), gpt2.tokenizer)
    with refuses("the backbone is in bfloat16, so its weights cannot be compared with those the module"):
        attach(half, module, about)
    with attach(half, module):
        found = half.logits(IDS, window)
    assert found.dtype == torch.bfloat16
    assert (found.float() - wanted).abs().max() < 0.05 * wanted.abs().max()


@torch.no_grad()
def test_a_head_that_runs_alone_is_one_sentence_and_the_next_pass_is_right(gpt2, window_of, refuses):
    with attach(gpt2, module_of(gpt2)):
        wanted = gpt2.logits(IDS, window_of(gpt2))
        with refuses("the head ran without its blocks, and the module reads tap 0; call the whole backbone"):
            gpt2.embeddings_out(torch.zeros(1, 3, 16))
        with pytest.raises((IndexError, RuntimeError)):
            gpt2.logits(IDS + 9999, window_of(gpt2))
        assert torch.equal(gpt2.logits(IDS, window_of(gpt2)), wanted)


@torch.no_grad()
def test_a_projection_before_the_head_is_corrected_at_the_wide_state(tokenizers):
    opt = small("opt-350m", tokenizers["bpe"])
    module = module_of(opt)
    with attach(opt, module):
        whole = opt.model(input_ids=IDS, use_cache=False).logits
        some = opt.model(input_ids=IDS, use_cache=False, logits_to_keep=torch.tensor([3, 8])).logits
        cached = generate(opt, IDS[:, :6], 6)
        assert torch.equal(cached, generate(opt, IDS[:, :6], 6, cache=False))
    assert torch.allclose(some, whole[:, [3, 8]], atol=1e-5)


@torch.no_grad()
def test_what_was_compiled_before_is_compiled_again_with_what_is_attached(make_backbone):
    backbone = copy.deepcopy(make_backbone("gpt2"))
    module = module_of(backbone)
    with attach(backbone, module):
        expected = backbone.model(input_ids=IDS).logits
    backbone.model.compile(backend="eager")
    plain = backbone.model(input_ids=IDS).logits
    with attach(backbone, module):
        torch.testing.assert_close(backbone.model(input_ids=IDS).logits, expected)
    torch.testing.assert_close(backbone.model(input_ids=IDS).logits, plain)
    torch.compiler.reset()  # what it holds would be freed in the middle of a later test
    del backbone
    gc.collect()


def test_a_module_is_pickled_as_others_are(gpt2):
    module = module_of(gpt2)
    again = pickle.loads(pickle.dumps(module))
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), again.parameters(), strict=True))


def test_a_handle_that_was_detached_is_not_entered_again(gpt2, refuses):
    attached = attach(gpt2, module_of(gpt2))
    attached.detach()
    with refuses("it was detached from the model; attach it again"), attached:
        pass


def test_weights_that_are_elsewhere_are_refused_in_one_sentence(make_backbone, refuses):
    backbone = copy.deepcopy(make_backbone("gpt2"))
    backbone.model.to("meta")
    with refuses("weights are offloaded; load it into memory whole"):
        backbone.facts  # noqa: B018
