"""Several modules on one model: chosen per row of a batch, mixed by weight, swapped, revoked, from several threads."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, SupportsFloat, TypeVar

import torch
from torch import Tensor, nn

from abi.api.modules import Module, module_of, on_device
from abi.base.errors import DataError
from abi.models.attach import Marks, Rows
from abi.models.attach_any import AnyModule, AttachedAny, check_any
from abi.models.backbone import Backbone
from abi.models.logit_shift import LogitShift
from abi.models.module import AbiModule
from abi.models.ngram_module import NgramModule
from abi.models.portable import Placed, PortableModule

M = TypeVar("M", AbiModule, PortableModule)
Choice = str | Mapping[str, float] | None
"""The name of a module, a mixture (name -> weight of its correction), or None: the plain model."""


@dataclass(frozen=True)
class Chosen:
    """Which modules correct which rows. Args: rows: of the batch; 0: however many there are, all alike.

    parts: module -> its weight in every row that it corrects; repeated: whether a batch may hold every row several
    times in a row, as beams do.
    """

    rows: int
    parts: tuple[tuple[AnyModule, dict[int, float]], ...]
    repeated: bool = False

    def of(self, kind: type[M], n: int, device: torch.device) -> list[tuple[M, Rows]]:
        """Return the modules of a kind with their rows in a batch of n, which beams may have made longer.

        Raises: DataError: the batch has another number of rows, or is no multiple of it where they are repeated.
        """
        found = [(module, weights) for module, weights in self.parts if isinstance(module, kind)]
        if not found or self.rows == 0:
            return [(module, (None, weights[0])) for module, weights in found]
        if n % self.rows or (n != self.rows and not self.repeated):
            beams = "" if n % self.rows else "; for beams call `attached.generate(..., module_ids=[...])`"
            raise DataError(f"attach: {self.rows} module_ids for a batch of {n} rows; give one per row{beams}")
        return [(module, self._placed(weights, n // self.rows, device)) for module, weights in found]

    @staticmethod
    def _placed(weights: Mapping[int, float], times: int, device: torch.device) -> Rows:
        """Return rows and weights where every row of the batch stands `times` times in a row."""
        first = torch.tensor(list(weights), device=device) * times
        rows = (first[:, None] + torch.arange(times, device=device)).flatten()
        return rows, torch.tensor(list(weights.values()), device=device).repeat_interleave(times).view(-1, 1, 1)


NONE = Chosen(0, ())


class _InUse:
    """Stands for what is in use already, where no choice is given: None is one, the plain model."""

    def __repr__(self) -> str:
        return "<in use>"


IN_USE = _InUse()


def _per_row(choice: Choice | Sequence[Choice]) -> bool:
    """Return whether a choice is a list with one for every row."""
    return isinstance(choice, Sequence) and not isinstance(choice, str)


class _Placing:
    """What `LogitShift` adds of a portable module: its shift in its own rows, nothing in the others."""

    def __init__(self, placed: Placed, rows: Rows) -> None:
        self.placed, (self.rows, self.weight) = placed, rows

    def shift(self, ids: Tensor, last: int | None = None) -> Tensor:
        """Return what is added to the logits `[B, n, V]` after the last n tokens of `[B, L]`, or after all."""
        if self.rows is None:
            return self.weight * self.placed.shift(ids, last)
        own = self.weight * self.placed.shift(ids[self.rows], last)
        return own.new_zeros(len(ids), *own.shape[1:]).index_add(0, self.rows, own)


class _RowShift(LogitShift):
    """The hooks of portable modules whose rows are chosen, by each thread for itself."""

    def __init__(self, attached: "Several", modules: Sequence[PortableModule]) -> None:
        self._own, self.attached = threading.local(), attached
        self.placed: dict[PortableModule, Placed] = {}
        super().__init__(attached.backbone, [(module, 1.0) for module in modules])

    @property
    def parts(self) -> list[tuple[Any, float]]:  # type: ignore[override]
        """What is in use, for the batch of this thread's pass."""
        chosen = self.attached.in_use(PortableModule, self._own.n, self._own.device)
        return [(_Placing(self.placed[module], rows), 1.0) for module, rows in chosen]  # type: ignore[index]

    @parts.setter
    def parts(self, placed: Sequence[tuple[Placed, float]]) -> None:
        self.placed = {one.module: one for one, _ in placed}

    def __call__(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        """Return the model's output with shifted logits in the rows that a portable module is chosen for."""
        if not any(isinstance(module, PortableModule) for module, _ in self.attached.chosen.parts):
            self._forget()
            return output
        if not isinstance(output, tuple):
            self._own.n, self._own.device = len(output.logits), output.logits.device
        return super().__call__(model, args, kwargs, output)


class Several(AttachedAny):
    """Modules by name on one model until `detach()`, or until the end of a `with` block; none is in use at first.

    `use` chooses for every thread, `using` for a block of this one. Choosing runs and copies nothing. Threads may run
    the model side by side, each with its own choice; `inject` and `revoke` when no pass is running.

    >>> first, second = (abi.train(model, tokenizer, texts, steps=5, seed=seed) for seed in (1, 2))
    >>> ids = tokenizer(["the state", "it is asked"], padding=True, padding_side="left", return_tensors="pt")
    >>> with abi.attach(model, {"a": first, "b": second}, tokenizer=tokenizer) as attached:
    ...     told = attached.generate(**ids, module_ids=["a", {"a": 0.5, "b": 0.5}], max_new_tokens=4)
    ...     attached.use("b")
    ...     told = model.generate(**ids, max_new_tokens=4)

    Args: modules: name -> module of this model, or a portable one.
    Raises: DataError: something is attached already, or as `inject`.
    """

    def __init__(self, backbone: Backbone, modules: Mapping[str, Module]) -> None:
        super().__init__(backbone, [])
        self.modules: dict[str, AnyModule] = {}
        self._marks: Marks | None = None
        self._default, self._own = NONE, threading.local()
        try:
            for name, module in modules.items():
                self.inject(name, module)
        except BaseException:
            self.detach()
            raise

    @property
    def chosen(self) -> Chosen:
        """What is in use in this thread."""
        own: Chosen | None = getattr(self._own, "chosen", None)
        return self._default if own is None else own

    def in_use(self, kind: type[M], n: int, device: torch.device) -> list[tuple[M, Rows]]:
        """Return the modules of a kind that this thread has chosen and nobody has revoked.

        Args, Raises: as `Chosen.of`.
        """
        there = self.modules.values()
        return [(module, rows) for module, rows in self.chosen.of(kind, n, device) if module in there]

    def _require_attached(self) -> None:
        """Raise DataError where they were detached."""
        if not self.handles:
            raise DataError("modules: they were detached from the model; attach them again")

    def inject(self, name: str, module: Module) -> None:
        """Add a module under a name; what is in use stays so.

        Raises: DataError: the name is taken, the module belongs to another model, or all were detached.
        """
        self._require_attached()
        module = module_of(module, f"modules: {name!r}")
        if name in self.modules:
            raise DataError(f"modules: {name!r} is taken; revoke it first, or choose another name")
        net = module.net
        if isinstance(net, NgramModule):
            raise DataError(f"modules: {name!r} is an n-gram model; attach it by itself, it is mixed with no other")
        self._marks = self._marks or Marks.of(self.backbone)
        check_any(self.backbone, net, module.about, self._marks)
        net = on_device(net, self.backbone.device)
        if isinstance(net, AbiModule):
            self._note_taps(self._wanted({*net.config.taps}))
        elif isinstance(self.on_logits, _RowShift):
            self.on_logits.placed[net] = Placed(net, next(iter(self.on_logits.placed.values())).vocabulary)
        else:
            self.on_logits = _RowShift(self, [net])
        self.modules[name] = net

    def revoke(self, name: str) -> None:
        """Remove a module; what is in use goes on without it. Raises: DataError: an unknown name."""
        gone = self._known(name)
        del self.modules[name]
        if gone in self.modules.values():
            return  # attached under another name too
        left = tuple((module, weights) for module, weights in self._default.parts if module is not gone)
        self._default = replace(self._default, parts=left)
        if isinstance(self.on_logits, _RowShift) and len(self.on_logits.placed) > 1:
            self.on_logits.placed.pop(gone, None)  # type: ignore[arg-type]

    def use(self, choice: Choice | Sequence[Choice]) -> None:
        """Choose for every thread that has no choice of its own: one for all rows, or a list with one per row.

        Raises: DataError: an unknown name, no choice at all, a weight that is no number, or all were detached.
        """
        self._require_attached()
        self._default = self._resolved(choice)

    @contextmanager
    def using(self, choice: Choice | Sequence[Choice]) -> Iterator["Several"]:
        """Choose for a block of this thread. Args, Raises: as `use`."""
        self._require_attached()
        with self._choosing(self._resolved(choice)):
            yield self

    @contextmanager
    def _choosing(self, chosen: Chosen) -> Iterator[None]:
        """Set what this thread has chosen, for a block."""
        before, self._own.chosen = getattr(self._own, "chosen", None), chosen
        try:
            yield
        finally:
            self._own.chosen = before

    def generate(self, *args: Any, module_ids: Choice | Sequence[Choice] | _InUse = IN_USE, **kwargs: Any) -> Any:
        """Return what the model's own `generate` gives.

        >>> first, second = (abi.train(model, tokenizer, texts, steps=5, seed=seed) for seed in (1, 2))
        >>> ids = tokenizer("the state", return_tensors="pt")["input_ids"]
        >>> with abi.attach(model, {"a": first, "b": second}, tokenizer=tokenizer) as attached:
        ...     attached.generate(ids, module_ids="a", max_new_tokens=4).shape[1] - ids.shape[1]
        4

        Args: module_ids: as `use`, for this call; if not given, what is in use.
        Raises: DataError: as `use`; or another number of `module_ids` than of prompts.
        """
        given = next(
            (one for one in (*args[:1], kwargs.get("inputs"), kwargs.get("input_ids")) if one is not None), None
        )
        own = None if isinstance(module_ids, _InUse) else module_ids
        if isinstance(given, Tensor) and _per_row(own) and len(own or ()) != len(given):
            raise DataError(
                f"attach: {len(own or ())} module_ids for {len(given)} prompts; give one each, or one for all"
            )
        self._require_attached()
        chosen = self.chosen if isinstance(module_ids, _InUse) else self._resolved(module_ids)
        with self._choosing(replace(chosen, repeated=True)):
            return self.backbone.model.generate(*args, **kwargs)

    def _in_use(self, scaled: Tensor) -> list[tuple[AbiModule, Rows]]:
        """Return the modules that this thread has chosen. Raises: DataError: the batch is no multiple of the rows."""
        return self.in_use(AbiModule, len(scaled), scaled.device)

    def _known(self, name: str) -> AnyModule:
        """Return the module of a name. Raises: DataError: there is none."""
        if name not in self.modules:
            raise DataError(f"modules: no module {name!r}; attached: {', '.join(self.modules) or 'none'}")
        return self.modules[name]

    def _resolved(self, choice: Choice | Sequence[Choice]) -> Chosen:
        """Return a choice with the modules themselves: what runs goes on with them if one is revoked."""
        each = _per_row(choice)
        rows: Sequence[Choice] = choice if each else [choice]  # type: ignore[assignment, list-item]
        if wrong := [one for one in rows if not isinstance(one, str | Mapping | None)]:
            given = type(wrong[0]).__name__
            raise DataError(f"modules: {given} is no choice; give a name, weights by name, None, or a list of these")
        if each and not choice:
            raise DataError(
                "modules: an empty list chooses nothing; give one name per row, or None for the plain model"
            )
        parts: dict[AnyModule, dict[int, float]] = {}
        for row, one in enumerate(rows):
            mixture = {one: 1.0} if isinstance(one, str) else dict(one or {})
            for name, weight in mixture.items():
                if not isinstance(weight, SupportsFloat) or not abs(float(weight)) < float("inf"):
                    raise DataError(f"modules: weight {weight} of {name!r} is not a finite number")
                module = self._known(name)
                if weight:
                    weights = parts.setdefault(module, {})
                    weights[row] = weights.get(row, 0.0) + float(weight)  # two names may be one module
        return Chosen(len(rows) if each else 0, tuple(parts.items()))
