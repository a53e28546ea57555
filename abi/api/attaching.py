"""`attach`: modules on a plain model of transformers, whose own `generate`, pipelines and beams then use them.

`generate`: text of the model's own distribution, with what is attached or with nothing.
"""

from collections.abc import Mapping
from typing import Any, overload

from torch import Tensor

from abi.api.modules import Module, module_of, on_device
from abi.api.several import Several
from abi.api.sides import backbone_of, plain_model
from abi.base.errors import DataError
from abi.models import attach as inference
from abi.models.attach_any import AnyManifest, AnyModule, AttachedAny, attach_any
from abi.models.backbone import Backbone
from abi.models.probe import admit, attachment, evaluating


@overload
def attach(model: Any, module: Mapping[str, Module], *, tokenizer: Any = None) -> Several: ...
@overload
def attach(
    model: Any, module: Module | AnyModule, *, tokenizer: Any = None, about: AnyManifest | None = None
) -> AttachedAny: ...
def attach(
    model: Any,
    module: Module | AnyModule | Mapping[str, Module],
    *,
    tokenizer: Any = None,
    about: AnyManifest | None = None,
) -> AttachedAny:
    """Put a module on a model until `detach()`, or until the end of a `with` block; no weight is changed.

    Logits `[B, T, V]` are then those of the corrected final state (or shifted ones, of a portable module), in
    `model.generate`, in pipelines, with a cache, with beams and in padded batches. After detaching they are the plain
    model's, bit for bit.

    >>> module = abi.train(model, tokenizer, texts, steps=20)
    >>> ids = tokenizer("the state", return_tensors="pt")["input_ids"]
    >>> with abi.attach(model, module, tokenizer=tokenizer):
    ...     told = model.generate(ids, max_new_tokens=4)
    >>> attached = abi.attach(model, module, tokenizer=tokenizer)
    >>> attached.detach()

    Args:
        model: of transformers, or a `Backbone`.
        module: a `Module`; or several by name, of which every row of a batch has its own (`Several`); or a bare module.
        tokenizer: the model's; if not given, the one last given with it, else the one that lies where it was loaded
            from.
        about: the manifest of a bare module, as `load_module` gives it.
    Raises: DataError: the module belongs to another model, config or tokenizer; one is attached already; or the model
        is not admitted.
    """
    backbone = backbone_of(model, tokenizer)
    if about is not None and not isinstance(module, AnyModule):
        raise DataError("attach: a `Module` knows what it belongs to; leave out `about`")
    if isinstance(module, Mapping):
        admit(backbone)
        return Several(backbone, module)
    if isinstance(module, AnyModule):
        return attach_any(backbone, on_device(module, backbone.device), about)
    whole = module_of(module, "attach: the module")
    return attach_any(backbone, on_device(whole.net, backbone.device), whole.about)


def detach(model: Any) -> None:
    """Take off whatever is attached to a model, whose handle may be lost; nothing happens where nothing is.

    >>> module = abi.train(model, tokenizer, texts, steps=5)
    >>> told = abi.attach(model, module, tokenizer=tokenizer)
    >>> abi.detach(model)

    Args: model: of transformers, or a `Backbone`.
    Raises: DataError: it is no model of transformers.
    """
    found = attachment(model.model if isinstance(model, Backbone) else plain_model(model))
    if found is not None:
        found.detach()


def generate(
    model: Any,
    ids: Tensor | Mapping[str, Tensor],
    n_tokens: int,
    *,
    tokenizer: Any = None,
    least: int = 0,
    temperature: float = 0.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
    cache: bool = True,
) -> Tensor:
    """Return new ids `[B, n]`, n at most `n_tokens`, that continue ids `[B, L]` (or answer them: encoder-decoder).

    Whatever is attached to the model acts on every token; with nothing attached the plain model writes. Settings that
    it brings along (nucleus, beams, penalties, forced tokens) and dropout are left out. A row ends with its end-of-text
    token, padded behind.

    >>> ids = tokenizer("the state", return_tensors="pt")["input_ids"]
    >>> abi.generate(model, ids, 4, tokenizer=tokenizer).shape
    torch.Size([1, 4])

    Args:
        model: of transformers, or a `Backbone`.
        ids: of prompts of one length, or what the tokenizer returns for a padded batch, mask included.
        tokenizer: the model's; if not given, the one that lies where the model was loaded from.
        least: tokens before which no row ends.
        temperature: 0 is greedy, otherwise every token is drawn.
        top_k, top_p: draw of the likeliest tokens alone, so many or of so much probability.
        seed: of the draws, which leave torch's own state alone and are the same whatever other threads draw.
        cache: whether keys and values are kept from token to token.
    Raises: DataError: no model of transformers or no tokenizer; no ids, ids the model lacks, more tokens than it has
        positions for, numbers that are none of a draw; or a model that is not admitted, or gives other text with a
        cache or padding, where one is used.
    """
    if not isinstance(ids, Tensor | Mapping):
        raise DataError(
            f"generate: ids are a {type(ids).__name__}; give what `tokenizer(text, return_tensors='pt')` returns"
        )
    if top_k < 0 or not 0 < top_p <= 1 or not 0 <= seed < 2**63:
        raise DataError(f"generate: top_k {top_k}, top_p {top_p}, seed {seed}; give 0 or more, a part of 1, 0 or more")
    backbone = backbone_of(model, tokenizer)
    with evaluating(backbone.model):
        return inference.generate(
            backbone,
            ids,
            n_tokens,
            least=least,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            seed=seed,
            cache=cache,
        )
