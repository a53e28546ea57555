"""What a user of the API has: two small models of different family and vocabulary in folders, two folders of text."""

import json
import random
import shutil
import warnings
from pathlib import Path

import torch
import transformers

from abi.models.backbone import Window, save_backbone
from abi.models.build import build_backbone
from abi.plan.specs.models import Build, Pretraining, TokenizerSection
from abi.text import grammar

MODELS = {
    "small-gpt2": (
        "gpt2",
        {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64, "resid_pdrop": 0.1, "attn_pdrop": 0.0},
        420,
    ),
    "small-qwen": (
        "qwen2",
        {"hidden_size": 40, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
        | {"num_key_value_heads": 1, "max_position_embeddings": 64, "tie_word_embeddings": True},
        380,
    ),
}
WORDS = (
    "the state of a model is kept for each token and read once more when it is asked what comes next in a window of "
    "text that nobody has seen before while every number stays as it was given by those who made it with some care"
).split()


def prose(n, seed=0, words=WORDS, sentences=24):
    """Texts of sentences of a few words."""
    draw = random.Random(seed)

    def sentence():
        return f"{' '.join(draw.choice(words) for _ in range(draw.randint(6, 14))).capitalize()}."

    return [" ".join(sentence() for _ in range(sentences)) for _ in range(n)]


def queries(n, seed=1):
    """Texts of SQL."""
    return [text for _, text in grammar.documents(seed, n, n, 24)]


def loaded(folder, **given):
    """A model of a folder and its tokenizer, as a user loads them."""
    return (
        transformers.AutoModelForCausalLM.from_pretrained(folder, **given),
        transformers.AutoTokenizer.from_pretrained(folder),
    )


def write(folder, texts, suffix):
    folder.mkdir(parents=True)
    for i, text in enumerate(texts):
        (folder / f"{i:03d}{suffix}").write_text(text, encoding="utf-8")


def build(root):
    """Make `small-gpt2`, `small-qwen`, `queries` (SQL) and `prose` in a folder."""
    general = prose(60)
    write(Path(root, "queries"), queries(48), ".txt")
    write(Path(root, "prose"), general, ".md")
    recipe = Pretraining(steps=120, batch=8, lr=3e-3, warmup=10, seed=1)
    for name, (kind, config, size) in MODELS.items():
        made = Build(
            text="prose",
            tokenizer=TokenizerSection(kind="bpe", vocab_size=size),
            model_type=kind,
            config=config,
            pretraining=recipe,
        )
        texts = [*general, *queries(4, seed=9)] if kind == "gpt2" else [*general, *queries(2, seed=8)]
        save_backbone(build_backbone(made, texts, Window(64, 0, 10))[0], Path(root, name))


def notes(n):
    """Texts of a few of those words, which the first model knows and an adapter can learn."""
    return prose(n, seed=7, words=WORDS[:12])


def adapting(model, **changes):
    """A fresh LoRA adapter of PEFT on the first model, which does nothing yet."""
    from peft import LoraConfig, get_peft_model

    given = {
        "r": 8,
        "lora_alpha": 16,
        "target_modules": ["c_attn", "c_fc", "c_proj"],
        "fan_in_fan_out": True,
        **changes,
    }
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")  # PEFT 0.21 asks transformers 5 in a way it will not answer for long
        torch.manual_seed(0)
        return get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **given)).eval()


def lora(root, steps):
    """An adapter trained on notes, as PEFT's users train one."""
    model, tokenizer = loaded(root / "small-gpt2")
    wrapped, draw = adapting(model), torch.Generator().manual_seed(0)
    ids = [i for text in notes(48) for i in tokenizer(text)["input_ids"]]
    rows = torch.tensor(ids[: len(ids) // 64 * 64]).view(-1, 64)
    optimizer = torch.optim.AdamW([p for p in wrapped.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(steps):
        batch = rows[torch.randint(len(rows), (8,), generator=draw)]
        optimizer.zero_grad()
        wrapped(input_ids=batch, labels=batch).loss.backward()
        optimizer.step()
    return wrapped


def moved_adapter(folder, there, base, **changes):
    """Copy the folder of an adapter for a model that has been renamed. Args: changes: of its config."""
    shutil.copytree(folder, there)
    config = there / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "base_model_name_or_path": base, **changes}))
