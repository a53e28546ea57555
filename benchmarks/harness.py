"""Bits per byte by the lm-evaluation-harness and by abi, of the same positions: a plain model, a module, a PEFT LoRA.

python benchmarks/harness.py [RESULTS]   -> harness.csv; needs `pip install ".[harness]"` and a finished run (results/tiny)

Backbone, module and adapter are those of `t5_to_gpt2`, seed 1: GPT-2 with its own module and with the LoRA of equal
size. The harness is asked for the tokens that abi scores, each after the tokens of its window. `rolling` is what it
makes of whole documents by itself (`loglikelihood_rolling`), the figure of its task tables.
"""

import csv
import math
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from lm_eval.api.instance import Instance
from transformers import AutoModelForCausalLM, AutoTokenizer

import abi
from abi.api.harness import ModuleLM
from abi.api.modules import Module
from abi.api.sides import sides
from abi.api.texts import unsplit
from abi.models.load import load_module
from abi.text.documents import read_assigned

OUT = Path(__file__).with_suffix(".csv")
BACKBONE, CLAIM, TEXT, DOCUMENTS, LENGTH = "gpt2_medium", "t5_to_gpt2", "python", 24, 128


def windows_of(model, tokenizer, texts):
    """Return (context, scored tokens) of every window that abi reads, and document -> bytes that are scored."""
    with sides(LENGTH, target=(model, tokenizer)) as [side]:
        states = side.states(unsplit(texts), "test", "texts")
        tokens, skip = states.tokens(slice(None)).tolist(), states.skip + 1
        n_bytes = Counter()
        for document, scored in zip(states.document.tolist(), states.target_bytes[:, states.skip :], strict=True):
            n_bytes[states.manifest.documents[document]] += int(scored.sum())
    return [(window[:skip], window[skip:]) for window in tokens], n_bytes


def main(results: Path) -> None:
    """Score the held-out documents of a run in both ways."""
    torch.set_num_threads(1)
    place = str(results / "backbones" / BACKBONE)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(place), AutoTokenizer.from_pretrained(place)
    corpus = results / "corpus" / TEXT
    texts = [d.text for d in read_assigned(corpus.with_suffix(".jsonl.gz"), corpus.with_suffix(".json"), "test")]
    texts = texts[:DOCUMENTS]
    windows, n_bytes = windows_of(model, tokenizer, texts)
    module = Module(*load_module(results / f"modules/{BACKBONE}/{TEXT}/standard/oracle/1-5/seed1"))
    found = abi.evaluate(model, module, texts, tokenizer, window=LENGTH)
    positions = sum(one.positions for one in found.documents)
    assert positions == sum(len(scored) for _, scored in windows)
    rows = []
    with TemporaryDirectory() as folder:
        module.save_pretrained(folder)
        adapter = str(results / f"lora/{CLAIM}/1-5/seed1/kd/lora-0")
        for name, given in {"plain": {}, "module": {"module": folder}, "lora": {"peft": adapter}}.items():
            lm = ModuleLM(place, device="cpu", dtype="float32", batch_size=8, **given)
            nats = -sum(told for told, _ in lm._loglikelihood_tokens([(("", ""), *pair) for pair in windows]))
            rolled = [Instance("loglikelihood_rolling", {}, (text,), 0) for text in texts]
            rolling = -sum(lm.loglikelihood_rolling(rolled)) / math.log(2) / sum(len(text.encode()) for text in texts)
            rows.append([name, nats / math.log(2) / n_bytes.total(), own(found, name, n_bytes), rolling])
    with OUT.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["model", "harness", "abi", "difference", "rolling"])
        for name, harness, ours, rolling in rows:
            off = "" if ours is None else f"{abs(harness / ours - 1):.1e}"
            writer.writerow([name, f"{harness:.5f}", "" if ours is None else f"{ours:.5f}", off, f"{rolling:.5f}"])
    print(OUT.read_text(encoding="utf-8"), end="")


def own(found, name, n_bytes):
    """Return what abi says of all documents together, None of an adapter, which it does not score."""
    if name == "lora":
        return None
    bits = [getattr(one, {"plain": "without", "module": "with_module"}[name]) for one in found.documents]
    told = sum(value * n_bytes[one.document] for value, one in zip(bits, found.documents, strict=True))
    return told / n_bytes.total()


if __name__ == "__main__":
    main(Path(sys.argv[1] if sys.argv[1:] else "results/tiny"))
