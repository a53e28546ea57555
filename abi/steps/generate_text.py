"""Job: text generated with a module on its updated backbone, and with none: the original's tier S4 (EXPERIMENTS C5).

From random tokens 100 are generated greedily; the perplexity of the last of four windows over that of the first is the
original's figure. Degenerate repetition passes it, so the share of different 4-grams and the plain backbone stand beside it.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from abi.base.files import write_json
from abi.base.job import Job
from abi.base.seeds import derive_seed
from abi.models.attach import attach, generate
from abi.models.backbone import Backbone, load_checked
from abi.models.saved import UpdatedBackbone, module_of_seed

PROMPT, TOKENS, WINDOWS = 20, 100, 4


def run(job: Job, inputs: Mapping[str, Any], outputs: Mapping[str, str]) -> None:
    """Write `manifest`: per seed the text with the module and without, the ratio of perplexities, how varied it is."""
    samples = []
    for seed in job.spec["seeds"]:
        updated = UpdatedBackbone.of(inputs["updates"], seed)
        backbone = load_checked(updated.model, updated.facts())
        generator = torch.Generator().manual_seed(derive_seed("generation", seed))
        prompt = torch.randint(0, len(backbone.tokenizer), (1, PROMPT), generator=generator)
        samples.append({"seed": seed, "arm": "plain", **sample(backbone, prompt)})
        with attach(backbone, module_of_seed(inputs["source"], seed)):
            samples.append({"seed": seed, "arm": "module", **sample(backbone, prompt)})
    means = {arm: mean_ratio(samples, arm) for arm in ("module", "plain")}
    write_json(outputs["manifest"], "generation", {
        "samples": samples, "ratio": means["module"], "ratio_plain": means["plain"], "provenance": job.provenance(),
    })  # fmt: skip


def sample(backbone: Backbone, prompt: Tensor) -> dict[str, Any]:
    """Return the greedy continuation of a prompt `[1, P]`: its text, the ratio of perplexities, the share of different 4-grams."""
    ids = generate(backbone, prompt, TOKENS)[0]
    made = ids[-TOKENS:].tolist()
    losses = token_losses(backbone, torch.cat([prompt[0], ids[-TOKENS:]]))[-TOKENS:]
    parts = losses.view(WINDOWS, -1).mean(1)
    grams = [tuple(made[i : i + 4]) for i in range(len(made) - 3)]
    return {
        "text": backbone.tokenizer.decode(made), "ratio": math.exp(float(parts[-1] - parts[0])),
        "distinct4": len(set(grams)) / len(grams),
    }  # fmt: skip


@torch.no_grad()
def token_losses(backbone: Backbone, ids: Tensor) -> Tensor:
    """Return the CE in nats `[n - 1]` of every token after the first under the backbone as it is, with what is attached."""
    logits = backbone.model(input_ids=ids.unsqueeze(0), use_cache=False).logits[0, :-1]
    return cross_entropy(logits.float(), ids[1:].long(), reduction="none")


def mean_ratio(samples: list[dict[str, Any]], arm: str) -> float:
    """Return the geometric mean of an arm's ratios over seeds."""
    logs = [math.log(entry["ratio"]) for entry in samples if entry["arm"] == arm]
    return math.exp(sum(logs) / len(logs))
