"""A digest of the code that a rule runs: of the definitions that its step reaches, blind to comments and docstrings.

A definition is a statement of the top level of a file: a function, a class, a constant. From those of the step the walk
goes on to those whose names they use, in whatever file. So an edit of a function reruns what may call it, and not all
that shares its file. What could act unseen counts as soon as its file is loaded (`base/definitions.py`).

Order counts within a definition (fields, entries of a dict, arguments) and among those of a file that count. That of
imports does not, so nothing may depend on which of two files is loaded first.
"""

import atexit
import contextlib
import functools
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

from abi.base import definitions
from abi.base.definitions import EVERYTHING, ITSELF, Source, parsed
from abi.base.errors import DataError
from abi.base.files import ROOT, Json, parse_file, sha256_file, sha256_json, write_text

OUTSIDE_DIGEST = frozenset(
    {"abi", "abi.base.errors", "abi.base.files", "abi.base.definitions", "abi.base.digest", "abi.base.job"}
)
"""Modules that carry what others compute: reading, writing, hashing, starting. They stay out of every digest, since
nearly all that is edited there are messages, and each edit would rebuild everything. One that changes what is read or
written (how tensors are stored, which threads a job gets) needs `--forceall` by hand."""

WHOLE = frozenset({"abi.base.compute"})
"""Modules all of which count for what loads them: the job itself, whose code is outside, sets them up for its step."""

TEMPLATES = frozenset({".j2", ".css"})
"""Files of a package that make its pages: they belong to its code."""

FOR_READERS = {
    "abi/base/catalogue.py": ("words", "colour", "of_kind"),
    "abi/base/regimes.py": ("words",),
    "abi/plan/specs/": ("description",),
}
"""Where a file lies -> keyword arguments in it that only readers see: no figure depends on them."""

READERS = "abi/report/"
"""What reaches this wing shows those words: for its rules they count."""


@dataclass(frozen=True)
class Definition:
    """A statement of the top level of a file, by its place among them."""

    path: Path
    place: int


@dataclass(frozen=True)
class Import:
    """An import in a file that is used: what its name stands for, as a digest holds it."""

    path: Path
    text: str


@dataclass(frozen=True)
class Use:
    """A use in a file: `name`, `name.attribute`, or `module:symbol` that a function imports."""

    path: Path
    name: str


@dataclass(frozen=True)
class WholeFile:
    """All of a file, where it is not known what of it is meant."""

    path: Path


Counted = Definition | Import
"""What a digest is made of."""
Part = Counted | Use | WholeFile
"""What a walk meets."""


def code_digest(*paths: str, root: Path = ROOT) -> str:
    """Return a digest of some files and of every `abi` module they reach, blind to comments and docstrings.

    The walk is over type names and non-empty fields, so that Python 3.11, 3.12 and 3.13 agree.
    Args: paths: relative to the repository root.
    """
    asked = None if _kept is None else _kept.key(paths, root)
    if _kept is None or asked is None:
        return _digest(paths, root)
    if asked not in _kept.digests:
        _kept.digests[asked] = _digest(paths, root)
    return _kept.digests[asked]


def _digest(paths: tuple[str, ...], root: Path) -> str:
    found = reached(paths, root)
    return hashlib.sha256("".join(f"{name}={found[name]};" for name in sorted(found)).encode()).hexdigest()[:20]


@functools.cache
def reached(starts: tuple[str, ...], root: Path = ROOT) -> dict[str, str]:
    """Return name -> digest of some files and of what they reach of others, the templates of packages included."""
    found, templates = _walk(starts, root)
    to_readers = any(str(path.relative_to(root)).startswith(READERS) for path in found)
    texts = {str(path.relative_to(root)): _text(path, parts, to_readers, root) for path, parts in found.items()}
    return templates | {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}


def names_reached(starts: Sequence[str], root: Path = ROOT) -> dict[str, frozenset[str]]:
    """Return file -> the names in it that count for what starts at some files."""
    found, _ = _walk(tuple(starts), root)
    each = {
        path: [_source(path, root).definitions[part.place] for part in parts if isinstance(part, Definition)]
        for path, parts in found.items()
    }
    return {
        str(path.relative_to(root)): frozenset(name for one in definitions for name in one.names)
        for path, definitions in each.items()
    }


def _walk(starts: tuple[str, ...], root: Path) -> tuple[dict[Path, set[Counted]], dict[str, str]]:
    """Return file -> its parts that count, and name -> hash of templates."""
    loaded = _loaded([path for start in starts if (path := Path(root, start)).is_file()], root)
    todo = [part for path, whole in loaded.items() for part in _begun(path, whole, root)]
    met: set[Part] = set()
    while todo:
        part = todo.pop()
        if part not in met:
            met.add(part)
            todo += _needed(part, root)
    found: dict[Path, set[Counted]] = {}
    for part in met:
        if isinstance(part, Counted):
            found.setdefault(part.path, set()).add(part)
    return found, _templates(loaded, root)


def _loaded(starts: list[Path], root: Path) -> dict[Path, bool]:
    """Return the files that some may load, and whether all of each counts, as of those that a package lists."""
    todo, found = [(path, True) for path in starts], dict[Path, bool]()
    while todo:
        path, whole = todo.pop()
        if path in found and found[path] >= whole:
            continue
        found[path], source = whole, _source(path, root)
        todo += [(file, name in WHOLE) for name in source.imported for file in _files_of(name, root)]
        packages = [path.parent if name == ITSELF else Path(root, *name.split(".")) for name in source.lists]
        todo += [(file, True) for package in packages for file in package.glob("*.py")]
    return found


def _begun(path: Path, whole: bool, root: Path) -> list[Part]:
    """Return what counts of a loaded file whether or not it is used. Args: whole: all of it, and what it imports."""
    source = _source(path, root)
    each = [Definition(path, i) for i, one in enumerate(source.definitions) if whole or not one.names]
    return [*each, *(Use(path, name) for name in source.bindings if whole)]


def _text(path: Path, parts: set[Counted], to_readers: bool, root: Path) -> str:
    """Return what counts of a file: the digests of definitions in its order, and the imports that are used."""
    places = sorted(part.place for part in parts if isinstance(part, Definition))
    each = [_source(path, root).definitions[place] for place in places]
    digests = [one.whole if to_readers else one.digest for one in each]
    return "".join([*digests, *sorted(part.text for part in parts if isinstance(part, Import))])


def _templates(loaded: Iterable[Path], root: Path) -> dict[str, str]:
    """Return name -> hash of the files of loaded packages that make pages."""
    packages = [path.parent for path in loaded if path.name == "__init__.py"]
    files = [file for package in packages for file in package.iterdir() if file.suffix in TEMPLATES]
    return {str(file.relative_to(root)): sha256_file(file) for file in files}


@functools.cache
def _needed(part: Part, root: Path) -> list[Part]:
    """Return what a part of a file needs: a definition its uses, a use what it stands for, a whole file all of it."""
    match part:
        case Definition(path, place):
            return [Use(path, use) for use in _source(path, root).definitions[place].uses]
        case Use(path, name):
            return _meant(path, name, root)
        case WholeFile(path):
            return _begun(path, True, root)
    return []


def _meant(path: Path, use: str, root: Path) -> list[Part]:
    """Return what a use in a file means."""
    if ":" in use:
        return _imported(*use.split(":"), root=root)
    name, _, attribute = use.partition(".")
    source = _source(path, root)
    found: list[Part] = [Definition(path, place) for place in source.places.get(name, ())]
    for module, symbol in source.bindings.get(name, ()):
        bound = Import(path, f"bound {name}={module}:{symbol};")
        found += [bound, *_imported(module, symbol, attribute, root=root)]
    stars = source.bindings.get(EVERYTHING, ()) if not found and name != EVERYTHING else ()
    return found + [part for module, _ in stars for part in _imported(module, name, attribute, root=root)]


def _imported(module: str, symbol: str, attribute: str = "", *, root: Path) -> list[Part]:
    """Return what a symbol of a module means, or an attribute of it where it is a module itself; all if not known.

    Args: symbol: "" where the module itself is meant.
    """
    if module.split(".")[0] != "abi":
        return []
    if symbol and _is_module(module, symbol, root):
        module, symbol = f"{module}.{symbol}", ""
    symbol = symbol or attribute or EVERYTHING
    if _is_module(module, symbol, root):
        return _imported(f"{module}.{symbol}", "", root=root)
    files = _files_of(module, root)
    return [Use(path, symbol) if _source(path, root).knows(symbol) else WholeFile(path) for path in files]


def _is_module(module: str, symbol: str, root: Path) -> bool:
    """Return whether a symbol of a package is a module of it, and nothing else that its own file binds."""
    sources = [_source(path, root) for path in _files_of(module, root)]
    known = any(symbol in source.places or source.imports_other(module, symbol) for source in sources)
    return not known and bool(_places(f"{module}.{symbol}", root))


def _for_readers(name: str) -> tuple[str, ...]:
    """Return the keyword arguments of a file that only readers see."""
    return next((keywords for place, keywords in FOR_READERS.items() if name.startswith(place)), ())


_known: dict[str, Source] = {}
"""Hash of a file's name and bytes, of this file's and of Python's version -> what was parsed of it."""
_used: set[str] = set()
"""Those of them that a digest of this process rests on."""


@dataclass(frozen=True)
class Tree:
    """All code below a root. Args: files: name -> hash, sorted; sha256: of them, this file and Python's version."""

    files: dict[str, str]
    sha256: str

    @classmethod
    def of(cls, root: Path) -> Self:
        """Return the code as it is now.

        Raises: OSError: a file cannot be read, or a folder is a link: what it leads to may be edited unseen.
        """
        found = []
        for folder, below, names in os.walk(root / "abi"):
            if any(Path(folder, name).is_symlink() for name in below):
                raise OSError(f"{folder}: holds a link to a folder")
            found += [Path(folder, name) for name in names if Path(name).suffix in {".py", *TEMPLATES}]
        files = {file.relative_to(root).as_posix(): sha256_file(file) for file in sorted(found)}
        each = "".join(f"{name}={sha256};" for name, sha256 in files.items())
        return cls(files, hashlib.sha256(f"{sys.version_info[:2]}{_own_code()}{each}".encode()).hexdigest())


@dataclass
class Kept:
    """What earlier plans left in a folder: digests by the hash of all code, and, where one is not there, parsed files.

    Args: digests: hash of all code and of the files a walk starts at -> its digest. trees: root -> its code, as of
        the first digest that was asked for. edited: whether a file was another when it was
        read: then no digest of this process is kept. parsed: what `_known` held of earlier plans, None until needed.
    """

    folder: Path
    digests: dict[str, str] = field(default_factory=dict)
    trees: dict[Path, Tree] = field(default_factory=dict)
    edited: bool = False
    parsed: frozenset[str] | None = None

    def key(self, starts: Sequence[str], root: Path) -> str | None:
        """Return what a digest is kept under, None where the code cannot be told apart by its files."""
        try:
            if root not in self.trees:
                self.trees[root] = Tree.of(root)
            paths = {start: Path(root, start) for start in starts}
            own = [f"{start}={sha256_file(path) if path.is_file() else ''}" for start, path in paths.items()]
            return f"{self.trees[root].sha256} {' '.join(own)}"
        except (DataError, OSError, UnicodeError):
            return None

    def note(self, name: str, contents: bytes, root: Path) -> None:
        """Note whether a file that is parsed is the one whose hash keys a digest."""
        if (tree := self.trees.get(root)) is not None and name.startswith("abi/"):
            self.edited |= tree.files.get(name) != hashlib.sha256(contents).hexdigest()

    def read_digests(self) -> None:
        """Read what is kept; a file that is not what it says of itself is done without."""
        with contextlib.suppress(DataError, ValueError, TypeError):
            self.digests.update(_believed(self.folder / DIGESTS))

    def read_parsed(self) -> None:
        """Add what was parsed earlier to what is known; a file that is not what it says of itself is done without."""
        if self.parsed is None:
            with contextlib.suppress(DataError, KeyError, TypeError, ValueError, AttributeError):
                _known.update({key: Source.of(value) for key, value in _believed(self.folder / PARSED).items()})
            self.parsed = frozenset(_known)

    def write(self) -> None:
        """Write what is new; what is of other code is left out."""
        if self.parsed is None:  # every digest was there
            return
        with contextlib.suppress(DataError, OSError, UnicodeError):
            if not _used <= self.parsed:
                parsed = {key: asdict(_known[key]) for key in sorted(_used)}
                _write(self.folder / PARSED, parsed)
            if not self.edited and all(Tree.of(root) == tree for root, tree in self.trees.items()):
                trees = tuple(tree.sha256 for tree in self.trees.values())
                own = {key: digest for key, digest in sorted(self.digests.items()) if key.startswith(trees)}
                _write(self.folder / DIGESTS, own)


def _believed(path: Path) -> dict[str, Json]:
    """Return what a file of a plan holds, nothing if it is not what it says of itself.

    Raises: DataError: it is missing or not JSON; TypeError, ValueError: it holds something else.
    """
    sha256, found = parse_file(path)
    return found if sha256 == sha256_json(found) else {}


def _write(path: Path, found: dict[str, Json]) -> None:
    """Write what a plan found, after its hash."""
    write_text(path, json.dumps([sha256_json(found), found]))


DIGESTS, PARSED = "digests.json", "code.json"
_kept: Kept | None = None


def remember(folder: Path) -> None:
    """Walk no code again that an earlier plan walked, and parse no file again whose bytes it has seen.

    The plan alone calls this. A job and `abi verify` parse the code themselves, so that a forged file misleads neither.
    Args: folder: keeps it; what is missing, damaged or cannot be written is done without.
    """
    global _kept
    _kept = Kept(folder.absolute())
    _kept.read_digests()
    atexit.register(_kept.write)


def parse_ahead(starts: Sequence[str], root: Path = ROOT) -> None:
    """Parse the files that some reach, for the processes that are forked from this one.

    They read every file all the same, and find by its bytes what was parsed here, so that an edit is not missed.
    """
    _loaded([Path(root, start) for start in starts], root)
    for cached in (_source, _places):
        cached.cache_clear()


@functools.cache
def _source(path: Path, root: Path) -> Source:
    """Return what a file says, parsed once per contents."""
    relative, contents = path.relative_to(root), path.read_bytes()
    salt = f"{relative.as_posix()}\0{sys.version_info[:2]}\0{_own_code()}\0"
    key = hashlib.sha256(salt.encode() + contents).hexdigest()
    _used.add(key)
    if _kept is not None:
        _kept.note(relative.as_posix(), contents, root)
        _kept.read_parsed()
    if key not in _known:
        package = relative.with_suffix("").parts[:-1]
        _known[key] = parsed(contents, package, _for_readers(relative.as_posix()))
    return _known[key]


@functools.cache
def _own_code() -> str:
    return sha256_file(__file__) + sha256_file(definitions.__file__)


@functools.cache
def _places(module: str, root: Path) -> list[Path]:
    """Return the file of a dotted module or of its package, nothing where the name is none of a module."""
    place = Path(root, *module.split("."))
    return [file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()]


def _files_of(module: str, root: Path) -> list[Path]:
    """Return the file of a dotted module, nothing where its edits do not count."""
    return [] if module in OUTSIDE_DIGEST else _places(module, root)
