"""What a Python file defines at its top level, and which names each definition uses: what a code digest is made of."""

import ast
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

WITHOUT_EFFECT = frozenset(
    {"contextmanager", "dataclass", "functools.cache", "functools.lru_cache", "lru_cache", "overload"}
    | {"torch.inference_mode", "torch.no_grad"}
    | {"compiled", "inlined"}  # `abi/models/kernels.py`
)
"""Decorators that change what they are put on and nothing else. Any other may enter it in some table."""

CHANGING = frozenset(
    {"add", "append", "extend", "insert", "pop", "register", "remove", "clear", "discard", "setdefault", "update"}
)
"""Methods that change what they belong to: an assignment that calls one does more than it says."""

TYPES = frozenset({"annotation", "returns", "slice"})
"""Fields of a syntax tree in which a type may be named by a string."""

ITSELF = "."
"""As a package: the one that a file lies in."""

EVERYTHING = "*"
"""As a symbol: all that a module defines."""


@dataclass(frozen=True)
class Definition:
    """One statement of the top level of a file.

    Args: names: that it binds; none where it must count as soon as its file is loaded. digest, whole: of its syntax,
        without and with what only readers see. uses: the names it reads, `name` or `name.attribute`, and what it
        imports by itself, `module:symbol`.
    """

    names: tuple[str, ...]
    digest: str
    whole: str
    uses: tuple[str, ...]


@dataclass(frozen=True)
class Source:
    """What the bytes of a file and its place say, and nothing else does: this may be kept on disk.

    Args: definitions: in the order of the file. bindings: name -> (module, symbol) pairs that its imports bind to it.
        imported: dotted `abi` modules that it may load. lists: packages of which it imports every file.
    """

    definitions: Sequence[Definition]
    bindings: dict[str, list[tuple[str, str]]]
    imported: list[str]
    lists: list[str]

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Self:
        """Return one of what was kept of it as JSON."""
        each = [Definition(**{key: _tuple(part) for key, part in one.items()}) for one in value["definitions"]]
        bindings = {name: [(module, symbol) for module, symbol in of] for name, of in value["bindings"].items()}
        return cls(**{**value, "definitions": each, "bindings": bindings})

    @cached_property
    def places(self) -> Mapping[str, Sequence[int]]:
        """Name -> which definitions bind it."""
        found: dict[str, list[int]] = {}
        for place, one in enumerate(self.definitions):
            for name in one.names:
                found.setdefault(name, []).append(place)
        return found

    def knows(self, name: str) -> bool:
        """Return whether a name is bound here, by a definition or an import."""
        return name != EVERYTHING and (name in self.places or name in self.bindings)

    def imports_other(self, package: str, name: str) -> bool:
        """Return whether a name is bound here to something else than the module of this name in the package."""
        return any(one not in {(package, name), (f"{package}.{name}", "")} for one in self.bindings.get(name, ()))


def _tuple(part: Any) -> Any:
    return tuple(part) if isinstance(part, list) else part


def parsed(contents: bytes, package: tuple[str, ...], hidden: tuple[str, ...]) -> Source:
    """Return what a file says. Args: package: it lies in; hidden: keyword arguments that only readers see."""
    tree = ast.parse(contents)
    bindings: dict[str, list[tuple[str, str]]] = {}
    for node in _outside_functions(tree):
        for name, module, symbol in _bound(node, package):
            bindings.setdefault(name, []).append((module, symbol))
    nodes = list(ast.walk(tree))
    imported = {name for node in nodes for _, *parts in _bound(node, package) for name in _loaded(*parts)}
    return Source(
        definitions=[_definition(node, package, hidden) for node in _statements(tree)],
        bindings=bindings,
        imported=sorted(imported),
        lists=sorted({name for node in nodes for name in _listed(node, bindings)}),
    )


def _statements(tree: ast.Module) -> Iterator[ast.stmt]:
    """Yield the statements of the top level that are no imports and no docstrings, `a, b = 1, 2` one by one."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            [target], value = node.targets, node.value
            if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
                pairs = zip(target.elts, value.elts, strict=True)
                yield from (ast.Assign([one], its) for one, its in pairs)
                continue
        if not (isinstance(node, ast.Import | ast.ImportFrom) or is_docstring(node) or _for_types(node)):
            yield node


def _for_types(node: ast.stmt) -> bool:
    """Return whether a statement is `if TYPE_CHECKING`, whose imports count where an annotation uses them."""
    return isinstance(node, ast.If) and _dotted(node.test) == "TYPE_CHECKING" and not node.orelse


def _outside_functions(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield the nodes of the top level, also those below an `if` or a `try`, but none of a function or class."""
    todo: list[ast.AST] = list(tree.body)
    while todo:
        node = todo.pop(0)
        yield node
        if isinstance(node, ast.If | ast.Try | ast.With | ast.For):
            todo += ast.iter_child_nodes(node)


def _definition(node: ast.stmt, package: tuple[str, ...], hidden: tuple[str, ...]) -> Definition:
    seen = _Seen(package)
    seen.walk(node)
    whole = seen.digest()
    if hidden:
        seen.parts = []
        seen.walk(node, hidden)
    return Definition(_names(node), seen.digest(), whole, tuple(sorted(seen.uses)))


def _names(node: ast.stmt) -> tuple[str, ...]:
    """Return the names that a statement binds and does nothing else; none where it may do something else."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        calls = any(isinstance(one, ast.Expr) and isinstance(one.value, ast.Call) for one in node.body)
        acts = isinstance(node, ast.ClassDef) and calls
        return (node.name,) if all(_dotted(one) in WITHOUT_EFFECT for one in node.decorator_list) and not acts else ()
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    names = [part for target in targets for part in (target.elts if isinstance(target, ast.Tuple) else [target])]
    simple = bool(names) and not any(_may_change(part) for part in ast.walk(node))
    plain = [one.id for one in names if isinstance(one, ast.Name) and one.id != "_"]
    return tuple(plain) if simple and len(plain) == len(names) else ()


def _may_change(node: ast.AST) -> bool:
    """Return whether a node binds another name or calls a method that changes its object, or any of a constant."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return isinstance(node, ast.NamedExpr)
    return node.func.attr in CHANGING or (isinstance(node.func.value, ast.Name) and node.func.value.id.isupper())


def _dotted(node: ast.expr) -> str:
    """Return a name with its attributes, `a.b`, that of a function where it is called; "" for anything else."""
    if isinstance(node, ast.Call):
        return _dotted(node.func)
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


@dataclass
class _Seen:
    """What a walk through a statement has seen: its syntax, and the names that it reads.

    The walk is over type names and non-empty fields, so that Python 3.11, 3.12 and 3.13 agree.
    """

    package: tuple[str, ...]
    parts: list[str] = field(default_factory=list)
    uses: set[str] = field(default_factory=set)
    below: ast.AST | None = None
    """The name of which an attribute was noted last: it is not read by itself."""

    def digest(self) -> str:
        return hashlib.sha256("".join(self.parts).encode()).hexdigest()

    def walk(self, node: object, hidden: tuple[str, ...] = (), annotation: bool = False) -> None:
        """Walk through a node or a list of them, without docstrings and some keyword arguments."""
        if isinstance(node, ast.AST):
            self._note(node, annotation)
            self.parts.append(f"({type(node).__name__}")
            for name, value in ast.iter_fields(node):
                if name in {"ctx", "kind", "type_ignores", "type_comment"} or value is None or value == []:
                    continue
                if name == "body" and isinstance(value, list):
                    value = [item for item in value if not is_docstring(item)]
                if name == "keywords":
                    value = [item for item in value if item.arg not in hidden]
                self.parts.append(f" {name}=")
                self.walk(value, hidden, annotation or name in TYPES)
            self.parts.append(")")
        elif isinstance(node, list):
            for item in node:
                self.walk(item, hidden, annotation)
        else:
            self.parts.append(repr(node))

    def _note(self, node: ast.AST, annotation: bool) -> None:
        if isinstance(node, ast.Name):
            self.uses |= {node.id} if node is not self.below else set()
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            self.below = node.value
            self.uses.add(f"{node.value.id}.{node.attr}")
        elif isinstance(node, ast.Import | ast.ImportFrom):
            self.uses |= {f"{module}:{symbol}" for _, module, symbol in _bound(node, self.package)}
        elif annotation and isinstance(node, ast.Constant) and isinstance(node.value, str):
            self.uses |= set(re.findall(r"[A-Z_]\w*", node.value))  # a type that is named before it is there


def _bound(node: ast.AST, package: tuple[str, ...]) -> list[tuple[str, str, str]]:
    """Return (name, module, symbol) of what an import in a file of `package` binds; the symbol is "" for a module."""
    if isinstance(node, ast.Import):
        return [
            (item.asname, item.name, "") if item.asname else (item.name.split(".")[0], item.name, EVERYTHING)
            for item in node.names
        ]
    if isinstance(node, ast.ImportFrom):
        base = package[: len(package) - node.level + 1] if node.level else ()
        module = ".".join([*base, *filter(None, [node.module])])
        return [(item.asname or item.name, module, item.name) for item in node.names]
    return []


def _loaded(module: str, symbol: str) -> list[str]:
    """Return the dotted `abi` modules that an import may load."""
    if module.split(".")[0] != "abi":
        return []
    parts = module.split(".")
    packages = [".".join(parts[:n]) for n in range(2, len(parts))]  # their own files run first
    return [*packages, module, *([] if symbol in ("", EVERYTHING) else [f"{module}.{symbol}"])]


def _listed(node: ast.AST, bindings: Mapping[str, list[tuple[str, str]]]) -> list[str]:
    """Return the package whose files a node lists, by `iter_modules(__path__)` or that of another package."""
    if not isinstance(node, ast.Call) or not node.args or _dotted(node.func).rpartition(".")[2] != "iter_modules":
        return []
    of = _dotted(node.args[0]).removesuffix("__path__").rstrip(".")
    return [f"{module}.{symbol}".rstrip(".") for module, symbol in bindings.get(of, ())] if of else [ITSELF]


def is_docstring(node: object) -> bool:
    """Return whether a statement is a docstring, of a module, class, function or attribute."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
