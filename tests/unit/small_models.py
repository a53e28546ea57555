"""Small random models: families of the common pattern, and those whose head, states or text differ from it."""

import torch
import transformers

from abi.models.backbone import Backbone

SIZES = {
    "num_attention_heads": 2, "num_key_value_heads": 2, "num_hidden_layers": 2, "hidden_size": 16, "head_dim": 8,
    "intermediate_size": 24, "max_position_embeddings": 64,
}  # fmt: skip
BERT = {key: SIZES[key] for key in ("num_attention_heads", "num_hidden_layers", "hidden_size", "intermediate_size")}
T5 = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_decoder_layers": 2, "num_heads": 2}
BART = {
    "d_model": 16, "encoder_layers": 1, "decoder_layers": 2, "max_position_embeddings": 64,
    "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24,
}  # fmt: skip
SLIDING = {"sliding_window": 16}

FAMILIES = {
    "t5": ("t5", T5),
    "t5-v1.1": ("t5", {**T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    "bart": ("bart", BART),
    "gpt2": ("gpt2", {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64}),
    "qwen2": ("qwen2", {**SIZES, "num_key_value_heads": 1}),
    "gpt_neox": ("gpt_neox", SIZES),
    "llama": ("llama", SIZES),
    "opt": ("opt", {**SIZES, "ffn_dim": 24, "word_embed_proj_dim": 16}),
}
"""The common pattern, which the engine's own tests run on."""

OF = FAMILIES | {
    "gemma2": ("gemma2", {**SIZES, **SLIDING, "final_logit_softcapping": 30.0, "query_pre_attn_scalar": 8}),
    "cohere": ("cohere", {**SIZES, "logit_scale": 0.0625}),
    "granite": ("granite", {**SIZES, "logits_scaling": 8.0, "residual_multiplier": 0.22}),
    "hyperclovax": ("hyperclovax", {**SIZES, "logits_scaling": 0.5}),
    "nanochat": ("nanochat", {**SIZES, "final_logit_softcapping": 15.0}),
    "mt5": ("mt5", {**T5, "tie_word_embeddings": True}),
    "umt5": ("umt5", T5),
    "opt-350m": (
        "opt",
        {"num_attention_heads": 2, "num_hidden_layers": 2, "hidden_size": 16, "max_position_embeddings": 64}
        | {"ffn_dim": 24, "word_embed_proj_dim": 12, "do_layer_norm_before": False},
    ),
    "gemma3": (
        "gemma3",
        {"text_config": {**SIZES, **SLIDING, "query_pre_attn_scalar": 8}, "mm_tokens_per_image": 4}
        | {"vision_config": {**BERT, "image_size": 16, "patch_size": 8}},
    ),
    "bert-generation": ("bert-generation", {**BERT, "is_decoder": False}),
    "xlm": ("xlm", {"emb_dim": 16, "n_layers": 2, "n_heads": 2}),
    "mamba": ("mamba", {"hidden_size": 16, "num_hidden_layers": 2, "state_size": 4}),
    "mamba2": (
        "mamba2",
        {"hidden_size": 16, "num_hidden_layers": 2, "state_size": 4, "num_heads": 4, "head_dim": 8, "n_groups": 1},
    ),
    "rwkv": ("rwkv", {"hidden_size": 16, "num_hidden_layers": 2, "attention_hidden_size": 16, "context_length": 64}),
    "electra": ("electra", {**BERT, "embedding_size": 8, "is_decoder": True}),
    "bert": ("bert", {**BERT, "is_decoder": True}),
    "mbart": ("mbart", BART),
}

SUPPORTED = ["gemma2", "cohere", "granite", "hyperclovax", "nanochat", "mt5", "umt5", "opt-350m", "gemma3", "mbart"]


def small(name, tokenizer, seed=0, vocab_size=None):
    """Return a small random backbone of a name of `OF`, the same at every call."""
    kind, keywords = OF[name]
    special = {"vocab_size": vocab_size or len(tokenizer), "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 1}
    if "text_config" in keywords:
        keywords = {**keywords, "text_config": {**keywords["text_config"], **special}}
        special = {"image_token_index": len(tokenizer) - 1, "boi_token_index": 2, "eoi_token_index": 3}
    if kind in ("t5", "bart", "mt5", "umt5", "mbart"):
        special["decoder_start_token_id"] = 0
    config = transformers.AutoConfig.for_model(kind, **special, **keywords)
    auto = transformers.AutoModelForSeq2SeqLM if config.is_encoder_decoder else transformers.AutoModelForCausalLM
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = auto.from_config(config)
    return Backbone(model.eval().requires_grad_(False), tokenizer)


def loud(backbone, size=40.0):
    """Make the logits of a backbone as large as those of a trained one, in place, so that a cap shows."""
    with torch.no_grad():
        head = backbone.embeddings_out.weight
        logits = backbone.head_logits(torch.randn(4, backbone.width, generator=torch.Generator().manual_seed(0)))
        head.mul_(size / logits.abs().max())
    return backbone
