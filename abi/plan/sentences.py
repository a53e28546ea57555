"""What pydantic finds wrong in a document of configuration, one sentence per fault."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic import ValidationError

from abi.base.wording import closest, nearest

SCIENTIFIC = re.compile(r"([+-]?\d{1,15})(\.\d{0,15})?[eE]([+-]?)(\d{1,2})")
"""A number that YAML reads as text where it lacks a point or the sign behind `e`."""
Schema = dict[str, Any]
"""A JSON schema."""


def sentences(error: ValidationError, schema: Schema, where: str) -> Iterator[str]:
    """Yield one sentence per place of a document that is not what a model says.

    Args: schema: of the model; where: the document's name, with which a sentence begins.
    """
    told = set()
    for details in error.errors(include_url=False):
        fault = _Fault.of(details, schema)
        if fault.at.parts not in told:
            told.add(fault.at.parts)
            if written := fault.written:
                told.add((*fault.owner, written))  # nothing else is told of it
            yield f"{where}: {fault.said()}"


class _Place(NamedTuple):
    """Where a fault is: the keys that lead there, the kinds pydantic names between them, the keys that may stand."""

    parts: tuple[str, ...]
    tags: list[str]
    valid: list[str]


def _found(schema: Schema, loc: tuple[int | str, ...]) -> _Place:
    """Return the place of a fault, by walking the model's schema as pydantic did its own."""
    parts: list[str] = []
    tags: list[str] = []
    valid: list[str] = []
    at = schema
    for part in loc:
        at = _resolved(at, schema)
        if "anyOf" in at or "oneOf" in at or part == "[key]":
            tags.append(str(part))
            kind = at.get("discriminator", {}).get("mapping", {}).get(part)
            at = {"$ref": kind} if kind else at
            continue
        parts.append(str(part))
        fields = at.get("properties", {})
        valid = list(fields)
        free = [at.get("items"), at.get("additionalProperties"), *at.get("patternProperties", {}).values()]
        at = fields.get(part) or next(filter(None, free), {})
    return _Place(tuple(parts), tags, valid)


def _resolved(at: Schema, schema: Schema) -> Schema:
    """Return a part of a schema itself: behind its reference, without the null of what may be absent."""
    if "$ref" in at:
        return _resolved(schema["$defs"][at["$ref"].rpartition("/")[2]], schema)
    members = [member for member in at.get("anyOf", []) if member.get("type") != "null"]
    return _resolved(members[0], schema) if len(members) == 1 else at


@dataclass(frozen=True)
class _Fault:
    """A fault as pydantic tells it.

    Args: kind, message: pydantic's words; value: what stands there; expected: the tags, the pattern or the values of
        which one should.
    """

    at: _Place
    kind: str
    value: Any
    message: str
    expected: str

    @classmethod
    def of(cls, details: Any, schema: Schema) -> "_Fault":
        """Return what pydantic tells, with its place."""
        context = details.get("ctx", {})
        expected = next((context[key] for key in ("expected_tags", "pattern", "expected") if key in context), "")
        return cls(_found(schema, details["loc"]), details["type"], details["input"], details["msg"], str(expected))

    @property
    def needed(self) -> str:
        """The key that is missing; else ""."""
        return {"missing": self.at.parts[-1] if self.at.parts else "", "union_tag_not_found": "kind"}.get(self.kind, "")

    @property
    def owner(self) -> tuple[str, ...]:
        """The place of the mapping that a missing key belongs into."""
        return self.at.parts[:-1] if self.kind == "missing" else self.at.parts

    @property
    def written(self) -> str:
        """The misspelt key that stands where one is missing; else ""."""
        if not self.needed or not isinstance(self.value, dict):
            return ""
        others = [str(name) for name in self.value if name not in self.at.valid]
        return nearest(self.needed, others, cutoff=0.6)

    def said(self) -> str:
        """Return what is wrong, in words."""
        at, kind, value = self.at, self.kind, self.value
        place, inside, key = ".".join(at.parts), ".".join(at.parts[:-1]), at.parts[-1] if at.parts else ""
        owner = f" in {inside}" if inside else ""
        if written := self.written:
            return f"{'.'.join(self.owner) or 'the file'}: has {written!r} for {self.needed!r}; rename it"
        if kind == "missing":
            return f"{inside}: kind {at.tags[-1]} needs {key!r}; add it" if at.tags else f"needs {key!r}{owner}; add it"
        if kind == "extra_forbidden":
            near = f"{closest(key, at.valid)} (valid: {', '.join(at.valid)})"
            return (
                f"{inside}: kind {at.tags[-1]} has no {key!r}{near}" if at.tags else f"unknown key {key!r}{owner}{near}"
            )
        if kind == "union_tag_invalid":
            name = str(value.get("kind"))
            valid = [word.strip("'") for word in self.expected.split(", ")]
            return f"{place}.kind: {name!r} is no kind{closest(name, valid)} (valid: {', '.join(valid)})"
        if kind == "union_tag_not_found":
            return f"{place}: needs 'kind'; add it"
        if isinstance(value, str) and kind.startswith(("float", "int")) and (number := SCIENTIFIC.fullmatch(value)):
            return f"{place}: {value!r} is text to YAML; write {_number(number, whole=kind.startswith('int'))}"
        message = self.message.removeprefix("Value error, ")
        if kind == "value_error":
            return f"{place}: {message}"
        if "[key]" in at.tags:
            return f"{place}: {key!r} is no name that may stand here (it must be {self.expected}); rename it"
        near = ""
        if kind == "literal_error":
            near = closest(value, re.findall("'([^']*)'", self.expected))
        shown = repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:57]}..."
        message = re.sub(" or instance of .*", "", message.replace("Input should", "should"))
        return f"{place or 'the file'}: {shown} {message[0].lower()}{message[1:]}{near}; correct it"


def _number(found: re.Match[str], *, whole: bool) -> str:
    """Return a number as YAML reads it."""
    before, after, sign, exponent = found.groups()
    return f"{float(found[0]):.0f}" if whole else f"{before}{after or '.0'}e{sign or '+'}{exponent}"
