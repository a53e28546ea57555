"""Tokenizers of SentencePiece that have no fast form, as GPT-SW3's and PLBart's."""

import pytest
import sentencepiece
import transformers

from abi.models.backbone import Backbone, load_backbone, save_backbone
from abi.models.identity import identity_hash, weights_hash
from abi.models.tokenizers import encode, spellings, tokenizer_json

TEXT = "def größe(x):\n    return {'é': x}\t# <pad> </s> 日本 🙂\n    \n\n"


@pytest.fixture
def pieces(texts, tmp_path):
    """Path of a SentencePiece model, made once for each way to read text."""

    def make(name="spiece", **how):
        path = tmp_path / f"{name}.model"
        with path.open("wb") as file:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter([line for text in texts for line in text.splitlines() if line]),
                model_writer=file,
                vocab_size=330,
                pad_id=0,
                unk_id=1,
                bos_id=2,
                eos_id=3,
                pad_piece="<pad>",
                eos_piece="<|endoftext|>",
                byte_fallback=True,
                num_threads=1,
                minloglevel=2,
                **{"normalization_rule_name": "identity", "remove_extra_whitespaces": False, **how},
            )
        return str(path)

    return make


@pytest.mark.parametrize("prefix", [False, True])
@pytest.mark.parametrize("make", [transformers.GPTSw3Tokenizer, transformers.PLBartTokenizer])
def test_the_pieces_of_a_text_end_where_they_spell_it(pieces, make, prefix):
    tokenizer = make(pieces(add_dummy_prefix=prefix))
    assert not tokenizer.is_fast
    ids, ends = encode(tokenizer, TEXT)
    assert ids.tolist() == tokenizer(TEXT, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    spelled = spellings(tokenizer, len(tokenizer))
    told = "".join(spelled[i] for i in ids).encode("latin-1").decode()
    assert told == " " * prefix + TEXT
    read = ["".join(spelled[i] for i in ids[: n + 1]).encode("latin-1") for n in range(len(ids))]
    assert [TEXT[:end] for end in ends] == [part.decode(errors="ignore")[prefix:] for part in read]
    assert [array.tolist() for array in encode(tokenizer, "")] == [[], []]


def test_a_backbone_with_such_a_tokenizer_is_admitted_saved_and_known_again(pieces, make_backbone, tmp_path):
    tokenizer = transformers.GPTSw3Tokenizer(pieces(add_dummy_prefix=False))
    backbone = Backbone(make_backbone("gpt2", vocab_size=len(tokenizer)).model, tokenizer)
    assert (backbone.facts.characters_lost, backbone.facts.ends) == (0, True)
    save_backbone(backbone, tmp_path / "saved")
    again = load_backbone(tmp_path / "saved")
    assert encode(again.tokenizer, TEXT)[1].tolist() == encode(tokenizer, TEXT)[1].tolist()
    assert len({identity_hash(one, weights_hash(one)) for one in (again, backbone)}) == 1


def test_the_same_pieces_with_other_scores_are_another_tokenizer(pieces):
    made = [
        transformers.GPTSw3Tokenizer(pieces(name, model_type=name, add_dummy_prefix=False))
        for name in ("bpe", "unigram")
    ]
    once, other = (tokenizer_json(tokenizer) for tokenizer in made)
    assert once["pieces"] != other["pieces"]


def test_one_that_changes_the_text_is_refused(pieces, refuses):
    tokenizer = transformers.PLBartTokenizer(pieces(remove_extra_whitespaces=True))
    with refuses("PLBartTokenizer has no fast form and changes a text as it reads it"):
        encode(tokenizer, "a    b")
    assert encode(tokenizer, "a b")[1][-1] == 3
