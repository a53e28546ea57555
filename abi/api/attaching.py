"""`attach`: modules on a plain model of transformers, whose own `generate`, pipelines and beams then use them."""

from collections.abc import Mapping
from typing import Any, overload

from abi.api.modules import Module, module_of, on_device
from abi.api.several import Several
from abi.api.sides import backbone_of
from abi.models.attach_any import AnyManifest, AnyModule, AttachedAny, attach_any
from abi.models.probe import admit


@overload
def attach(model: Any, module: Mapping[str, Module], about: None = None, *, tokenizer: Any = None) -> Several: ...
@overload
def attach(
    model: Any, module: Module | AnyModule, about: AnyManifest | None = None, *, tokenizer: Any = None
) -> AttachedAny: ...
def attach(
    model: Any,
    module: Module | AnyModule | Mapping[str, Module],
    about: AnyManifest | None = None,
    *,
    tokenizer: Any = None,
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
        module: a `Module`; or several by name, of which every row of a batch has its own (`Several`); or a bare module
            with its manifest `about`, as `load_module` gives them.
        tokenizer: the model's; if not given, the one that lies where the model was loaded from.
    Raises: DataError: the module belongs to another model, config or tokenizer; one is attached already; or the model
        is not admitted.
    """
    backbone = backbone_of(model, tokenizer)
    if isinstance(module, Mapping):
        admit(backbone)
        return Several(backbone, module)
    if isinstance(module, AnyModule):
        return attach_any(backbone, on_device(module, backbone.device), about)
    whole = module_of(module, "attach: the module")
    return attach_any(backbone, on_device(whole.net, backbone.device), whole.about)
