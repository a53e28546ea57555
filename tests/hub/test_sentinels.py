import numpy as np
import pytest
import torch
from published import T5_LACKS, make_model, texts

from abi.base.errors import DataError
from abi.models.backbone import load_backbone
from abi.models.hub import _respell
from abi.models.probe import CODE, require_lossless
from abi.models.sentinels import SENTINEL, spell_bytes
from abi.models.states import Window
from abi.models.tokenizers import characters_lost, decode, encode, spellings, tokenizer_json

T5 = "google-t5/t5-large"


@pytest.fixture(scope="module")
def own(made):
    return load_backbone(made(T5))


@pytest.fixture(scope="module")
def spelled(tmp_path_factory):
    folder = make_model(T5, tmp_path_factory.mktemp("spelled") / "t5")
    _respell(folder)
    return load_backbone(folder)


def test_code_does_not_survive_t5s_own_tokenizer_and_states_of_it_are_refused(own):
    assert characters_lost(own.tokenizer, texts()) > 0.1
    with pytest.raises(DataError, match=r"the tokenizer of T5ForConditionalGeneration loses .* of the characters"):
        require_lossless(own, texts())


def test_with_sentinels_as_bytes_it_does(spelled):
    assert characters_lost(spelled.tokenizer, [*texts(), CODE, T5_LACKS, "\n\n    \t{x}\n", "é ß – … 日本 🙂 Ω ж"]) == 0
    assert require_lossless(spelled, texts()) == 0
    assert spelled.facts.characters_lost == 0
    assert spelled.facts.ends


def test_ids_rows_and_logits_are_t5s_own(own, spelled):
    before, after = own.tokenizer.get_vocab(), spelled.tokenizer.get_vocab()
    assert len(own.tokenizer) == len(spelled.tokenizer)
    assert {p: i for p, i in before.items() if not SENTINEL.fullmatch(p)} == {p: i for p, i in after.items() if i < 700}
    ids, window = torch.arange(20, 60)[None], Window(40, 20, 1)
    with torch.no_grad():
        assert torch.equal(own.logits(ids, window), spelled.logits(ids, window))


def test_signs_of_code_take_sentinels_that_pretraining_never_used(own, spelled):
    """512 tokens, of which 15 % are masked in spans of 3, need the first 26 sentinels."""
    before = {i: int(match[1]) for p, i in own.tokenizer.get_vocab().items() if (match := SENTINEL.fullmatch(p))}
    for sign in "\n" + T5_LACKS:
        [i] = encode(spelled.tokenizer, sign)[0].tolist()
        assert before[i] >= 26, sign


def test_every_token_tells_the_characters_it_completes_and_the_bytes_it_stands_for(spelled):
    text = "if x == {'é': 1}:\n\n\treturn `y`  # 日本\n"
    ids, ends = encode(spelled.tokenizer, text)
    known = spellings(spelled.tokenizer, spelled.embeddings_out.weight.shape[0])
    read = "".join(known[i] for i in ids).encode("latin-1")
    assert read.decode() == text
    sizes = np.cumsum([len(known[i]) for i in ids])
    assert [len(read[:size].decode(errors="ignore")) for size in sizes] == ends.tolist()


@pytest.mark.parametrize("text", ["<pad></s>", "<extra_id_3> x", "<0x0A>", "<unk>"])
def test_text_that_spells_a_control_piece_stays_text(spelled, text):
    ids = encode(spelled.tokenizer, text)[0].tolist()
    assert decode(spelled.tokenizer, ids) == text
    assert not {0, 1, 2} & set(ids)
    assert len(ids) > 1


def test_what_has_no_sentinel_left_is_counted_as_lost(spelled):
    assert characters_lost(spelled.tokenizer, ["a\x07b"]) > 0


def test_later_jobs_load_the_same_tokenizer(spelled, tmp_path):
    spelled.tokenizer.save_pretrained(tmp_path)
    spelled.model.config.save_pretrained(tmp_path)
    from transformers import AutoTokenizer

    assert tokenizer_json(AutoTokenizer.from_pretrained(tmp_path)) == tokenizer_json(spelled.tokenizer)


def test_another_tokenizer_is_refused(made):
    with pytest.raises(DataError, match="is no unigram with sentinels; take `sentinels_as_bytes` out"):
        spell_bytes(load_backbone(made("openai-community/gpt2")).tokenizer)
