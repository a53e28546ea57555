"""What a LoRA adapter does as a portable module: how much of it, where it moves, and which adapters are refused."""

import copy
import warnings

import api_world
import pytest
import torch
from api_world import adapting, loaded, moved_adapter

import abi
from abi.api.adapters import CONFIG, WEIGHTS, adapted
from abi.api.distilling import divergences
from abi.api.sides import backbone_of
from abi.base.files import parse_json, sha256_tensors
from abi.models import loop
from abi.models.head import Head
from abi.models.portable import PortableConfig, PortableModule

FEW = {"steps": 60}


@pytest.fixture(scope="module")
def held(world, gpt2, adapter):
    return abi.distill(*gpt2, adapter, api_world.notes(48), world / "queries", name="notes", **FEW)


def test_what_an_adapter_does_moves_to_another_tokenizer_and_an_untrained_one_does_nothing(world, gpt2, qwen, held):
    placebo = abi.distill(
        *gpt2, adapting(loaded(world / "small-gpt2")[0]), api_world.notes(48), world / "queries", **FEW
    )
    moved, empty = (abi.transfer(module, gpt2, qwen) for module in (held, placebo))
    found, nothing = (abi.evaluate(qwen[0], module, api_world.notes(48), qwen[1]) for module in (moved, empty))
    assert found.gain.lower > 0.005
    assert abs(nothing.gain.mean) < 0.0005
    assert moved.record.adapter == held.record.adapter


def test_how_much_of_an_adapter_a_module_holds_is_told(world, gpt2, held, adapter, live):
    found = abi.evaluate(gpt2[0], held, api_world.notes(48), gpt2[1], adapter=adapter)
    share = found.gain.mean / (found.without.mean - found.adapter.with_adapter.mean)
    assert found.adapter.share.estimate == pytest.approx(share)
    [(low, high)] = found.adapter.share.pieces
    assert 0.5 < low < share < high < 2
    assert f"share of the adapter's gain that the module holds: {share:.2f} [" in str(found)
    assert abi.evaluate(gpt2[0], held, api_world.notes(48), gpt2[1], adapter=live).adapter == found.adapter
    assert found.documents[0].with_adapter < found.documents[0].without


def test_model_and_adapter_stay_as_they_are_and_a_live_one_teaches_what_its_folder_does(world, gpt2, held, live):
    before = sha256_tensors(dict(live.state_dict()))
    again = abi.distill(*gpt2, live, api_world.notes(48), world / "queries", name="notes", **FEW)
    assert again.sha256 == held.sha256
    assert (held.record.adapter.name, again.record.adapter.name) == ("my-lora", "default")
    assert held.record.adapter.sha256 == again.record.adapter.sha256
    assert sha256_tensors(dict(live.state_dict())) == before
    plain = loaded(world / "small-gpt2")[0]
    assert sha256_tensors(dict(gpt2[0].state_dict())) == sha256_tensors(dict(plain.state_dict()))


def test_one_that_was_killed_goes_on_to_the_same_bits(world, gpt2, adapter, tmp_path, monkeypatch):
    given = [*gpt2, adapter, api_world.notes(48), world / "queries"]
    whole, steps = abi.distill(*given, steps=6), []

    def mortal(*arguments):
        steps.append(1)
        if len(steps) == 4:
            raise KeyboardInterrupt
        return divergences(*arguments)

    monkeypatch.setattr("abi.api.distilling.divergences", mortal)
    monkeypatch.setitem(loop.fit.__kwdefaults__, "checkpoint_every_s", 0.0)
    with pytest.raises(KeyboardInterrupt):
        abi.distill(*given, steps=6, keep=tmp_path / "parts")
    assert (tmp_path / "parts" / "distilled-1.safetensors").is_file()
    again = abi.distill(*given, steps=6, keep=tmp_path / "parts")
    assert len(steps) == 4 + 3  # of six steps three were kept
    assert again.sha256 == whole.sha256
    assert again.record.loss == whole.record.loss
    assert not (tmp_path / "parts").exists()


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_on_a_model_in_bf16_it_does_the_same_but_for_rounding(world, gpt2, adapter, held):
    from peft import PeftModel

    [half, other] = [loaded(world / "small-gpt2", dtype=torch.bfloat16)[0] for _ in range(2)]
    taught, live = adapter, PeftModel.from_pretrained(other, adapter)
    made = [abi.distill(half, gpt2[1], one, api_world.notes(48), world / "queries", **FEW) for one in (taught, live)]
    assert made[0].sha256 == made[1].sha256 != held.sha256
    own, full = (
        abi.evaluate(model, module, api_world.notes(48), gpt2[1], adapter=adapter)
        for model, module in ((half, made[0]), (gpt2[0], held))
    )
    assert own.gain.mean == pytest.approx(full.gain.mean, rel=0.05)
    assert own.adapter.share.estimate == pytest.approx(full.adapter.share.estimate, rel=0.05)


FORMS = {
    "DoRA": {"use_dora": True},
    "biases": {"bias": "lora_only"},
    "whole layers": {"modules_to_save": ["norm"]},
    "embeddings of its own": {"modules_to_save": ["embed_tokens"]},
    "LoRA on the embeddings": {"target_modules": ["q_proj", "embed_tokens"]},
    "another start": {"init_lora_weights": "pissa"},
}


@pytest.mark.parametrize("form", FORMS)
def test_an_adapter_of_every_form_acts_from_its_folder_as_it_does_live(world, qwen, form, tmp_path):
    live = on_qwen(world, **FORMS[form])
    saved(live, tmp_path / "saved")
    found, ids = adapted(backbone_of(*qwen), tmp_path / "saved"), torch.arange(5, 45)[None]
    with torch.no_grad():
        wanted, plain = live(input_ids=ids).logits, qwen[0](input_ids=ids).logits
        assert torch.equal(found.backbone.model(input_ids=ids).logits, wanted)
    assert not torch.allclose(wanted, plain, atol=1e-3)


def test_what_is_minimised_is_the_divergence_over_strings_whatever_is_formed_at_once(monkeypatch):
    rng = torch.Generator().manual_seed(0)
    head, anchor_of = Head(torch.randn(7, 4, generator=rng), 1.0), torch.tensor([0, 1, 2, 3, 1, 2, 3])
    net = PortableModule(PortableConfig(("a", "b", "c"), 4, context=2, byte_width=2))
    torch.nn.init.normal_(net.proj_out.weight, generator=rng)
    plain, wanted = torch.randn(2, 5, 4, generator=rng)
    contexts = torch.randint(256, (5, 2), generator=rng)
    shift = torch.nn.functional.pad(net(contexts), (0, 1))[:, anchor_of]
    p, q = (head.logits(wanted)).log_softmax(-1), (head.logits(plain) + shift).log_softmax(-1)
    of_strings = [torch.zeros(5, 4).index_add(1, anchor_of, log.exp()) for log in (p, q)]
    expected = torch.nn.functional.kl_div(of_strings[1].log(), of_strings[0], reduction="none").sum(1)
    gradient = torch.autograd.grad(expected.sum(), net.proj_out.weight)[0]
    for logits in (2**23, 14):  # all five positions at once, and two
        monkeypatch.setattr("abi.api.distilling.LOSS_LOGITS", logits)
        found = divergences(net, head, anchor_of, plain, wanted, contexts)
        assert torch.allclose(found, expected, atol=1e-6)
        assert torch.allclose(torch.autograd.grad(found.sum(), net.proj_out.weight)[0], gradient, atol=1e-6)


def on_qwen(world, model=None, **changes):
    """An adapter on the second model that does something."""
    model = model or loaded(world / "small-qwen")[0]
    made = adapting(model, **{"target_modules": ["q_proj", "v_proj"], "fan_in_fan_out": False, **changes})
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=rng), alpha=0.05)
    return made


def saved(live, folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT says that it stores embeddings, too
        live.save_pretrained(folder)


# what is refused


@pytest.fixture
def wrapped(live):
    return copy.deepcopy(live)


def test_an_adapter_that_does_not_act_alone_and_as_it_is_is_refused(gpt2, wrapped, refuses):
    base = backbone_of(*gpt2)
    wrapped.base_model.disable_adapter_layers()
    with refuses("it is disabled; switch it on"):
        adapted(base, wrapped)
    wrapped.base_model.enable_adapter_layers()
    wrapped.add_adapter("other", wrapped.peft_config["default"])
    wrapped.base_model.set_adapter(["default", "other"])
    with refuses("of 'default', 'other' not one alone acts"):
        adapted(base, wrapped)
    wrapped.set_adapter("other")
    assert adapted(base, wrapped).about.name == "other"
    wrapped.merge_adapter()
    with refuses("it is merged into the weights"):
        adapted(base, wrapped)


def test_an_adapter_of_another_model_is_refused(world, gpt2, qwen, adapter, wrapped, tmp_path, refuses):
    with refuses("is an adapter of .*small-gpt2', and the model given is 'small-qwen'"):
        adapted(backbone_of(*qwen), adapter)
    moved_adapter(adapter, tmp_path / "renamed", "small-qwen")
    with refuses("does not fit Qwen2ForCausalLM"):
        adapted(backbone_of(*qwen), tmp_path / "renamed")
    with torch.no_grad():
        next(wrapped.get_base_model().parameters()).view(-1)[0] += 1e-3
    with refuses("the model below 'default' is not the model given"):
        adapted(backbone_of(*gpt2), wrapped)
    with refuses("an adapter has been put on it; load the plain model once more"):
        adapted(backbone_of(wrapped.get_base_model(), gpt2[1]), adapter)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_what_is_no_lora_below_the_head_is_refused(world, gpt2, refuses):
    from peft import IA3Config, get_peft_model

    base = backbone_of(*gpt2)
    with refuses("a Linear is neither a folder nor a PeftModel"):
        adapted(base, torch.nn.Linear(2, 2))
    other = IA3Config(target_modules=["c_attn"], feedforward_modules=[], fan_in_fan_out=True)
    with refuses("it is of kind IA3; abi distils LoRA adapters"):
        adapted(base, get_peft_model(loaded(world / "small-gpt2")[0], other))
    on_head = adapting(loaded(world / "small-gpt2")[0], target_modules=["lm_head"], init_lora_weights=False)
    with refuses("changes the head of the model"):
        abi.distill(*gpt2, on_head, api_world.notes(48), world / "queries", steps=1)


def test_a_folder_that_is_not_whole_or_pickled_is_refused(gpt2, adapter, tmp_path, refuses):
    base = backbone_of(*gpt2)
    moved_adapter(adapter, tmp_path / "pickled", "small-gpt2")
    (tmp_path / "pickled" / WEIGHTS).rename(tmp_path / "pickled" / "adapter_model.bin")
    with refuses("holds no adapter_model.safetensors, and abi unpickles nothing"):
        adapted(base, tmp_path / "pickled")
    with refuses("it has several, pickled; give the folder of one"):
        adapted(base, tmp_path)
    (tmp_path / "pickled" / CONFIG).write_text("{")
    (tmp_path / "pickled" / WEIGHTS).write_bytes((adapter / WEIGHTS).read_bytes())
    with refuses("its adapter_config.json cannot be read"):
        adapted(base, tmp_path / "pickled")


HEADS = {
    "LoRA on it": {"target_modules": ["q_proj", "lm_head"]},
    "one of its own": {"modules_to_save": ["lm_head"]},
    "tied to embeddings": {"modules_to_save": ["embed_tokens"], "ensure_weight_tying": True},
    "new rows": {"trainable_token_indices": [5, 6]},
}


@pytest.mark.parametrize("form", HEADS)
def test_the_folder_of_one_that_changes_the_head_is_refused(world, qwen, form, tmp_path, refuses):
    saved(on_qwen(world, **HEADS[form]), tmp_path / "saved")
    with refuses("saved changes the head of the model"):
        abi.distill(*qwen, tmp_path / "saved", api_world.notes(48), world / "queries", steps=1)


def test_a_live_one_that_changes_the_model_in_place_is_asked_for_as_a_folder(world, qwen, refuses):
    base = backbone_of(*qwen)
    for form in ("biases", "whole layers", "another start"):
        with refuses("if the adapter has biases or whole layers of its own, its folder"):
            adapted(base, on_qwen(world, **FORMS[form]))
    with refuses("it ties tensors, so it cannot be copied; save it"):
        adapted(base, on_qwen(world, target_modules=["embed_tokens"], ensure_weight_tying=True))


def test_a_vocabulary_that_was_changed_is_that_of_the_model_or_refused(world, qwen, tmp_path, refuses):
    def resized(seed):
        (model, tokenizer), _ = loaded(world / "small-qwen"), torch.manual_seed(seed)
        tokenizer.add_tokens(["<one>", "<two>"])
        model.resize_token_embeddings(len(tokenizer))
        return model, tokenizer

    with torch.random.fork_rng(devices=[]):
        model, other = resized(1), resized(2)
    saved(on_qwen(world, copy.deepcopy(model[0])), tmp_path / "saved")
    with refuses(r"its .*weight is of shape \[382, 40\], that of Qwen2ForCausalLM \[380, 40\]; give its own model"):
        adapted(backbone_of(*qwen), tmp_path / "saved")
    with refuses("brings a .*weight that is not the one of Qwen2ForCausalLM; load it into that model first"):
        adapted(backbone_of(*other), tmp_path / "saved")
    assert adapted(backbone_of(*model), tmp_path / "saved").about.name == "saved"


def test_the_base_that_a_folder_names_need_not_be_at_hand_but_its_revision_is_compared(
    world, gpt2, adapter, tmp_path, refuses
):
    model, tokenizer = loaded(world / "small-gpt2")
    moved_adapter(adapter, tmp_path / "moved", "nobody/small-gpt2", revision="a" * 40)
    assert adapted(backbone_of(model, tokenizer), tmp_path / "moved").about.name == "moved"
    model.config._commit_hash = "a" * 40
    assert adapted(backbone_of(model, tokenizer), tmp_path / "moved").about.name == "moved"
    model.config._commit_hash = "b" * 40
    with refuses(f"of revision {'a' * 40} of 'nobody/small-gpt2', and the model given is of {'b' * 40}"):
        adapted(backbone_of(model, tokenizer), tmp_path / "moved")


def test_an_adapter_that_classifies_is_refused(gpt2, adapter, tmp_path, refuses):
    moved_adapter(adapter, tmp_path / "moved", "small-gpt2", task_type="SEQ_CLS")
    with refuses("its task is SEQ_CLS; abi distils adapters of language models"):
        adapted(backbone_of(*gpt2), tmp_path / "moved")


def test_a_distilled_module_is_no_seed_of_a_comparison(world, gpt2, qwen, held, refuses):
    with refuses("was distilled from an adapter, and those of other seeds would learn from the text"):
        abi.compare(held, gpt2, qwen, world / "queries", world / "prose")


# the command


def test_the_command_distils_and_says_how_much_it_holds(world, adapter, tmp_path, monkeypatch, capsys):
    from abi.cli import main

    monkeypatch.chdir(tmp_path)
    given = ["--model", str(world / "small-gpt2"), "--adapter", str(adapter), "--texts", str(world / "queries")]
    asked = ["distill", *given, "--general-texts", str(world / "prose"), "--steps", "5", "--out", "made", "--json"]
    assert main.main(asked) == 0
    told = parse_json(capsys.readouterr().out)
    assert told["record"]["adapter"]["name"] == "my-lora"
    assert told["evaluation"]["module"] == told["module"] == abi.Module.from_pretrained("made").sha256
    assert told["evaluation"]["adapter"]["share"]["estimate"] is not None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made"]
