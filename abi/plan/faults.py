"""What is wrong with a configuration: per fault one sentence with file, key, remedy and the closest valid name."""

import difflib
import re
import typing
from collections.abc import Iterable, Iterator
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from abi.base.catalogue import REGIMES, Regime
from abi.base.errors import ConfigError
from abi.plan.scale import Scale


def closest(name: str, valid: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the closest valid name, or nothing."""
    near = difflib.get_close_matches(str(name), list(valid), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


def with_article(words: str) -> str:
    """Return words after `a` or `an`."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


class Faults:
    """The faults found so far in a configuration whose files are valid one by one.

    Args: scale: of the configuration; fitted, studied: the claims of this scale that others may be about.
    """

    def __init__(self, scale: Scale, fitted: Iterable[str] = (), studied: Iterable[str] = ()) -> None:
        self.scale, self.fitted, self.studied = scale, list(fitted), list(studied)
        self.sentences: list[str] = []

    def tell(self, sentence: str) -> None:
        """Keep a fault, once."""
        if sentence not in self.sentences:
            self.sentences.append(sentence)

    def known(self, name: str, valid: Iterable[str], where: str, what: str) -> bool:
        """Return whether a name is among the valid ones; tell the closest of them otherwise."""
        names = list(valid)
        if name in names:
            return True
        self.tell(f"{where}: {name!r} is not {with_article(what)}{closest(name, names)} (valid: {', '.join(names)})")
        return False

    def arms(self, arms: Iterable[str], regime: Regime, where: str) -> None:
        """Tell which arms a regime cannot fit, and which it needs and lacks."""
        given = list(arms)
        for arm in given:
            self.known(arm, REGIMES[regime].arms, where, f"arm of {regime}")
        for arm in (arm for arm in REGIMES[regime].required if arm not in given):
            self.tell(f"{where}: lacks the control arm {arm!r}, without which there is no verdict; add it")

    def module(self, name: str, backbone: str, where: str, what: str) -> None:
        """Tell where a module shape is unknown, or does not fit a backbone."""
        made = self.scale.backbones.get(backbone)
        if not self.known(name, self.scale.modules, where, what) or made is None:
            return
        module, stored = self.scale.modules[name], {*made.taps, "final"}
        missing = [tap for tap in module.taps if tap not in stored]
        if missing:
            self.tell(
                f"{where}: module {name!r} reads tap {missing[0]}, which {backbone} does not store; "
                f"add it to backbones.{backbone}.taps"
            )
        width = made.build.width if made.build else None
        taps = len(module.taps)
        if width is not None and module.d_abi > width * taps:
            self.tell(
                f"{where}: d_abi {module.d_abi} of module {name!r} is too large for {backbone}: "
                f"{width} wide states of {taps} taps give at most {width * taps}; lower it"
            )

    def raise_all(self) -> None:
        """Raise ConfigError with every fault, one per line, if there is one."""
        if self.sentences:
            raise ConfigError("\n".join(self.sentences))


def sentences(error: ValidationError, model: type[BaseModel], where: str) -> Iterator[str]:
    """Yield one sentence per place of a document that is not what a model says."""
    told = set()
    for fault in error.errors(include_url=False):
        place = _found(model, fault["loc"])
        if place.parts not in told:
            told.add(place.parts)
            yield f"{where}: {_said(fault, place)}"


class _Place(NamedTuple):
    """Where a fault is: the keys that lead there, the kinds pydantic names between them, the keys that may stand."""

    parts: tuple[str, ...]
    tags: list[str]
    valid: list[str]


def _found(model: type[BaseModel], loc: tuple[int | str, ...]) -> _Place:
    """Return the place of a fault, by walking the model as pydantic did."""
    parts, tags, valid, at = [], [], [], _bare(model)
    for part in loc:
        union = get_origin(at) in (Union, UnionType)
        if union or part == "[key]":
            tags.append(str(part))
            at = next((m for m in map(_bare, get_args(at)) if part in _kinds(m)), None) if union else at
            continue
        parts.append(str(part))
        valid = _fields(at)
        if isinstance(at, type) and issubclass(at, BaseModel):
            at = next((f.annotation for n, f in at.model_fields.items() if part in (n, f.alias)), None)
        else:
            at = get_args(at)[-1] if get_origin(at) in (list, dict) else None
        at = _bare(at)
    return _Place(tuple(parts), tags, valid)


def _said(fault: Any, at: _Place) -> str:
    """Return what is wrong at a place, in words."""
    place, inside, key = ".".join(at.parts), ".".join(at.parts[:-1]), at.parts[-1] if at.parts else ""
    kind, value = fault["type"], fault["input"]
    owner = f" in {inside}" if inside else ""
    if kind == "missing":
        return f"{inside}: kind {at.tags[-1]} needs {key!r}; add it" if at.tags else f"needs {key!r}{owner}; add it"
    if kind == "extra_forbidden":
        near = f"{closest(key, at.valid)} (valid: {', '.join(at.valid)})"
        return f"{inside}: kind {at.tags[-1]} has no {key!r}{near}" if at.tags else f"unknown key {key!r}{owner}{near}"
    if kind == "union_tag_invalid":
        name = str(value.get("kind"))
        valid = [word.strip("'") for word in fault["ctx"]["expected_tags"].split(", ")]
        return f"{place}.kind: {name!r} is no kind{closest(name, valid)} (valid: {', '.join(valid)})"
    if kind == "union_tag_not_found":
        return f"{place}: needs 'kind'; add it"
    message = fault["msg"].removeprefix("Value error, ")
    if kind == "value_error":
        return f"{place}: {message}"
    if "[key]" in at.tags:
        rule = fault["ctx"].get("pattern") or fault["ctx"]["expected"]
        return f"{place}: {key!r} is no name that may stand here (it must be {rule}); rename it"
    near = ""
    if kind == "literal_error":
        near = closest(value, re.findall("'([^']*)'", fault["ctx"]["expected"]))
    shown = repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:57]}..."
    message = re.sub(" or instance of .*", "", message.replace("Input should", "should"))
    return f"{place or 'the file'}: {shown} {message[0].lower()}{message[1:]}{near}; correct it"


def _bare(annotation: Any) -> Any:
    """Return an annotation without its metadata and without None."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, UnionType):
        members = [member for member in get_args(annotation) if member is not type(None)]
        return _bare(members[0]) if len(members) == 1 else typing.Union[tuple(members)]  # noqa: UP007
    return annotation


def _kinds(model: Any) -> tuple[str, ...]:
    field = model.model_fields.get("kind") if isinstance(model, type) and issubclass(model, BaseModel) else None
    return get_args(field.annotation) if field is not None and get_origin(field.annotation) is Literal else ()


def _fields(model: Any) -> list[str]:
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        return []
    return [field.alias or name for name, field in model.model_fields.items()]
