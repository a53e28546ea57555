"""Tokenizers: trained, read as spellings of bytes, and used to cut text into ids with the characters each has read."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
import torch
import transformers
from torch import Tensor

from abi.base.errors import DataError
from abi.base.files import sha256_json
from abi.models.utf8 import byte_positions

Made = TypeVar("Made")

PIECE_LIKE = r"<(?=0x[0-9A-F]{2}>|pad>|unk>|\|endoftext\|>)"
"""The bracket of text that spells a byte or control piece: cut off, so that text stays text, as in SentencePiece."""

END_OF_TEXT, PAD = "<|endoftext|>", "<pad>"
LONE_SPACE = "▁"
BYTE_PIECE = re.compile(r"<0x[0-9A-Fa-f]{2}>")


def _byte_alphabet() -> dict[str, int]:
    """Return character -> byte of GPT-2's alphabet: printable bytes are themselves, the others follow 255."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


BYTE_OF = _byte_alphabet()


def vocabulary_hash(tokenizer: Any) -> str:
    """Return a hash of the vocabulary: equal hashes mean equal ids, equal sizes do not."""
    return sha256_json(sorted(tokenizer.get_vocab().items()))[:20]


def spellings(tokenizer: Any, rows: int) -> list[str | None]:
    """Return per id the bytes a token stands for, as Latin-1 text; None for special tokens and ids without a token.

    Byte-level vocabularies spell bytes with the characters of GPT-2's alphabet, SentencePiece-like ones with the text
    itself, a mark for the space and `<0x..>` for single bytes. Where a byte has a piece of its own as text, the
    tokenizer never writes it as `<0x..>`, and what the model says there means nothing: such byte pieces are None too.
    Args: rows: of the head, which may exceed the vocabulary.
    """
    if not tokenizer.is_fast and not _of_sentencepiece(tokenizer):
        return [None if byte is None else chr(byte) for byte in _bytes_of(tokenizer, rows)]
    decoder = json.loads(tokenizer.backend_tokenizer.to_str())["decoder"] if tokenizer.is_fast else None
    byte_level = "ByteLevel" in json.dumps(decoder)
    added = {i: token for i, token in tokenizer.added_tokens_decoder.items() if i < rows}
    special = set(tokenizer.all_special_ids) | {i for i, token in added.items() if token.special}
    found: list[str | None] = [None] * rows
    single: dict[int, str] = {}
    for piece, i in tokenizer.get_vocab().items():
        if i in special or i >= rows:
            continue
        if i in added:  # stands for its own text, as NeoX's runs of spaces do
            found[i] = piece.encode().decode("latin-1")
        elif byte_level:
            known = all(character in BYTE_OF for character in piece)
            found[i] = "".join(chr(BYTE_OF[character]) for character in piece) if known else None
        elif BYTE_PIECE.fullmatch(piece):
            single[i] = _spelled(piece).decode("latin-1")
        else:
            found[i] = _spelled(piece).decode("latin-1")
    as_text = set(found)
    for i, byte in single.items():
        found[i] = None if byte in as_text else byte
    return found


def encode(tokenizer: Any, text: str) -> tuple[np.ndarray, np.ndarray]:
    """Return ids `[n]` and the characters `[n]` fully read after each token, without special tokens.

    Tokens that are bytes of one character, or of a run of characters the vocabulary lacks, share one span; each is
    given the characters its bytes complete. A token whose span reaches into that of the next ends where the next
    begins: SentencePiece's lone space, or bytes with the first ones of a character that the next completes.
    Raises: DataError: a tokenizer without offsets that is neither SentencePiece's nor one of bytes; or one of
        SentencePiece that changes the text.
    """
    if not getattr(tokenizer, "is_fast", True):
        return _encode_pieces(tokenizer, text) if _of_sentencepiece(tokenizer) else _encode_bytes(tokenizer, text)
    coded = tokenizer(
        text, add_special_tokens=False, return_offsets_mapping=True, split_special_tokens=True, verbose=False
    )
    spans, pieces = coded["offset_mapping"], coded.tokens()
    ends = [end for _, end in spans]
    first = 0
    for i in range(1, len(spans) + 1):
        if i == len(spans) or spans[i] != spans[first]:
            if i - first > 1:
                ends[first:i] = _shared_span(text, spans[first], i - first)
            shared = i < len(spans) and spans[i][0] == spans[first][0] and pieces[i - 1] == LONE_SPACE
            if shared or (i < len(spans) and spans[i][0] > spans[first][0]):
                ends[i - 1] = min(ends[i - 1], spans[i][0])
            first = i
    return np.array(coded["input_ids"], dtype=np.int32), np.maximum.accumulate(np.array(ends, dtype=np.int32))


def beyond(tokenizer: Any, rows: int) -> list[str]:
    """Return the tokens whose ids a head of some rows lacks, but for special ones, which no text is split into.

    Gemma 3's image token, shared by all its sizes, is such a one for those that read text alone.
    """
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    return sorted(token for token, i in tokenizer.get_vocab().items() if i >= rows and i not in special)


def start_of(tokenizer: Any) -> int | None:
    """Return the id that a tokenizer puts before a text, None where it puts none.

    A family that was trained with such a token is much worse without it (Gemma), so every window and every prompt
    begins with it. It is read off the tokenizer: nobody has to know it, or can forget it.
    Raises: DataError: the tokenizer puts several.
    """
    plain = tokenizer("a", add_special_tokens=False, verbose=False)["input_ids"]
    whole = tokenizer("a", verbose=False)["input_ids"]
    before = next((n for n in range(len(whole)) if whole[n : n + len(plain)] == plain), 0)
    if before > 1:
        raise DataError(
            f"tokenizer: {type(tokenizer).__name__} puts {before} tokens before a text; abi puts one at most"
        )
    return int(whole[0]) if before else None


def prompt_ids(tokenizer: Any, text: str) -> list[int]:
    """Return the ids of a prompt as a backbone reads it: the token that a text begins with, if any, then the text.

    Of any tokenizer: to go on with a text nobody asks which characters a token stands for.
    """
    start = start_of(tokenizer)
    ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
    return [*([] if start is None else [start]), *ids]


def _of_sentencepiece(tokenizer: Any) -> bool:
    """Return whether a tokenizer without a fast form asks SentencePiece (GPT-SW3, PLBart)."""
    from transformers.tokenization_utils_sentencepiece import SentencePieceBackend

    return isinstance(tokenizer, SentencePieceBackend)


def _spelled(piece: str) -> bytes:
    """Return the bytes that a piece of SentencePiece stands for."""
    return bytes([int(piece[3:5], 16)]) if BYTE_PIECE.fullmatch(piece) else piece.replace("▁", " ").encode()


def _encode_pieces(tokenizer: Any, text: str) -> tuple[np.ndarray, np.ndarray]:
    """Return `encode` of a tokenizer of SentencePiece without a fast form, whose pieces spell the text one by one."""
    ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
    pieces = [_spelled(piece) for piece in tokenizer.convert_ids_to_tokens(ids)]
    told = b"".join(pieces)
    added = int(told == b" " + text.encode())  # many put a space before a text
    if told[added:] != text.encode():
        raise DataError(
            f"tokenizer: {type(tokenizer).__name__} has no fast form and changes a text as it reads it (spaces, "
            "newlines, or characters that it lacks), so abi cannot tell where its tokens end; convert it "
            "(`tokenizer.json`), or use other text"
        )
    n_bytes = np.cumsum([len(piece) for piece in pieces]) - added
    ends = np.searchsorted(byte_positions(text)[1:], n_bytes, side="right")
    return np.array(ids, dtype=np.int32), ends.astype(np.int32)


def _bytes_of(tokenizer: Any, rows: int) -> list[int | None]:
    """Return per id the byte it stands for, None where it is no byte. Raises: DataError: no tokenizer of bytes."""
    vocabulary = tokenizer.get_vocab()
    missing = [byte for byte in range(256) if chr(byte) not in vocabulary]
    if missing or len(vocabulary) > 256 + 1024:
        raise DataError(
            f"tokenizer: {type(tokenizer).__name__} has no fast form and is neither SentencePiece's nor one of bytes, "
            "so abi cannot tell which text its tokens stand for; convert it (`tokenizer.json`)"
        )
    found: list[int | None] = [None] * rows
    for byte in range(256):
        if vocabulary[chr(byte)] < rows:
            found[vocabulary[chr(byte)]] = byte
    return found


def _encode_bytes(tokenizer: Any, text: str) -> tuple[np.ndarray, np.ndarray]:
    """Return `encode` of a tokenizer whose tokens are the bytes of a text (ByT5)."""
    known = _bytes_of(tokenizer, len(tokenizer))
    of = {byte: i for i, byte in enumerate(known) if byte is not None}
    return np.array([of[byte] for byte in text.encode()], dtype=np.int32), np.array(
        _shared_span(text, (0, len(text)), len(text.encode())) if text else [], dtype=np.int32
    )


def untrimmed(tokenizer: Any) -> Any:
    """Return the tokenizer with offsets that hold the spaces of a token (NeoX's come without), itself."""
    from tokenizers import Tokenizer

    told = json.loads(tokenizer.backend_tokenizer.to_str()) if tokenizer.is_fast else {}
    last = told.get("post_processor") or {}
    parts = [part for part in (last, *last.get("processors", [])) if part.get("trim_offsets")]
    for part in parts:
        part["trim_offsets"] = False
    if parts:
        tokenizer._tokenizer = Tokenizer.from_str(json.dumps(told))
    return tokenizer


def tokenizer_json(tokenizer: Any) -> Any:
    """Return all that decides what a tokenizer makes of text, as JSON; padding and truncation are of a call."""
    if not tokenizer.is_fast:
        own = {"class": type(tokenizer).__name__, "vocabulary": sorted(tokenizer.get_vocab().items())}
        if _of_sentencepiece(tokenizer):  # with the scores by which it chooses pieces
            own["pieces"] = hashlib.sha256(tokenizer.sp_model.serialized_model_proto()).hexdigest()
        return own
    told = json.loads(tokenizer.backend_tokenizer.to_str())
    return {key: value for key, value in told.items() if key not in {"padding", "truncation"}}


class PerTokenizer(Generic[Made]):
    """What is made of texts with the tokenizer of a backbone, once for all that have the same: the seeds of a batch.

    Args: make: of a backbone, of which it reads the tokenizer alone, and of what `of` is given beside it.
    """

    def __init__(self, make: Callable[..., Made]) -> None:
        self.make = make
        self._found: dict[tuple[Any, ...], Made] = {}

    def of(self, backbone: Any, *given: Hashable) -> Made:
        """Return what is made for a backbone; it is shared, so leave it as it is."""
        key = sha256_json(tokenizer_json(backbone.tokenizer)), *given
        if key not in self._found:
            self._found[key] = self.make(backbone, *given)
        return self._found[key]


def decode(tokenizer: Any, ids: Any, skip_special_tokens: bool = False) -> str:
    """Return the text of ids, with the spaces it has."""
    found: str = tokenizer.decode(ids, skip_special_tokens=skip_special_tokens, clean_up_tokenization_spaces=False)
    return found


def continuation(tokenizer: Any, prompt: Sequence[int], made: Sequence[int]) -> str:
    """Return the text that new ids add to a prompt's. Decoded alone it may lose its first space."""
    before = decode(tokenizer, list(prompt), True)
    whole = decode(tokenizer, [*prompt, *made], True)
    return whole[len(before) :] if whole.startswith(before) else decode(tokenizer, list(made), True)


def characters_lost(tokenizer: Any, texts: Iterable[str]) -> float:
    """Return the share of the characters of texts that encoding and decoding loses; at least one where one changes."""
    lost = total = 0
    for text in texts:
        back = decode(tokenizer, encode(tokenizer, text)[0].tolist())
        if back != text:
            lost += max(1, sum((Counter(text) - Counter(back)).values()))
        total += len(text)
    return lost / max(1, total)


def _shared_span(text: str, span: tuple[int, int], n_tokens: int) -> list[int]:
    """Return the characters fully read after each of n tokens that share a span of the text."""
    start, end = span
    sizes = byte_positions(text[start:end])[1:]
    if sizes[-1] == n_tokens:
        return [start + int(np.searchsorted(sizes, i, side="right")) for i in range(1, n_tokens + 1)]
    return [start] * (n_tokens - 1) + [end]


def build_tokenizer(texts: Sequence[str], kind: str, vocab_size: int) -> Any:
    """Return a fast tokenizer trained on texts; `kind` is `unigram` (SentencePiece) or `bpe` (byte-level).

    Raises: DataError: a text does not survive the round trip.
    """
    builder = {"unigram": _unigram, "bpe": _byte_level_bpe}[kind]
    inner = builder(texts, vocab_size)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token=END_OF_TEXT, pad_token=PAD, clean_up_tokenization_spaces=False
    )
    probe = texts[0][:2000] + "\n    x_1 = {'é': [1]}\n"
    if tokenizer.decode(tokenizer(probe, add_special_tokens=False)["input_ids"]) != probe:
        raise DataError(f"tokenizer {kind}: a text does not survive encoding and decoding; use other training text")
    return tokenizer


def _byte_level_bpe(texts: Sequence[str], vocab_size: int) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=[PAD, END_OF_TEXT], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _unigram(texts: Sequence[str], vocab_size: int) -> Any:
    """Return a `tokenizers` Unigram model with the pieces and scores of a trained SentencePiece model.

    Byte fallback and no normalisation, so that code survives; ids equal those of the SentencePiece processor.
    """
    import io

    import sentencepiece

    model = io.BytesIO()
    lines = [line for text in texts for line in text.splitlines() if line]
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=model,
            model_type="unigram",
            vocab_size=vocab_size,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            add_dummy_prefix=False,
            allow_whitespace_only_pieces=True,
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            pad_piece=PAD,
            eos_piece=END_OF_TEXT,
            num_threads=1,
            minloglevel=2,
            character_coverage=0.9995,
            byte_fallback=True,
        )
    except RuntimeError as error:
        reason = str(error).rpartition(": ")[2][:120]
        raise DataError(
            f"tokenizer unigram: the text cannot fill a vocabulary of {vocab_size} ({reason}); lower vocab_size"
        ) from None
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    pieces = [(processor.id_to_piece(i), processor.get_score(i)) for i in range(len(processor))]
    return unigram(pieces, 2, PIECE_LIKE)


def unigram(pieces: Sequence[tuple[str, float]], unknown: int, piece_like: str) -> Any:
    """Return a `tokenizers` Unigram model that reads text as it stands, with byte pieces for what no piece spells.

    Args: unknown: id of the piece for what no byte spells either; piece_like: text that spells a piece of another
        kind, cut so that it stays text.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(models.Unigram(list(pieces), unk_id=unknown, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(piece_like), "isolated")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return tokenizer


def pack(tokenizer: Any, texts: Iterable[str], length: int) -> Tensor:
    """Return `[N, length]` training windows: documents end to end with an end-of-text token between.

    Every window begins with the token that the tokenizer puts before a text, if it does.
    Raises: DataError: the tokenizer has no end-of-text token, or the text fills no window.
    """
    if tokenizer.eos_token_id is None:
        raise DataError("backbone: its tokenizer has no end-of-text token to put between documents; set `eos_token`")
    start = start_of(tokenizer)
    n_text = length if start is None else length - 1
    stream: list[int] = []
    for ids in tokenizer(list(texts), add_special_tokens=False, verbose=False, split_special_tokens=True)["input_ids"]:
        stream += [*ids, tokenizer.eos_token_id]
    rows = len(stream) // n_text
    if rows == 0:
        raise DataError(f"backbone: {len(stream)} tokens do not fill one window of {length}; add general text")
    packed = torch.tensor(stream[: rows * n_text], dtype=torch.int32).view(rows, n_text)
    return packed if start is None else torch.cat([torch.full_like(packed[:, :1], start), packed], 1)
