"""Every class of transformers that predicts text, small and with random weights, before the probe.

    python tests/families.py [MODEL_TYPE ...]

Prints a line per model type and the counts; without types it writes `benchmarks/families.csv`, too. A class is admitted
(with its facts), refused (with the sentence), or cannot be made small here. It is admitted wrongly (WRONG) where an
attached module gives other logits than the path of stored states; what raises anything but a sentence is an error. Both
end it with 1.
"""

import contextlib
import random
import re
import sys
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import torch
import transformers
from transformers.models.auto import modeling_auto

from abi.base.errors import DataError
from abi.base.files import write_text
from abi.base.tables import csv_text
from abi.models.attach import attach
from abi.models.backbone import Backbone
from abi.models.module import AbiModule, ModuleConfig
from abi.models.probe import admit
from abi.models.states import Window
from abi.models.tokenizers import build_tokenizer

TABLE = Path(__file__).parents[1] / "benchmarks/families.csv"
BAD = {"WRONG", "error"}


class Row(NamedTuple):
    """What came of a model type. Args: name: its class, where one was made; said: facts, or the sentence."""

    model_type: str
    outcome: str
    name: str
    said: str


SMALL = {
    "width": (
        r"(hidden_size|d_model|n_embd|dim|embedding_size|embd_dim|word_embed_proj_dim|emb_dim|decoder_hidden_size)",
        32,
    ),
    "inner": (r"(intermediate_size|ffn_dim|encoder_ffn_dim|decoder_ffn_dim|d_ff|n_inner|ffn_hidden_size|dim_ff)", 48),
    "layers": (
        r"(num_hidden_layers|n_layer|n_layers|num_layers|num_decoder_layers|num_encoder_layers|encoder_layers|decoder_layers)",
        4,
    ),
    "heads": (
        r"(num_attention_heads|n_head|n_heads|num_heads|(en|de)coder_attention_heads|num_(en|de)coder_attention_heads)",
        4,
    ),
    "groups": (r"(num_key_value_heads|num_kv_heads|multi_query_group_num)", 2),
    "head": (r"(head_dim|d_kv|attention_head_dim|global_head_dim|swa_head_dim|attention_head_size)", 8),
    "experts": (r"(num_experts|num_local_experts|n_routed_experts|moe_num_experts|num_total_experts)", 4),
    "chosen": (r"(num_experts_per_tok|moe_topk|top_k_experts|moe_k)", 2),
    "expert inner": (r"(moe_intermediate_size|shared_expert_intermediate_size|expert_ffn_hidden_size)", 24),
    "positions": (r"(max_position_embeddings|n_positions|n_ctx|max_seq_len|context_length)", 96),
    "latent": (r"(q_lora_rank|kv_lora_rank)", 16),
    "rope part": (r"(qk_rope_head_dim)", 8),
    "other part": (r"(qk_nope_head_dim|v_head_dim)", 8),
    "rotary": (r"(rotary_dim)", 8),
    "mamba heads": (r"(mamba_n_heads|mamba_num_heads|n_mamba_heads)", 4),
    "mamba head": (r"(mamba_d_head|mamba_head_dim|mamba_headdim)", 8),
    "expert groups": (r"(n_group|n_groups|topk_group|mamba_n_groups)", 1),
    "expand": (r"(expand|mamba_expand)", 1),
    "state": (r"(mamba_d_state|state_size|ssm_state_size)", 8),
}
"""What makes a config small: pattern of its keys -> value."""

SPECIAL = {
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": 1,
    "decoder_start_token_id": 0,
}
PLAIN = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 96,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": 1,
}
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 24}
ROUTED = EXPERTS | {"n_routed_experts": 4, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1}
LATENT = {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8}
MAMBA = {
    "mamba_d_ssm": 32,
    "mamba_n_heads": 4,
    "mamba_d_head": 8,
    "mamba_n_groups": 1,
    "mamba_d_state": 8,
    "mamba_expand": 1,
}
OWN = {
    "nemotron": {},
    "ministral": {"sliding_window": 16},
    "hunyuan_v1_dense": {},
    "dots1": ROUTED | {"n_shared_experts": 1},
    "deepseek_v2": ROUTED | LATENT | {"num_key_value_heads": 4, "head_dim": None, "topk_method": "greedy"},
    "gemma4_text": {
        "global_head_dim": 8,
        "sliding_window": 16,
        "hidden_size_per_layer_input": 8,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
    },
    "lfm2_moe": EXPERTS
    | {"num_experts": 4, "head_dim": None, "layer_types": ["conv", "full_attention"] * 2, "num_dense_layers": 1},
    "falcon_h1": MAMBA,
}
"""Model types whose config cannot be made small after it was made -> keywords beside `PLAIN`; None leaves one out."""
DECODERS = (
    r"bert|electra|data2vec|camembert|ernie$|big_bird|rembert|roberta|roc_bert|roformer|xmod|megatron|git|reformer"
)
"""Encoders that predict text only where their config says so."""


def tokenizer():
    """Return a small byte-level tokenizer."""
    draw = random.Random(0)
    words = ["state", "window", "token", "größe", "loss", "def f(x):", "return x[1]", "\n    "]
    return build_tokenizer(["\n".join(" ".join(draw.choices(words, k=9)) for _ in range(300))], "bpe", 340)


def shrink(config, n_tokens):
    """Make a config small, in place, its parts too."""
    for key, value in list(config.to_dict().items()):
        part = getattr(config, key, None)
        if isinstance(part, transformers.PreTrainedConfig):
            shrink(part, n_tokens)
            continue
        if key in SPECIAL:
            setattr(config, key, SPECIAL[key])
        elif key == "vocab_size" or key.endswith("_vocab_size"):
            setattr(config, key, n_tokens)
        elif isinstance(value, int) and not isinstance(value, bool):
            for pattern, small in SMALL.values():
                if re.fullmatch(pattern, key):
                    setattr(config, key, small)
    layers = getattr(config, "num_hidden_layers", None)
    for key in ("layer_types", "layers_block_type", "mlp_layer_types"):
        kinds = getattr(config, key, None)
        if isinstance(kinds, list) and isinstance(layers, int):
            with contextlib.suppress(AttributeError):  # computed by some
                setattr(config, key, (kinds * layers)[:layers])
    if getattr(config, "kv_lora_rank", None):  # every head reads the one latent
        config.num_key_value_heads = config.num_attention_heads
    return config


def make(model_type, auto, tok):
    """Return a small random backbone of a model type."""
    if model_type in OWN:
        sizes = PLAIN | OWN[model_type] | {"vocab_size": len(tok), "vocab_size_per_layer_input": len(tok)}
        given = {key: value for key, value in sizes.items() if value is not None}
        config = transformers.AutoConfig.for_model(model_type, **given)
    else:
        config = shrink(transformers.AutoConfig.for_model(model_type), len(tok))
    if re.search(DECODERS, model_type):
        config.is_decoder = True
    torch.manual_seed(0)
    return Backbone(auto.from_config(config).eval().requires_grad_(False), tok)


@torch.no_grad()
def attached(backbone):
    """Return how far the logits with a module attached are from those by the stored path, relative to the largest."""
    taps = (backbone.depth,) if backbone.facts.taps is None else (0, backbone.depth - 1, backbone.depth)
    module = AbiModule(ModuleConfig(backbone.width, taps, 8, tap_norms=True))
    ids, window = backbone.sample(9), Window(9, 4 if backbone.is_encoder_decoder else 0, 0)
    hidden = backbone.hidden_states(ids, window)
    expected = backbone.head().logits(hidden[-1] + module(torch.stack([hidden[tap] for tap in taps], dim=2)))
    with attach(backbone, module):
        found = backbone.logits(ids, window)
    return float((found - expected).abs().max() / expected.abs().max())


def entries(wanted=()):
    """Return the model types of the two tables of transformers with the class that loads them."""
    table = [
        (modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, transformers.AutoModelForCausalLM),
        (modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES, transformers.AutoModelForSeq2SeqLM),
    ]
    return [(name, auto) for names, auto in table for name in names if not wanted or name in wanted]


def tried(model_type, auto, tok):
    """Return what comes of a model type: its outcome, its class and what is said of it."""
    try:
        backbone = make(model_type, auto, tok)
    except Exception as error:
        return Row(model_type, "not made", "", type(error).__name__)
    try:
        facts = admit(backbone)
        gap = attached(backbone)
    except DataError as error:
        return Row(model_type, "refused", backbone.name, str(error))
    except Exception:
        return Row(model_type, "error", backbone.name, traceback.format_exc())
    told = f"{facts.model_dump(exclude={'precision', 'characters_lost', 'ends'})} {backbone.form}"
    # Rounded: the last digits are the processor's.
    equal = gap <= backbone.tolerance
    return Row(
        model_type, "admitted" if equal else "WRONG", backbone.name, told if equal else f"off by {gap:.1e}; {told}"
    )


def survey(wanted=()):
    """Yield a row per model type, in the order of the tables."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    tok = tokenizer()
    for model_type, auto in entries(wanted):
        yield tried(model_type, auto, tok)


def main(wanted):
    """Survey the families, print a line each and the counts, and write the table of all."""
    rows, began = [], time.perf_counter()
    for row in survey(wanted):
        rows.append(row)
        print(f"{row.outcome:9} {row.model_type:24} {time.perf_counter() - began:5.1f}s {row.said}"[:400], flush=True)
    counts = Counter(row.outcome for row in rows)
    classes = {row.name for row in rows if row.outcome == "admitted"}
    print(dict(counts), len(classes), "classes admitted")
    if not wanted:
        write_text(TABLE, csv_text(Row._fields, rows))
    return int(bool(BAD & counts.keys()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
