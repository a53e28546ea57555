"""`distill`: what a LoRA adapter does, as a portable module, which moves to models that the adapter does not fit."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint as formed_again

from abi.api.adapters import Adapted, adapted
from abi.api.kept import Keep
from abi.api.modules import Module, made, read_of, seen_of
from abi.api.progress import expect, part
from abi.api.sides import Side, backbone_of, sides
from abi.api.texts import TextSource, documents_of, key_of, require_general
from abi.api.training import batch_of, portable_seconds, portable_section, record_of, require_training
from abi.arms.losses import LOSS_LOGITS
from abi.arms.portable_fit import GENERAL, Lesson, Plain, anchors_of, drawn, portables
from abi.base.compute import rows_at_once
from abi.base.manifests.portable import PortableFacts
from abi.base.names import TRANSFERRED
from abi.models.head import Head
from abi.models.loop import BatchOrder, Schedule, Trained, fit
from abi.models.module import derive_seed
from abi.models.portable import PortableModule
from abi.plan.specs.models import PortableTraining
from abi.text.documents import Document


def distill(
    model: Any,
    tokenizer: Any,
    adapter: Any,
    texts: TextSource,
    general_texts: TextSource,
    *,
    name: str = "domain",
    d_abi: int | None = None,
    steps: int | None = None,
    window: int = 128,
    seed: int = 1,
    keep: str | Path | None = None,
) -> Module:
    """Return a portable module that does on the plain model what a LoRA adapter does; model and adapter stay as they
    are.

    It is fitted beside the plain model so that both together predict what the adapted model predicts: by the KL
    divergence from the adapted model on `texts`, and from the plain one on `general_texts`, which it learns to leave
    alone. Then it is a portable module like any other (`train`), and works on models of other families and tokenizers.
    It holds what follows from the last bytes of a text, not all that an adapter knows: `evaluate` with the same
    `adapter` says how much.

    >>> module = abi.distill(model, tokenizer, "my-lora", texts, general_texts, name="notes", steps=20)
    >>> module.kind, module.record.adapter.name
    ('portable', 'my-lora')

    Args:
        model, tokenizer: the plain model that the adapter belongs to.
        adapter: a folder that PEFT saved (safetensors), its id on the hub, or a `PeftModel` on a model of its own with
            the same weights. One adapter must act, which is the one in use.
        texts, general_texts, name, d_abi, window, seed, keep: as in `train`.
        steps: of training; if not given 800, with a large head 400.
    Raises: DataError: an adapter that is no LoRA, is of another model, does not act, or changes the head; or as
        `train`.
    """
    asked: Any = {"d_abi": d_abi, "steps": steps, "window": window, "seed": seed}
    seed = require_training("portable", general_texts, call="distill", **asked)
    began, documents = time.perf_counter(), documents_of(texts)
    general, base = documents_of(general_texts, "general_texts"), backbone_of(model, tokenizer)
    require_general("distill", general, map(key_of, documents))
    taught = adapted(base, adapter)
    given = {"adapter": taught.about.sha256, "name": name, "d_abi": d_abi, "steps": steps, "seed": seed}
    with sides(window, Keep(keep, "distill", [documents, general], given), model=base) as [side]:
        section = portable_section(d_abi, steps, side.head_size)
        module = _distilled(side, taught, documents, general, name, section, seed)
    return module.recorded(seconds=round(time.perf_counter() - began, 2))


def _distilled(
    side: Side,
    taught: Adapted,
    documents: Sequence[Document],
    general: Sequence[Document],
    name: str,
    section: PortableTraining,
    seed: int,
) -> Module:
    """Return the module that an adapter teaches beside a side."""
    reading, fitting = side.reading_seconds("texts", "train"), portable_seconds(section, side, 2)
    expect(states=2 * reading + side.reading_seconds("general_texts", "train"), modules=fitting)
    domain, plain = side.states(documents, "train", "texts"), side.states(general, "train", "general_texts")
    finals = taught.arm(side, domain, "texts").finals[domain.manifest.tensors_sha256]
    anchors = anchors_of(side.vocabulary, (domain, plain), section.max_anchors)
    lesson = Lesson.of(section, side.head, domain, plain, side.vocabulary, anchors)
    net = portables(section, anchors, (), seed)[TRANSFERRED]
    with part("modules", f"distilling {taught.about.name}, seed {seed}", fitting):
        course = _fit(net, lesson, finals.flatten(0, 1), section, seed, side.folder)
    read = [read_of("texts", documents, domain), read_of("general_texts", general, plain)]
    record = record_of(side, section, course, read, seen_of(documents, general), taught.about)
    return made(net, PortableFacts(**dict(side.base), name=name, text=name, seed=seed), record)


def _fit(
    net: PortableModule, lesson: Lesson, finals: Tensor, section: PortableTraining, seed: int, folder: Path
) -> Trained:
    """Fit a module to an adapted model, in place, and freeze it; return the course of that.

    Args: finals: the adapted model's final states at every position of domain text, `[P, D]`; folder: of checkpoints.
    """
    batch = batch_of(section, lesson)
    domain = BatchOrder(len(lesson.domain), batch, derive_seed("distilled", "domain", seed), "positions")
    beside = max(1, batch // GENERAL)
    general = BatchOrder(len(lesson.general), beside, derive_seed("distilled", "general", seed), "positions")
    weights = torch.cat([torch.full((batch,), 1 / batch), torch.full((beside,), lesson.harm / beside)])

    def loss(step: int) -> Tensor:
        anchor_of = drawn(lesson.anchor_of, derive_seed("distilled", "vocabulary", seed, step))
        rows, own, other = domain[step], lesson.domain.at(domain[step]), lesson.general.at(general[step])
        plain, contexts = torch.cat([own.final, other.final]), torch.cat([own.contexts, other.contexts])
        wanted = torch.cat([finals[rows].to(plain.device), other.final])  # on general text the plain model teaches
        apart = divergences(net, lesson.head, anchor_of.to(plain.device), plain, wanted, contexts)
        return (apart * weights.to(plain.device)).sum()

    trained = fit(
        loss,
        dict(net.named_parameters()),
        Schedule.given(section.phases, section.weight_decay),
        frozen={"head": lesson.head.weight},
        checkpoint=folder / f"distilled-{seed}.safetensors",
        label=f"distilled seed {seed}",
    )
    net.requires_grad_(False)
    return trained


def divergences(
    net: PortableModule, head: Head, anchor_of: Tensor, plain: Tensor, wanted: Tensor, contexts: Tensor
) -> Tensor:
    """Return per position KL(wanted, plain with the module) over the strings that tokens count as, `[P]`, in nats.

    A module shifts strings, so what this leaves out, the divergence among the tokens of one string, is none of its
    doing. Logits are formed for some positions at a time, and again for the gradient, so that `[P, V]` is never held.

    Args: anchor_of: what tokens count as, `[V]`; plain, wanted: final states `[P, D]`; contexts: last bytes `[P, K]`.
    """
    n, tokens = len(net.config.anchors), len(anchor_of)

    def some(plain: Tensor, wanted: Tensor, contexts: Tensor) -> Tensor:
        own, taught = (Plain.of(head.logits(states), anchor_of, n) for states in (plain, wanted))
        return (taught.mass * (taught.log - own.moved(net, contexts))).sum(1)

    at_once = rows_at_once(max(1, LOSS_LOGITS // tokens), tokens, plain.device)
    parts = zip(*(tensor.split(at_once) for tensor in (plain, wanted, contexts)), strict=True)
    return torch.cat([formed_again(some, *chunk, use_reentrant=False) for chunk in parts])
