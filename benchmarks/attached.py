"""Ratios in one process: an attached module against LoRA of equal size and n-grams, and what a swap costs.

python -m benchmarks.attached   -> CSV on stdout: what, median ms, share of the plain model's

The model is a GPT-2 of 7 million random numbers; speed does not depend on what it says. Passes are of 4 rows of 128
tokens, or write 16 tokens with a cache. A swap is `use` among 4 modules; rows that have modules of their own are one of
4 each.
"""

import copy
import csv
import itertools
import sys

import torch
import transformers

import abi
from abi.models.backbone import Backbone
from abi.models.lora import adapt, lora_shape
from abi.models.tokenizers import build_tokenizer
from abi.text import grammar
from benchmarks import timing

ROUNDS, SWAPS = 15, 100


def main() -> None:
    """Time all interleaved, one thread."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    texts = [text for _, text in grammar.documents(1, 24, 24, 24)]
    tokenizer = build_tokenizer(texts, "bpe", 512)
    config = transformers.GPT2Config(vocab_size=8192, n_embd=256, n_layer=6, n_head=4, n_positions=256)
    model = transformers.GPT2LMHeadModel(config).eval().requires_grad_(False)
    trained = {f"m{i}": abi.train(model, tokenizer, texts, steps=1, rates=[1e-2], seed=1 + i) for i in range(4)}
    size = trained["m0"].n_parameters
    shape = lora_shape(Backbone(model, tokenizer), size)
    adapted = adapt(Backbone(copy.deepcopy(model), tokenizer), shape, seed=1).backbone.model
    mixed = copy.deepcopy(model)
    abi.attach(mixed, abi.train(model, tokenizer, texts, kind="ngram"), tokenizer=tokenizer)
    ids = torch.randint(0, 512, (4, 128), generator=torch.Generator().manual_seed(1))
    names = itertools.cycle(trained)
    attached = abi.attach(model, trained, tokenizer=tokenizer)

    def passing(which, choice=None):
        def run():
            with torch.no_grad(), attached.using(choice):
                which(ids)

        return run

    def writing(which, choice=None):
        def run():
            with attached.using(choice):
                which.generate(ids[:, :16], max_new_tokens=16, min_new_tokens=16, do_sample=False, pad_token_id=0)

        return run

    def swap():
        for _ in range(SWAPS):
            attached.use(next(names))
        attached.use(None)

    ways = {
        "pass, plain model": passing(model),
        f"pass, module of {size} numbers": passing(model, "m0"),
        "pass, each row its own module": passing(model, list(trained)),
        f"pass, LoRA of {shape.n_parameters} numbers, rank {shape.rank}": passing(adapted),
        "16 tokens, plain model": writing(model),
        "16 tokens, module": writing(model, "m0"),
        "16 tokens, each row its own module": writing(model, list(trained)),
        "16 tokens, LoRA": writing(adapted),
        "16 tokens, n-gram model": writing(mixed),
        "swap": swap,
    }
    middle = timing.medians(timing.in_turns(ways, ROUNDS))
    middle["swap"] /= SWAPS
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(["what", "ms", "share"])
    for name, took in middle.items():
        plain = middle["16 tokens, plain model" if name.startswith("16") else "pass, plain model"]
        out.writerow([name, f"{1000 * took:.3f}", f"{took / plain:.5f}"])


if __name__ == "__main__":
    main()
