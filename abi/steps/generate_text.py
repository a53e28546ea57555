"""Step generate_text: text generated with a module on its updated backbone, and with none: the original's tier S4 (C5).

From random tokens 100 are generated greedily; the perplexity of the last of four windows over that of the first is the
original's figure. Degenerate repetition passes it, so the share of different 4-grams and the plain backbone stand
beside it.
"""

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from abi.base.job import InputFiles, Job, OutputFiles
from abi.base.manifests.pages import GenerationManifest, Sample
from abi.models.attach import attach, generate
from abi.models.backbone import Backbone, Window, load_checked
from abi.models.module import derive_seed
from abi.models.saved import UpdatedBackbone, module_of_seed
from abi.models.tokenizers import decode, start_of
from abi.plan.specs.studies import GenerateText as Spec

Arm = Literal["module", "plain"]

PROMPT, TOKENS, WINDOWS = 20, 100, 4


def run(job: Job[Spec], inputs: InputFiles, outputs: OutputFiles) -> None:
    """Write `manifest`: per seed the text with the module and without, the ratio of perplexities, how varied it is."""
    samples: list[Sample] = []
    for seed in job.spec.seeds:
        updated = UpdatedBackbone.of(inputs["updates"], seed)
        backbone = load_checked(updated.model, updated.about())
        generator = torch.Generator().manual_seed(derive_seed("generation", seed))
        prompt = torch.randint(0, len(backbone.tokenizer), (1, PROMPT), generator=generator)
        start = start_of(backbone.tokenizer)
        if start is not None:
            prompt = torch.cat([torch.tensor([[start]]), prompt], 1)
        samples.append(sample(backbone, prompt, seed, "plain"))
        with attach(backbone, module_of_seed(inputs["source"], seed)):
            samples.append(sample(backbone, prompt, seed, "module"))
    GenerationManifest(
        samples=samples,
        ratio=mean_ratio(samples, "module"),
        ratio_plain=mean_ratio(samples, "plain"),
        provenance=job.provenance(),
    ).write(outputs["manifest"])


def sample(backbone: Backbone, prompt: Tensor, seed: int, arm: Arm) -> Sample:
    """Return the greedy continuation of a prompt `[1, P]` with its figures."""
    ids = generate(backbone, prompt, TOKENS, least=TOKENS)[0]
    made = ids.tolist()
    losses = token_losses(backbone, prompt[0], ids)
    parts = losses.view(WINDOWS, -1).mean(1)
    grams = [tuple(made[i : i + 4]) for i in range(len(made) - 3)]
    return Sample(
        seed=seed,
        arm=arm,
        text=decode(backbone.tokenizer, made),
        ratio=math.exp(float(parts[-1] - parts[0])),
        distinct4=len(set(grams)) / len(grams),
    )


@torch.no_grad()
def token_losses(backbone: Backbone, prompt: Tensor, made: Tensor) -> Tensor:
    """Return the CE in nats `[n]` of ids that were made after a prompt, under the backbone with what is attached.

    Args: prompt: `[P]`, which an encoder-decoder encodes; made: `[n]`.
    """
    ids, length = torch.cat([prompt, made]).unsqueeze(0), len(prompt) + len(made)
    logits = backbone.logits(ids, Window(length, len(prompt), 0))[0, -len(made) :]
    return cross_entropy(logits.float(), made.to(logits.device).long(), reduction="none").cpu()


def mean_ratio(samples: list[Sample], arm: Arm) -> float:
    """Return the geometric mean of an arm's ratios over seeds."""
    logs = [math.log(entry.ratio) for entry in samples if entry.arm == arm]
    return math.exp(sum(logs) / len(logs))
