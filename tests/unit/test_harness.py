"""A module in the lm-evaluation-harness counts as it does here (`make test-harness`)."""

import pytest
import torch

import abi
from abi.models.backbone import save_backbone

pytest.importorskip("lm_eval", reason="the lm-evaluation-harness is not installed; `make test-harness`")
SKIP = 20
both_kinds = pytest.mark.parametrize("kind", ["module", "portable"])


@pytest.fixture
def measured(make_backbone, texts, tmp_path):
    """Return an attached model of a family, ids of texts, and the nats that the harness gives the rest of each."""
    from abi.api.harness import ModuleLM

    def made(family, kind):
        backbone = make_backbone(family)
        save_backbone(backbone, tmp_path / "model")
        model, tokenizer = backbone.model, backbone.tokenizer
        pieces = [text[i : i + 600] for text in texts for i in range(0, 2400, 600)]
        general = [piece.swapcase() for piece in pieces] if kind == "portable" else None
        module = abi.train(model, tokenizer, pieces, kind=kind, general_texts=general, steps=5, window=32)
        module.save_pretrained(tmp_path / "module")
        ids = [tokenizer(text, return_tensors="pt")["input_ids"][:, :48] for text in texts]
        asked = [(("", ""), one[0, :SKIP].tolist(), one[0, SKIP:].tolist()) for one in ids]
        told = {}
        for name, given in {"plain": {}, "module": {"module": str(tmp_path / "module")}}.items():
            lm = ModuleLM(str(tmp_path / "model"), device="cpu", batch_size=2, **given)
            told[name] = torch.tensor([nats for nats, _ in lm._loglikelihood_tokens(asked, disable_tqdm=True)])
        assert (told["plain"] - told["module"]).abs().min() > 1e-3
        return model, abi.attach(model, module, tokenizer=tokenizer), ids, told["module"]

    return made


def nats_of(logits, ids):
    """Return the log likelihood of ids [1, T] under logits [1, T, V]."""
    return torch.log_softmax(logits, -1)[0].gather(1, ids[0, :, None]).sum()


@both_kinds
@pytest.mark.filterwarnings("ignore")
def test_the_harness_and_an_attached_model_give_the_same_likelihoods(measured, kind):
    model, attached, ids, told = measured("llama", kind)
    with torch.no_grad(), attached:
        wanted = [nats_of(model(one).logits[:, SKIP - 1 : -1], one[:, SKIP:]) for one in ids]
    assert torch.allclose(told, torch.stack(wanted), rtol=1e-5)


@both_kinds
@pytest.mark.filterwarnings("ignore")
def test_so_do_those_of_an_encoder_decoder(measured, kind):
    model, attached, ids, told = measured("t5", kind)
    with torch.no_grad(), attached:
        for nats, one in zip(told, ids, strict=True):
            read = model.prepare_decoder_input_ids_from_labels(one[:, SKIP:])
            logits = model(input_ids=one[:, :SKIP], decoder_input_ids=read).logits
            assert torch.allclose(nats, nats_of(logits, one[:, SKIP:]), rtol=1e-4)
