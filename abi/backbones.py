"""Backbones: load, build, tokenize, tap, head. The only importer of transformers; family differences live here."""

import json
import logging
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor

from abi.errors import DataError, TamperError
from abi.provenance import sha256_file, sha256_json, sha256_tensors, unwritable, write_tensors, write_text
from abi.training import BatchOrder, Phase, Schedule, fit

log = logging.getLogger("abi")
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
PIECE_LIKE = r"<(?=0x[0-9A-F]{2}>|pad>|unk>|\|endoftext\|>)"
"""The bracket of text that spells a byte or control piece: cut off, so that text stays text, as in SentencePiece."""
END_OF_TEXT, PAD = "<|endoftext|>", "<pad>"
BYTE_PIECE = re.compile(r"<0x[0-9A-Fa-f]{2}>")
BLOCK = re.compile(r"(.*?\.\d+)\.")
"""The block a layer stands in: its name up to the first number."""
MOST_OF_INTERFACE = 1.1
"""Trainable parameters of a LoRA adapter, at most, over those of the interface it is compared with."""


def _byte_alphabet() -> dict[str, int]:
    """Return character -> byte of GPT-2's byte-level alphabet: printable bytes are themselves, the others follow 255."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


BYTE_OF = _byte_alphabet()


@dataclass(frozen=True)
class Window:
    """How text becomes positions: `length` tokens, the first `prefix` of them for an encoder; `skip` are not scored."""

    length: int
    prefix: int
    skip: int

    @property
    def positions(self) -> int:
        """Predicted positions T per window."""
        return self.length - self.prefix if self.prefix else self.length - 1


@dataclass
class Backbone:
    """A frozen language model with its tokenizer, read from a folder in the Hugging Face layout."""

    model: Any
    tokenizer: Any

    @property
    def is_encoder_decoder(self) -> bool:
        """Whether the model has an encoder (prefix-LM use) or is a causal decoder."""
        return bool(self.model.config.is_encoder_decoder)

    @property
    def depth(self) -> int:
        """The tap index of the final state (after the final norm)."""
        config = self.model.config
        if self.is_encoder_decoder:
            return int(config.num_decoder_layers if t5_like(config) else config.decoder_layers)
        return int(config.num_hidden_layers)

    @property
    def width(self) -> int:
        """The backbone width D."""
        config = self.model.config
        return int(config.d_model if self.is_encoder_decoder else config.hidden_size)

    def require(self, window: Window) -> None:
        """Raise DataError where the model cannot read a window: wrong kind, or longer than its positions."""
        if bool(window.prefix) != self.is_encoder_decoder:
            kind = (
                "an encoder-decoder needs a prefix" if self.is_encoder_decoder else "a decoder-only model has no prefix"
            )
            raise DataError(f"states: window prefix {window.prefix}: {kind}; correct `window` of the backbone")
        limit = getattr(self.model.config, "max_position_embeddings", None)
        longest = max(window.prefix, window.length - window.prefix)
        if limit is not None and longest > limit:
            raise DataError(
                f"states: {longest} tokens of a window are more than the {limit} positions of "
                f"{type(self.model).__name__}; lower `window.length` of the backbone"
            )

    def hidden_states(self, tokens: Tensor, window: Window) -> tuple[Tensor, ...]:
        """Return L+1 hidden states `[B, T, D]` of the predicted positions; the last is after the final norm.

        Args: tokens: `[B, length]` ids. Encoder-decoder: the first `prefix` go to the encoder and the decoder predicts the rest.
        """
        return (
            self._run(self.model.base_model, tokens, window).decoder_hidden_states
            if self.is_encoder_decoder
            else tuple(state[:, :-1] for state in self._run(self.model.base_model, tokens, window).hidden_states)
        )

    def logits(self, tokens: Tensor, window: Window) -> Tensor:
        """Return the model's own logits `[B, T, V]` of the predicted positions."""
        logits = self._run(self.model, tokens, window).logits
        return logits if self.is_encoder_decoder else logits[:, :-1]

    def _run(self, model: Any, tokens: Tensor, window: Window) -> Any:
        """Return what the model, or its part below the head where the class has one, gives."""
        tokens = tokens.long()
        if self.is_encoder_decoder:
            inputs, targets = tokens[:, : window.prefix], tokens[:, window.prefix :]
            start = torch.full_like(targets[:, :1], self.model.config.decoder_start_token_id)
            decoder = torch.cat([start, targets[:, :-1]], dim=1)
            return model(input_ids=inputs, decoder_input_ids=decoder, output_hidden_states=True, use_cache=False)
        return model(input_ids=tokens, output_hidden_states=True, use_cache=False)

    def head(self) -> tuple[dict[str, Tensor], float]:
        """Return the head's tensors (`weight` `[V, D]`, maybe `bias` `[V]`) and the family's scale of the final state."""
        embeddings = self.model.get_output_embeddings()
        tensors = {"weight": embeddings.weight.detach().float().contiguous()}
        bias = getattr(embeddings, "bias", None)
        bias = getattr(self.model, "final_logits_bias", None) if bias is None else bias
        if bias is not None:
            tensors["bias"] = bias.detach().float().flatten().contiguous()
        config = self.model.config
        scaled = t5_like(config) and getattr(config, "scale_decoder_outputs", config.tie_word_embeddings)
        return {k: v.clone() for k, v in tensors.items()}, float(self.width**-0.5 if scaled else 1.0)


def t5_like(config: Any) -> bool:
    """Return whether a config is of the T5 family, which names its decoder's depth apart and may scale its final state."""
    return bool(config.is_encoder_decoder) and hasattr(config, "num_decoder_layers")


def generation_cache(backbone: Backbone) -> dict[str, Any]:
    """Return what `generate` is given to keep keys and values in: nothing, so that it makes its own, but for encoder-decoders.

    transformers 5.23 sizes the cache of an encoder-decoder by the depth of the encoder, which fails where a T5's decoder is
    deeper; one without a size grows with the layers that write to it.
    """
    if not backbone.is_encoder_decoder:
        return {}
    empty = transformers.DynamicCache
    return {"past_key_values": transformers.EncoderDecoderCache(empty(), empty())}


def targets(tokens: Tensor, window: Window) -> Tensor:
    """Return the ids `[B, T]` that the positions of a window predict."""
    return tokens[:, window.prefix :] if window.prefix else tokens[:, 1:]


def load(folder: str | Path) -> Backbone:
    """Return the backbone of a folder, in eval mode, fp32, safetensors only.

    Raises: DataError: no model there, damaged weights, or a tokenizer that cannot belong to the model.
    """
    try:
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        auto = transformers.AutoModelForSeq2SeqLM if config.is_encoder_decoder else transformers.AutoModelForCausalLM
        loaded: Any = auto.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True,
            trust_remote_code=False,
        )  # fmt: skip
        model, loading = loaded
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        reason = str(error).split("\n")[0][:160]
        raise DataError(f"{folder}: is not a loadable backbone ({reason}); delete it and rebuild it") from None
    if loading["missing_keys"]:
        raise DataError(f"{folder}: the weights lack {sorted(loading['missing_keys'])[0]}; delete it and rebuild it")
    rows = model.get_output_embeddings().weight.shape[0]
    if not 1 < len(tokenizer) <= rows:
        raise DataError(
            f"{folder}: the tokenizer has {len(tokenizer)} tokens, the model {rows}; they do not belong together"
        )
    return Backbone(model.eval().requires_grad_(False), tokenizer)


def vocabulary_hash(tokenizer: Any) -> str:
    """Return a hash of the vocabulary: equal hashes mean equal ids, equal sizes do not."""
    return sha256_json(sorted(tokenizer.get_vocab().items()))[:20]


def spellings(tokenizer: Any, rows: int) -> list[str | None]:
    """Return per id the bytes a token stands for, as Latin-1 text; None for special tokens and ids without a token.

    Byte-level vocabularies spell bytes with the characters of GPT-2's alphabet, SentencePiece-like ones with the text itself,
    a mark for the space and `<0x..>` for single bytes. Where a byte has a piece of its own as text, the tokenizer never
    writes it as `<0x..>`, and what the model says there means nothing: such byte pieces are None too.
    Args: rows: of the head, which may exceed the vocabulary.
    """
    byte_level = "ByteLevel" in json.dumps(json.loads(tokenizer.backend_tokenizer.to_str())["decoder"])
    special = set(tokenizer.all_special_ids) | set(tokenizer.get_added_vocab().values())
    found: list[str | None] = [None] * rows
    single: dict[int, str] = {}
    for piece, i in tokenizer.get_vocab().items():
        if i in special or i >= rows:
            continue
        if byte_level:
            known = all(character in BYTE_OF for character in piece)
            found[i] = "".join(chr(BYTE_OF[character]) for character in piece) if known else None
        elif BYTE_PIECE.fullmatch(piece):
            single[i] = chr(int(piece[3:5], 16))
        else:
            found[i] = piece.replace("▁", " ").encode().decode("latin-1")
    as_text = set(found)
    for i, byte in single.items():
        found[i] = None if byte in as_text else byte
    return found


def encode(tokenizer: Any, text: str) -> tuple[np.ndarray, np.ndarray]:
    """Return ids `[n]` and the characters `[n]` fully read after each token, without special tokens.

    Tokens that are bytes of one character, or of a run of characters the vocabulary lacks, share one span; each is given
    the characters its bytes complete.
    """
    coded = tokenizer(
        text, add_special_tokens=False, return_offsets_mapping=True, split_special_tokens=True, verbose=False
    )
    spans = coded["offset_mapping"]
    ends = [end for _, end in spans]
    first = 0
    for i in range(1, len(spans) + 1):
        if i == len(spans) or spans[i] != spans[first]:
            if i - first > 1:
                ends[first:i] = _shared_span(text, spans[first], i - first)
            first = i
    return np.array(coded["input_ids"], dtype=np.int32), np.maximum.accumulate(np.array(ends, dtype=np.int32))


def _shared_span(text: str, span: tuple[int, int], n_tokens: int) -> list[int]:
    """Return the characters fully read after each of n tokens that share a span of the text."""
    start, end = span
    sizes = np.cumsum([len(character.encode()) for character in text[start:end]])
    if sizes[-1] == n_tokens:
        return [start + int(np.searchsorted(sizes, i, side="right")) for i in range(1, n_tokens + 1)]
    return [start] * (n_tokens - 1) + [end]


def save(backbone: Backbone, folder: str | Path) -> None:
    """Save model and tokenizer in the Hugging Face layout. Raises: DataError: the disk is full or the folder read-only."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        backbone.model.save_pretrained(folder)
        backbone.tokenizer.save_pretrained(folder)
    except Exception as error:  # the tokenizers library raises plain Exception where it cannot write
        raise unwritable(folder, error) from error


def save_head(backbone: Backbone, path: str | Path) -> float:
    """Write the head beside the backbone; return its scale."""
    tensors, scale = backbone.head()
    write_tensors(path, tensors, {"scale": repr(scale)})
    return scale


def weights_hash(backbone: Backbone) -> str:
    """Return the hash of a backbone's weights: `weights_sha256` of its manifest, `base_sha256` of what was made with it."""
    return sha256_tensors(dict(backbone.model.named_parameters()))


def check_weights(backbone: Backbone, base: Mapping[str, Any], where: str | Path) -> None:
    """Raise TamperError where a backbone's weights are not those of its manifest `base`, bit for bit."""
    if weights_hash(backbone) != base["weights_sha256"]:
        raise TamperError(
            f"{where}: the weights are not those of backbone {base['name']}; delete its manifest to rebuild both"
        )


def load_checked(folder: str | Path, base: Mapping[str, Any]) -> Backbone:
    """Return the backbone of a folder. Raises: TamperError: its weights are not those of its manifest `base`."""
    backbone = load(folder)
    check_weights(backbone, base, folder)
    return backbone


def describe(backbone: Backbone, folder: str | Path) -> dict[str, Any]:
    """Return what a manifest says of a backbone: class, sizes, hashes."""
    weights = sorted(Path(folder).glob("*.safetensors"))
    parameters = {name: value for name, value in backbone.model.named_parameters()}
    return {
        "class": type(backbone.model).__name__,
        "model_type": backbone.model.config.model_type,
        "width": backbone.width,
        "depth": backbone.depth,
        "n_parameters": sum(value.numel() for value in parameters.values()),
        "head_rows": backbone.model.get_output_embeddings().weight.shape[0],
        "n_tokens": len(backbone.tokenizer),
        "vocabulary": vocabulary_hash(backbone.tokenizer),
        "weights_sha256": weights_hash(backbone),
        "files": {path.name: sha256_file(path) for path in weights},
    }


def download(hub_id: str, revision: str, folder: str | Path, endpoint: str | None = None) -> Backbone:
    """Copy a model of the hub at a pinned revision into a folder (safetensors, config, tokenizer) and load it.

    Raises: DataError: offline and not in the local cache, or no safetensors there.
    """
    from huggingface_hub import snapshot_download

    patterns = ["*.json", "*.safetensors", "*.model", "*.txt"]
    wanted: dict[str, Any] = {"revision": revision, "allow_patterns": patterns, "endpoint": endpoint}
    try:
        try:
            cached = snapshot_download(hub_id, **wanted, local_files_only=True)
        except FileNotFoundError:
            cached = snapshot_download(hub_id, **wanted)
    except Exception as error:
        raise DataError(
            f"backbone {hub_id}@{revision}: cannot be downloaded ({type(error).__name__}) and is not in the local cache; "
            "go online once, or point HF_HOME at a cache that holds it"
        ) from None
    backbone = load(cached)
    save(backbone, folder)
    return backbone


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
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    model = io.BytesIO()
    lines = [line for text in texts for line in text.splitlines() if line]
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines), model_writer=model, model_type="unigram", vocab_size=vocab_size,
            normalization_rule_name="identity", remove_extra_whitespaces=False, add_dummy_prefix=False,
            allow_whitespace_only_pieces=True, pad_id=0, eos_id=1, unk_id=2, bos_id=-1, pad_piece=PAD,
            eos_piece=END_OF_TEXT, num_threads=1, minloglevel=2, character_coverage=0.9995, byte_fallback=True,
        )  # fmt: skip
    except RuntimeError as error:
        reason = str(error).rpartition(": ")[2][:120]
        raise DataError(
            f"tokenizer unigram: the text cannot fill a vocabulary of {vocab_size} ({reason}); lower vocab_size"
        ) from None
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    pieces = [(processor.id_to_piece(i), processor.get_score(i)) for i in range(len(processor))]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(PIECE_LIKE), "isolated")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return tokenizer


def pack(tokenizer: Any, texts: Iterable[str], length: int) -> Tensor:
    """Return `[N, length]` training windows: documents end to end with an end-of-text token between."""
    stream: list[int] = []
    for ids in tokenizer(list(texts), add_special_tokens=False, verbose=False, split_special_tokens=True)["input_ids"]:
        stream += [*ids, tokenizer.eos_token_id]
    rows = len(stream) // length
    if rows == 0:
        raise DataError(f"backbone: {len(stream)} tokens do not fill one window of {length}; add general text")
    return torch.tensor(stream[: rows * length], dtype=torch.int32).view(rows, length)


def build(definition: Mapping[str, Any], texts: Sequence[str], window: Window) -> tuple[Backbone, dict[str, Any]]:
    """Build a small backbone of a real transformers class and pretrain it on general train text.

    Args: definition: `tokenizer` (kind, vocab_size), `model_type`, `config` (keywords of its config class), `pretraining`
        (steps, batch, lr, warmup, seed). Returns: the backbone and what its training left (steps, tokens, final loss in nats).
    Raises: DataError: no text, or a model that transformers cannot make or that cannot read the window.
    """
    if not texts:
        raise DataError("backbone: the text has no train document to build from; rebuild the text")
    tokenizer = build_tokenizer(texts, **definition["tokenizer"])
    recipe = definition["pretraining"]
    torch.manual_seed(recipe["seed"])
    backbone = Backbone(_fresh_model(definition["model_type"], definition["config"], tokenizer), tokenizer)
    backbone.require(window)
    windows = pack(tokenizer, texts, window.length)
    order = BatchOrder(len(windows), recipe["batch"], recipe["seed"])

    def loss(step: int) -> Tensor:
        batch = windows[order[step]]
        logits = backbone.logits(batch, window)
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets(batch, window).flatten().long())

    schedule = Schedule([Phase(recipe["steps"], recipe["lr"], recipe["warmup"], "cosine")], weight_decay=0.01, clip=1.0)
    trained = fit(loss, _unique_parameters(backbone.model), schedule, label=definition["model_type"])
    backbone.model.eval().requires_grad_(False)
    last = trained.losses[-50:]
    figures = {"steps": recipe["steps"], "tokens_seen": recipe["steps"] * recipe["batch"] * window.length,
               "loss_nats": round(sum(last) / len(last), 4)}  # fmt: skip
    return backbone, figures


def _fresh_model(model_type: str, keywords: Mapping[str, Any], tokenizer: Any) -> Any:
    """Return a randomly initialised model of a family. Raises: DataError: unknown family or keyword, or sizes that do not fit."""
    special = {
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.eos_token_id,
    }
    try:
        plain = transformers.AutoConfig.for_model(model_type)
        known = {*plain.to_dict(), *plain.attribute_map}
        for key in keywords:
            if key not in known:
                raise ValueError(f"it has no keyword {key!r}")
        if keywords.get("is_encoder_decoder", plain.is_encoder_decoder):
            special["decoder_start_token_id"] = tokenizer.pad_token_id
        config = transformers.AutoConfig.for_model(model_type, vocab_size=len(tokenizer), **special, **keywords)
        auto = transformers.AutoModelForSeq2SeqLM if config.is_encoder_decoder else transformers.AutoModelForCausalLM
        return auto.from_config(config).train()
    except Exception as error:
        reason = str(error).splitlines()[0][:200]
        raise DataError(
            f"backbone: transformers makes no {model_type} of this config ({reason}); correct `build`"
        ) from None


def _unique_parameters(model: Any) -> dict[str, Tensor]:
    """Return each parameter once, tied weights under their first name."""
    return dict(model.named_parameters(remove_duplicate=True))


@dataclass(frozen=True)
class LoraShape:
    """Which layers an adapter changes and at what rank; with scaling 2, as `lora_alpha` is twice the rank."""

    rank: int
    layers: tuple[str, ...]
    n_parameters: int

    @property
    def alpha(self) -> int:
        """PEFT's `lora_alpha`."""
        return 2 * self.rank


def _decoder_linears(model: Any) -> dict[str, int]:
    """Return name -> inputs + outputs of every linear layer of the decoder blocks; the head and an encoder are left out."""
    from transformers.pytorch_utils import Conv1D

    outside = {model.get_output_embeddings()}
    if model.config.is_encoder_decoder:
        outside |= set(model.get_encoder().modules())
    kinds = (torch.nn.Linear, Conv1D)
    found = {name: sum(module.weight.shape) for name, module in model.named_modules()
             if isinstance(module, kinds) and module not in outside and BLOCK.match(name)}  # fmt: skip
    if not found:
        raise DataError(
            f"lora: {type(model).__name__} has no linear layer in numbered decoder blocks; leave the arm out"
        )
    return found


def lora_shape(backbone: Backbone, interface: int) -> LoraShape:
    """Return the adapter shape whose trainable parameters come closest to an interface's, and are at most 1.1 times as many.

    All linear layers (attention and MLP) of all decoder blocks share one rank. Where rank 1 is too much already, rank 1 is
    put on the last blocks alone, as many as fit. Raises: DataError: not even one block fits.
    """
    sizes = _decoder_linears(backbone.model)
    per_rank, most = sum(sizes.values()), MOST_OF_INTERFACE * interface
    ranks = range(1, int(most // per_rank) + 1)
    if ranks:
        rank = min(ranks, key=lambda r: abs(r * per_rank - interface))
        return LoraShape(rank, tuple(sizes), rank * per_rank)
    blocks = list(dict.fromkeys(_block(name) for name in sizes))
    for first in range(1, len(blocks)):
        kept = {name: size for name, size in sizes.items() if _block(name) in blocks[first:]}
        if sum(kept.values()) <= most:
            return LoraShape(1, tuple(kept), sum(kept.values()))
    raise DataError(
        f"lora: rank 1 on one block has more than {most:.0f} parameters, 1.1 times the interface; raise d_abi"
    )


def _block(name: str) -> str:
    found = BLOCK.match(name)
    assert found is not None
    return found[1]


@dataclass
class Adapted:
    """A backbone whose decoder blocks carry a LoRA adapter (PEFT); its own weights and its head stay as they are.

    `backbone` runs with the adapter on; `trainable` are the adapter's parameters, `base` all others.
    """

    backbone: Backbone
    peft: Any
    shape: LoraShape

    @property
    def trainable(self) -> dict[str, Tensor]:
        """The adapter's parameters, by name."""
        return {name: p for name, p in self.backbone.model.named_parameters() if ".lora_" in name}

    @property
    def base(self) -> dict[str, Tensor]:
        """The backbone's own parameters, by name."""
        return {name: p for name, p in self.backbone.model.named_parameters() if ".lora_" not in name}

    def save(self, folder: str | Path, base_model: str) -> str:
        """Write the adapter as PEFT reads it (safetensors and its config); return the hash of its tensors."""
        from peft import get_peft_model_state_dict

        tensors = get_peft_model_state_dict(self.peft, save_embedding_layers=False)
        config = {key: sorted(value) if isinstance(value, set) else value
                  for key, value in self.peft.peft_config["default"].to_dict().items()}  # fmt: skip
        config |= {"base_model_name_or_path": base_model, "inference_mode": True}
        write_tensors(Path(folder) / "adapter_model.safetensors", tensors, {"format": "pt"})
        write_text(Path(folder) / "adapter_config.json", json.dumps(config, indent=1, sort_keys=True) + "\n")
        return sha256_tensors(tensors)

    def remove(self) -> Backbone:
        """Take the adapter off and return the plain backbone; this one is of no more use."""
        return Backbone(self.peft.unload().eval().requires_grad_(False), self.backbone.tokenizer)


def adapt(backbone: Backbone, shape: LoraShape, seed: int) -> Adapted:
    """Put a fresh LoRA adapter on a backbone, in place: no dropout, `B` zero, so that it begins as the plain backbone.

    Raises: DataError: PEFT adapts other layers than asked.
    """
    from peft import LoraConfig, get_peft_model
    from transformers.pytorch_utils import Conv1D

    layers = dict(backbone.model.named_modules())
    config = LoraConfig(
        r=shape.rank, lora_alpha=shape.alpha, lora_dropout=0.0, bias="none", target_modules=list(shape.layers),
        fan_in_fan_out=isinstance(layers[shape.layers[0]], Conv1D),
        task_type="SEQ_2_SEQ_LM" if backbone.is_encoder_decoder else "CAUSAL_LM",
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", ".*is_gradient_checkpointing", FutureWarning
        )  # PEFT 0.21 asks transformers 5 so
        torch.manual_seed(seed)
        wrapped: Any = get_peft_model(backbone.model, config)
    model = wrapped.get_base_model().eval()
    adapted = Adapted(Backbone(model, backbone.tokenizer), wrapped, shape)
    got = {name.partition(".lora_")[0] for name in adapted.trainable}
    if got != set(shape.layers) or sum(p.numel() for p in adapted.trainable.values()) != shape.n_parameters:
        raise DataError(
            f"lora: PEFT adapts {len(got)} layers of {type(model).__name__}, not the {len(shape.layers)} asked"
        )
    return adapted


@torch.no_grad()
def final_states(backbone: Backbone, tokens: Tensor, window: Window, batch: int = 32) -> Tensor:
    """Return final states `[N, T, D]` of windows, run in the batches of `states.write_states`."""
    parts = [backbone.hidden_states(tokens[i : i + batch], window)[-1] for i in range(0, len(tokens), batch)]
    return torch.cat(parts)
