"""A module in the lm-evaluation-harness counts as it does here (`make test-harness`)."""

import pytest
import torch

import abi
from abi.models.backbone import save_backbone

pytest.importorskip("lm_eval", reason="the lm-evaluation-harness is not installed; `make test-harness`")
SKIP = 20


@pytest.fixture
def saved(make_backbone, texts, tmp_path):
    """A model, its tokenizer, a module of it, and the folders of both."""
    backbone = make_backbone("llama")
    save_backbone(backbone, tmp_path / "model")
    pair = backbone.model, backbone.tokenizer
    made = abi.train(*pair, [text[i : i + 600] for text in texts for i in range(0, 2400, 600)], steps=5, window=32)
    made.save_pretrained(tmp_path / "module")
    return pair, made, tmp_path


@pytest.mark.filterwarnings("ignore")
def test_the_harness_and_an_attached_model_give_the_same_likelihoods(saved, texts):
    from abi.api.harness import ModuleLM

    (model, tokenizer), made, folder = saved
    ids = [tokenizer(text, return_tensors="pt")["input_ids"][:, :48] for text in texts]
    asked = [(("", ""), one[0, :SKIP].tolist(), one[0, SKIP:].tolist()) for one in ids]
    told = {}
    for name, given in {"plain": {}, "module": {"module": str(folder / "module")}}.items():
        lm = ModuleLM(str(folder / "model"), device="cpu", batch_size=2, **given)
        told[name] = torch.tensor([nats for nats, _ in lm._loglikelihood_tokens(asked, disable_tqdm=True)])
    assert (told["plain"] - told["module"]).abs().min() > 1e-3
    with torch.no_grad(), abi.attach(model, made, tokenizer=tokenizer):
        own = [torch.log_softmax(model(one).logits, -1)[0, SKIP - 1 : -1] for one in ids]
    wanted = torch.stack([p.gather(1, one[0, SKIP:, None]).sum() for p, one in zip(own, ids, strict=True)])
    assert torch.allclose(told["module"], wanted, rtol=1e-5)
