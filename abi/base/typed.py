"""Typed files: pydantic models of everything that abi writes as JSON, read strictly and written atomically.

A model says what a file holds; its JSON Schema is generated from it. Values are taken as they stand (no text becomes a
number), unknown keys are refused, and a figure is finite.
"""

import ast
import inspect
import itertools
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, ValidationError

from abi.base.errors import DataError, TamperError
from abi.base.files import parse_file, parse_json, sha256_json, write_text


class Typed(BaseModel):
    """Base of everything typed: immutable, strict, closed to unknown keys, finite numbers only."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        allow_inf_nan=False,
        ser_json_inf_nan="constants",  # so that `write` sees a figure that is none; the default would write null
        populate_by_name=True,
        defer_build=True,  # a command builds the models it uses, not every one it imports
    )

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Describe fields by the docstrings below them; read here, since nothing but a schema says them."""
        schema = handler(core_schema)
        properties = handler.resolve_ref_schema(schema).get("properties", {})
        for base in reversed(cls.__mro__[: cls.__mro__.index(Typed)]):
            for name, words in docstrings(base).items():
                field = cls.model_fields.get(name)
                key = (field.alias or name) if field else name
                if key in properties and not (field and field.description):
                    properties[key]["description"] = words
        return schema

    def plain(self) -> dict[str, Any]:
        """Return what was given, as JSON values; what was left to its default stays out."""
        return self.model_dump(mode="json", exclude_unset=True)

    def given(self, *names: str) -> dict[str, Any]:
        """Return field -> value of what was given, of all fields or of some names."""
        return {name: getattr(self, name) for name in names or type(self).model_fields if name in self.model_fields_set}


Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Split = Literal["train", "calibration", "test"]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Regime = Literal["oracle-kd", "few-shot", "general-only", "zero-text", "reconstruction"]
"""What the target side may see (protocol section 3), and a reconstruction."""
Verdict = Literal["SUPPORTED", "REFUTED", "INCONCLUSIVE", "VACUOUS"]


def docstrings(model: type) -> dict[str, str]:
    """Return field -> the docstring below it in the body of a class; none of a class that has no source."""
    try:
        [node] = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    except (OSError, TypeError):
        return {}
    body = node.body if isinstance(node, ast.ClassDef) else []
    return {
        field.target.id: inspect.cleandoc(said.value.value)
        for field, said in itertools.pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(said, ast.Expr)
        and isinstance(said.value, ast.Constant)
        and isinstance(said.value.value, str)
    }


class Hardware(Typed):
    """The machine a job ran on."""

    machine: str | None = None
    cpus: int | None = None
    system: str | None = None
    cpu: str | None = None


class Compute(Typed):
    """Where the tensors of a job lay."""

    device: str
    """`cpu`, or `cuda:<n>`"""
    name: str | None = None
    """of the card"""
    precision: Literal["fp32", "bf16"]
    """in which frozen backbones ran; all else is fp32 or fp64"""
    deterministic: bool
    """whether the same job gives the same bits again on this device"""


class Provenance(Typed):
    """What made a file."""

    rule: str
    spec: dict[str, Any]
    """Everything of the configuration the output depends on."""
    code: Annotated[str, Field(min_length=1)]
    """Digest of the step and the abi modules it reaches."""
    inputs: dict[str, Sha256]
    """Path -> hash of every input file."""
    outputs: dict[str, Sha256] = {}
    """Path -> hash of every file that the job wrote before this one, those inside folders too."""
    versions: dict[str, str]
    threads: int
    elapsed_s: float
    peak_memory_mb: float
    hardware: Hardware
    compute: Compute | None = None
    """Where tensors lay; a job without any says nothing, as do files of older code."""


class Document(Typed):
    """A JSON file of abi. `kind` names it in its `format`, whose number is raised where a reader must change."""

    kind: ClassVar[str]
    format: str = ""
    seal: Sha256 | None = None
    """Hash of all else in the file: damage to it is noticed when it is read. It proves no author."""

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Return the document of a file.

        Raises: DataError: missing, not JSON, or not what the model says; TamperError: not what its seal says.
        """
        return cls.of(parse_file(path), path)

    @classmethod
    def of(cls, content: object, where: str | Path) -> Self:
        """Return the document of parsed JSON. Raises: DataError: as `read`."""
        try:
            found = cls.model_validate(content)
        except ValidationError as error:
            raise DataError(f"{where}: {fault(error)}; delete the file and rebuild it") from None
        if found.format != cls.format_name():
            raise DataError(
                f"{where}: format is {found.format!r}, not {cls.format_name()!r}; delete the file and rebuild it"
            )
        if found.seal is not None and found.seal != seal_of(content):
            raise TamperError(f"{where}: was changed after it was written; delete the file and rebuild it")
        return found

    @classmethod
    def format_name(cls) -> str:
        """Return what `format` says of such files."""
        return f"abi/{cls.kind}@1"

    def write(self, path: str | Path) -> None:
        """Write the document, atomically. Raises: DataError: a figure is NaN or infinite; nothing is written."""
        named = self._with_format()
        try:
            seal = seal_of(parse_json(named.model_dump_json(by_alias=True, exclude_unset=True)))
        except ValueError:
            raise DataError(
                f"{path}: a figure is NaN or infinite; nothing was written, look at the job's log"
            ) from None
        sealed = named.model_copy(update={"seal": seal})
        write_text(path, sealed.model_dump_json(indent=1, by_alias=True, exclude_unset=True) + "\n")

    def file(self) -> dict[str, Any]:
        """Return the JSON values that `write` writes and seals."""
        return self._with_format().model_dump(mode="json", by_alias=True, exclude_unset=True, exclude={"seal"})

    def _with_format(self) -> Self:
        return self.model_copy(update={"format": self.format_name()})


D = TypeVar("D", bound=Document)


def of_format(content: object, kinds: Mapping[str, type[D]]) -> type[D] | None:
    """Return the kind of document that parsed JSON says it is in its `format`, None where it is none of these.

    Args: kinds: `format_name` -> model.
    """
    named = content.get("format") if isinstance(content, dict) else None
    return kinds.get(named) if isinstance(named, str) else None


def seal_of(content: Any) -> str:
    """Return the hash of a document's JSON values without its seal."""
    return sha256_json({key: value for key, value in content.items() if key != "seal"})


def fault(error: ValidationError) -> str:
    """Return the first fault of a document in words: where, and what is wrong."""
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"]) or "the file"
    return f"{place}: {first['msg'].partition(' or instance of')[0][:200]}"
