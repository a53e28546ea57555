"""Tiny models with random weights of every published class, under their published ids, with their tokenizers' forms.

The forms are those of the published repositories: T5's SentencePiece unigram that loses line ends and braces, GPT-NeoX'
byte BPE with `trim_offsets` and runs of spaces, Qwen2's and GPT-2's byte BPE with their file names, DeepSeek's byte BPE
that names itself a Llama tokenizer. Heads have more rows than tokenizers have tokens, where the published ones do.
"""

import io
import json
import random
import re
from pathlib import Path

import torch
import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

import abi

DEPTH = 2
T5_LACKS = "{}<\\^~`\t"
QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def texts():
    """Return code to train tokenizers on."""
    return [path.read_text(encoding="utf-8") for path in sorted(Path(abi.__file__).parent.glob("[a-j]*/*.py"))]


def byte_bpe(special, size, normalizer=None, split=None, trim=True):
    made = Tokenizer(models.BPE())
    if normalizer:
        made.normalizer = normalizer
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split is None)
    made.pre_tokenizer = (
        level if split is None else pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(split), "isolated"), level])
    )
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        texts(),
        trainers.BpeTrainer(vocab_size=size, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    made.post_processor = processors.ByteLevel(add_prefix_space=False, trim_offsets=trim)
    return made


def write_tokenizer(folder, tokenizer, **config):
    """Write `tokenizer.json` and its config as a repository of the hub holds them."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    return tokenizer


def with_vocab_files(folder, tokenizer):
    """Write vocab.json and merges.txt beside tokenizer.json, as GPT-2 and Qwen2 have them."""
    model = json.loads(tokenizer.to_str())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]), encoding="utf-8")
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n", encoding="utf-8")


def t5(folder):
    import sentencepiece

    model = io.BytesIO()
    # the published pieces come of prose: none for line ends, braces and some other signs of code
    lacks = str.maketrans(dict.fromkeys(T5_LACKS, " "))
    lines = [line.translate(lacks) for text in texts()[::4] for line in text.splitlines() if line.strip()]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, model_type="unigram", vocab_size=700, pad_id=0, eos_id=1,
        unk_id=2, bos_id=-1, pad_piece="<pad>", num_threads=1, minloglevel=2, normalization_rule_name="nmt_nfkc",
    )  # fmt: skip
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    pieces = [(processor.id_to_piece(i), processor.get_score(i)) for i in range(len(processor))]
    pieces += [(f"<extra_id_{i}>", 0.0) for i in reversed(range(100))]
    transformers.T5Tokenizer(vocab=pieces).save_pretrained(folder)
    (folder / "spiece.model").write_bytes(model.getvalue())
    shape = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_decoder_layers": 24, "num_heads": 4}
    config = transformers.T5Config(
        vocab_size=len(pieces) + 28, decoder_start_token_id=0, pad_token_id=0, eos_token_id=1, **shape
    )
    return transformers.T5ForConditionalGeneration(config)


def gpt2(width):
    def make(folder):
        end = "<|endoftext|>"
        made = write_tokenizer(
            folder,
            byte_bpe([end], 1100, trim=False),
            add_prefix_space=False,
            bos_token=end,
            eos_token=end,
            unk_token=end,
            tokenizer_class="GPT2Tokenizer",
            model_max_length=1024,
        )
        with_vocab_files(folder, made)
        rows = made.get_vocab_size()
        config = transformers.GPT2Config(
            vocab_size=rows, n_embd=width, n_layer=DEPTH, n_head=4, n_positions=1024, bos_token_id=0, eos_token_id=0
        )
        return transformers.GPT2LMHeadModel(config)

    return make


def qwen2(width, heads=4):
    def make(folder):
        end = "<|endoftext|>"
        made = byte_bpe([], 480, normalizers.NFC(), QWEN, trim=False)
        made.add_special_tokens([end, "<|im_start|>", "<|im_end|>"])
        write_tokenizer(
            folder,
            made,
            add_prefix_space=False,
            eos_token=end,
            pad_token=end,
            bos_token=None,
            unk_token=None,
            tokenizer_class="Qwen2Tokenizer",
        )
        with_vocab_files(folder, made)
        config = transformers.Qwen2Config(
            vocab_size=512,
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=DEPTH,
            num_attention_heads=heads,
            num_key_value_heads=2,
            max_position_embeddings=4096,
            tie_word_embeddings=width < 48,
            bos_token_id=480,
            eos_token_id=480,
        )
        return transformers.Qwen2ForCausalLM(config)

    return make


def neox(folder):
    end = "<|endoftext|>"
    made = byte_bpe([end, "<|padding|>"], 460, normalizers.NFC())
    made.add_tokens([AddedToken(" " * n, normalized=True) for n in range(24, 1, -1)])
    write_tokenizer(
        folder,
        made,
        add_prefix_space=False,
        bos_token=end,
        eos_token=end,
        unk_token=end,
        tokenizer_class="GPTNeoXTokenizer",
    )
    config = transformers.GPTNeoXConfig(
        vocab_size=512,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=DEPTH,
        num_attention_heads=4,
        rotary_pct=0.25,
        max_position_embeddings=2048,
        bos_token_id=0,
        eos_token_id=0,
    )
    return transformers.GPTNeoXForCausalLM(config)


def deepseek(folder):
    begin, end = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"
    made = byte_bpe([], 470, split=r"[\r\n]|\s?\p{L}+|\s?[^\s\p{L}\p{N}]+|\p{N}|\s+")
    made.add_special_tokens([begin, end])
    write_tokenizer(
        folder,
        made,
        add_bos_token=True,
        add_eos_token=False,
        bos_token=begin,
        eos_token=end,
        pad_token=end,
        tokenizer_class="LlamaTokenizerFast",
        legacy=True,
    )
    config = transformers.LlamaConfig(
        vocab_size=512,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=DEPTH,
        num_attention_heads=4,
        max_position_embeddings=16384,
        rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 100000},
        bos_token_id=470,
        eos_token_id=471,
    )
    return transformers.LlamaForCausalLM(config)


MODELS = {
    "google-t5/t5-large": t5,
    "openai-community/gpt2": gpt2(32),
    "openai-community/gpt2-medium": gpt2(48),
    "openai-community/gpt2-large": gpt2(64),
    "Qwen/Qwen2.5-0.5B": qwen2(32),
    "EleutherAI/pythia-410m": neox,
    "Qwen/Qwen2-1.5B": qwen2(48),
    "Qwen/Qwen2-7B": qwen2(64),
    "deepseek-ai/deepseek-coder-1.3b-base": deepseek,
}
SHARDED = {"Qwen/Qwen2-7B": "40KB"}
HALF = {"Qwen/Qwen2-7B", "Qwen/Qwen2-1.5B", "deepseek-ai/deepseek-coder-1.3b-base"}
"""Published in bf16."""


def make_model(repo_id, folder, seed=0):
    """Write a tiny model of a published repository into a folder, with files that abi must leave alone."""
    torch.manual_seed(seed)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model = MODELS[repo_id](folder)
    if repo_id in HALF:
        model = model.to(torch.bfloat16)
    model.save_pretrained(folder, max_shard_size=SHARDED.get(repo_id, "1GB"))
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04pickle")
    (folder / "README.md").write_text(f"# {repo_id}\n", encoding="utf-8")
    (folder / "onnx").mkdir()
    (folder / "onnx" / "config.json").write_text("{}", encoding="utf-8")
    return folder


def make_wikitext(folder, articles=150):
    """Write a data set in the form of wikitext: parquet, a line per row, articles under ` = Title = `.

    Words are drawn at random, so that no article holds a passage of another.
    """
    import pandas

    folder = Path(folder) / "wikitext-2-raw-v1"
    folder.mkdir(parents=True)
    words = sorted({word for text in texts() for word in re.findall(r"\b[a-z]{3,9}\b", text)})
    rows = []
    for i in range(articles):
        draw = random.Random(i)
        sentences = [" ".join(draw.choices(words, k=12)).capitalize() for _ in range(42)]
        rows += [f" = Title {i} = \n", "\n"]
        rows += [f" {' . '.join(sentences[j : j + 3])} . \n" for j in range(0, 42, 3)]
    third = len(rows) // 3
    for name, part in {"train": rows[: 2 * third], "test": rows[2 * third :]}.items():
        pandas.DataFrame({"text": part}).to_parquet(folder / f"{name}-00000-of-00001.parquet")
    return folder.parent
