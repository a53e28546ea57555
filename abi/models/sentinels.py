r"""T5's SentencePiece tokenizer made lossless: its sentinels stand for the bytes that its pieces cannot spell.

T5 has no piece for line ends, tabs, `{`, `}`, `<`, `\\`, `^`, `~` and the grave accent, and its normalizer joins runs
of spaces: code does not survive. The model has rows for a hundred sentinels (`<extra_id_0>` to `<extra_id_99>`), of
which pretraining used the first 26. They are renamed here, from the last to the first; no row is added and no weight
changes.
"""

import json
import re
from typing import Any

import transformers

from abi.base.errors import DataError
from abi.models.tokenizers import unigram

SENTINEL = re.compile(r"<extra_id_(\d+)>")
CONTINUING = range(0x80, 0xC0)
LEADING = (0xC2, 0xC3, 0xE2, 0xF0, *range(0xE3, 0xEA), 0xEF, 0xCE, 0xCF, 0xD0, 0xD1, *range(0xC4, 0xCE), 0xE1)
"""Bytes that begin a character of several, the more frequent first: Latin, punctuation, emoji, CJK, Greek, Cyrillic."""


def spell_bytes(tokenizer: Any) -> Any:
    """Return a tokenizer of the same pieces and ids that reads text as it stands; some sentinels spell bytes.

    Characters beyond them stay lost: control characters, and those of scripts whose bytes come last.
    Raises: DataError: it is no SentencePiece unigram with sentinels.
    """
    told = json.loads(tokenizer.backend_tokenizer.to_str())["model"] if tokenizer.is_fast else {}
    found = {int(match[1]): i for piece, i in tokenizer.get_vocab().items() if (match := SENTINEL.fullmatch(piece))}
    if told.get("type") != "Unigram" or told.get("unk_id") is None or not found:
        raise DataError(
            f"tokenizer: {type(tokenizer).__name__} is no unigram with sentinels; take `sentinels_as_bytes` out"
        )
    pieces = [(piece, score) for piece, score in told["vocab"]]
    pieces += [(tokenizer.convert_ids_to_tokens(i), 0.0) for i in range(len(pieces), len(tokenizer))]
    whole = {piece for piece, _ in pieces}
    plain = ["\n", "\t", *map(chr, range(ord("!"), 0x7F))]
    wanted = [*(ord(c) for c in plain if c not in whole), *CONTINUING, *LEADING]
    for number, byte in zip(sorted(found, reverse=True), wanted, strict=False):
        pieces[found[number]] = (f"<0x{byte:02X}>", 0.0)
    control = "|".join(re.escape(piece[1:]) for piece, _ in pieces if piece.startswith("<") and piece.endswith(">"))
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=unigram(pieces, int(told["unk_id"]), f"<(?={control})"),
        eos_token=tokenizer.eos_token,
        pad_token=tokenizer.pad_token,
        unk_token=tokenizer.unk_token,
        clean_up_tokenization_spaces=False,
    )
