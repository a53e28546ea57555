"""YAML files of `config/`: read, merged, validated by their models; one sentence per fault."""

import copy
import functools
from collections.abc import Collection
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast

import yaml
from pydantic import BaseModel, ValidationError
from yaml.constructor import SafeConstructor

from abi.base.errors import ConfigError
from abi.base.files import checkout, read_regular, scales
from abi.base.hub import Snapshot
from abi.base.typed import Typed
from abi.base.wording import closest
from abi.plan.scale import UNPINNED, Scale
from abi.plan.sentences import sentences

LARGEST = 10**12
MOST_BYTES, MOST_NODES = 4_000_000, 100_000
"""Limits of a file of configuration; nodes are counted as often as aliases repeat them."""
OF_REPLICATE = ("scale", "extends", "replicate", "description")
"""What a scale that replicates another may say."""
M = TypeVar("M", bound=BaseModel)
Given = dict[str, Any]
"""What a YAML file gives, before its model has checked it."""


def read_scale(name: str, folder: Path) -> Scale:
    """Return a scale merged over what it extends and with the revisions of its lock file."""
    names = scales(folder)
    if name not in names:
        if not names:
            raise ConfigError(f"{folder}: is no folder of scales; run the command in a checkout of abi")
        raise ConfigError(f"config/scales: no scale {name!r}{closest(name, names)}; scales: {', '.join(names)}")
    where = f"config/scales/{name}.yaml"
    if name == "reference":
        raise ConfigError(f"{where}: results/reference is where committed runs lie; give the scale another name")
    _check_replicate(_mapping(folder / f"{name}.yaml"), where)
    return _valid(_merged(name, folder, names, []), Scale, where)


def _merged(name: str, folder: Path, names: Collection[str], over: list[str]) -> Given:
    """Return what a scale says over what it extends, pinned by the lock files of both.

    Args: names: all scales; over: those that are being read, which extend this one.
    """
    scale, where, chain = _mapping(folder / f"{name}.yaml"), f"config/scales/{name}.yaml", [*over, name]
    if "extends" in scale:
        base = scale.pop("extends")
        if base not in names or base in chain:
            raise ConfigError(f"{where}: extends {base!r}, which is not another scale; scales: {', '.join(names)}")
        scale = merge(_of_other_models(_merged(base, folder, names, chain), scale), scale)
    lock = folder / f"{name}.lock.yaml"
    if lock.exists():
        _valid(scale, Scale, where)
        scale = _apply_lock(scale, lock)
    return scale


def _of_other_models(base: Given, own: Given) -> Given:
    """Return a base without the pins of backbones that a scale takes from elsewhere under the same name.

    Another revision of the same repository is elsewhere, too: its files are others.
    """
    named, others = own.get("backbones"), base.get("backbones")
    if not isinstance(named, dict) or not isinstance(others, dict):
        return base
    for name, backbone in named.items():
        hub, under = _hub(backbone), _hub(others.get(name))
        if any(hub.get(key) not in (None, under.get(key)) for key in ("id", "revision")):
            for key in Snapshot.model_fields:  # what `abi pin` found there
                under.pop(key, None)
            under.update(revision=UNPINNED)
    return base


def _hub(backbone: object) -> Given:
    """Return what a backbone takes from the hub, as a file has it; nothing where that is no mapping."""
    found = backbone.get("hub") if isinstance(backbone, dict) else None
    return found if isinstance(found, dict) else {}


def _check_replicate(given: Given, where: str) -> None:
    """Raise ConfigError where a replicate, which is compared with its scale, differs in more than pretraining seeds."""
    if not given.get("replicate"):
        return
    if "extends" not in given:
        raise ConfigError(f"{where}: has `replicate` and no `extends`; name the scale that it replicates")
    if others := [key for key in given if key not in OF_REPLICATE]:
        raise ConfigError(
            f"{where}: has `replicate`, and {', '.join(others)} beside it; a replicate has other pretraining seeds "
            "alone: take the one or the other out"
        )


def replicates(name: str) -> list[str]:
    """Return the scales that replicate a scale: the same with backbones of other pretraining seeds.

    A file that cannot be read is none: it stops commands of its own scale alone.
    """
    folder = checkout() / "config" / "scales"

    def replicating(scale: str) -> bool:
        try:
            given = _mapping(folder / f"{scale}.yaml")
        except ConfigError:
            return False
        return given.get("extends") == name and bool(given.get("replicate"))

    return [scale for scale in scales(folder) if replicating(scale)]


def scale_replicated_by(name: str) -> str:
    """Return the scale that a scale replicates; itself where it replicates none."""
    given = _mapping(checkout() / "config" / "scales" / f"{name}.yaml")
    return str(given["extends"]) if given.get("replicate") and "extends" in given else name


def merge(base: Given, over: Given) -> Given:
    """Return `base` with the keys of `over` put over it, mappings merged at every level."""
    out = copy.deepcopy(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = merge(out[key], value) if both else copy.deepcopy(value)
    return out


def read_yaml(path: Path, model: type[M]) -> M:
    """Return what a YAML file holds. Raises: ConfigError: with every fault of the file."""
    return _valid(_raw_yaml(path), model, f"{path.parent.name}/{path.name}")


def _valid(document: object, model: type[M], where: str) -> M:
    """Return a document as its model. Raises: ConfigError: with a sentence per fault, one per line."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise ConfigError("\n".join(sentences(error, model.model_json_schema(), where))) from None


class _Events(yaml.reader.Reader, yaml.scanner.Scanner, yaml.parser.Parser):
    """The events of a text, where PyYAML was installed without libyaml."""

    def __init__(self, stream: str) -> None:
        yaml.reader.Reader.__init__(self, stream)
        yaml.scanner.Scanner.__init__(self)
        yaml.parser.Parser.__init__(self)


_Parser: Any = yaml.cyaml.CParser if yaml.__with_libyaml__ else _Events  # type: ignore[attr-defined]
"""The former takes a tenth of the time, which every command and every run of Snakemake waits for."""


class _Loader(yaml.composer.Composer, _Parser, SafeConstructor, yaml.resolver.Resolver):  # type: ignore[misc]
    """YAML as configuration needs it: keys are words and stand once, numbers are finite and of a sane size.

    Values are texts, numbers, truths, nothing, lists and mappings. An alias repeats what is complete, and not too much.
    """

    KINDS = ("null", "bool", "int", "float", "str", "seq", "map")

    def __init__(self, stream: str) -> None:
        yaml.composer.Composer.__init__(self)
        _Parser.__init__(self, stream)
        SafeConstructor.__init__(self)
        yaml.resolver.Resolver.__init__(self)
        self.unfolded: dict[yaml.Node, int] = {}
        """node -> values in it, aliases unfolded; a node that is not complete is not there"""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node:
        """Return a node. Raises: ConstructorError: an alias inside of what it names, or a file that unfolds too far."""
        alias = self.check_event(yaml.AliasEvent)
        node: Any = super().compose_node(parent, index)
        if alias and node not in self.unfolded:
            self._refuse(node, "an alias names what it is part of")
        if not alias:
            parts = [part for entry in _entries(node) for part in entry]
            self.unfolded[node] = 1 + sum(self.unfolded[part] for part in parts)
            if self.unfolded[node] > MOST_NODES:
                self._refuse(node, f"more than {MOST_NODES} values, aliases unfolded")
        return cast(yaml.Node, node)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Return a value. Raises: ConstructorError: of another kind than configuration holds, or not of its kind."""
        kind = node.tag.removeprefix("tag:yaml.org,2002:")
        if kind not in self.KINDS:
            self._refuse(node, f"a value of kind {kind[:20]!r}, which configuration does not hold; quote a text")
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, OverflowError, AttributeError):  # PyYAML's, of `!!int ''` and its like
            self._refuse(node, f"{str(node.value)[:20]!r} is not of kind {kind}")

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Return a mapping's node. Raises: ConstructorError: a key twice, or one that is no word."""
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            scalar = isinstance(key, yaml.ScalarNode) and key.tag.endswith((":str", ":merge"))
            word = scalar and key.value.isprintable()
            if not word or key.value in seen:
                name = repr(key.value) if isinstance(key.value, str) else "a key"
                self._refuse(key, f"{name} occurs twice" if word else f"{name} is no word to name a key; quote it")
            seen.add(key.value)
        return node

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        """Return a number. Raises: ConstructorError: NaN, infinite or larger than any setting can be."""
        whole = node.tag.endswith(":int")
        value = self.construct_yaml_int(node) if whole else self.construct_yaml_float(node)
        if not abs(value) <= LARGEST:  # NaN neither
            self._refuse(node, f"{node.value[:20]} is not a number that a setting can have")
        return value

    def _refuse(self, node: yaml.Node, problem: str) -> NoReturn:
        raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


for _kind in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _Loader.construct_number)


def _entries(node: yaml.Node) -> list[tuple[yaml.Node, ...]]:
    """Return the entries of a node: pairs of a mapping, items of a list, none of a scalar."""
    found = node.value if isinstance(node, yaml.CollectionNode) else []
    return [entry if isinstance(entry, tuple) else (entry,) for entry in found]


def _mapping(path: Path) -> Given:
    document = _raw_yaml(path)
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: holds no mapping of keys to values; restore it from the repository")
    return document


def _raw_yaml(path: Path) -> Any:
    try:
        return copy.deepcopy(_parsed(read_regular(path, MOST_BYTES)))
    except FileNotFoundError:
        raise ConfigError(f"{path}: does not exist; restore it from the repository") from None
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror or error}); restore it from the repository"
        ) from None
    except RecursionError:
        raise ConfigError(f"{path}: is nested too deeply to be configuration; restore it from the repository") from None
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        place = getattr(error, "problem_mark", None)
        line = f" in line {place.line + 1}" if place else ""
        problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise ConfigError(f"{path}: is not valid YAML{line} ({problem}); correct it") from None


@functools.lru_cache(maxsize=32)
def _parsed(text: str) -> Any:
    """Return what a text of YAML holds; one that was read before, in whatever file, is not parsed again."""
    return yaml.load(text, _Loader)


class Lock(Typed):
    """What `abi pin` found: the backbones of a scale, and its data sets by their id."""

    backbones: dict[str, Snapshot] = {}
    sources: dict[str, Snapshot] = {}


def read_lock(path: Path) -> Lock:
    """Return the lock of a scale, an empty one where there is none. Raises: ConfigError: it is none."""
    if not path.exists():
        return Lock()
    try:
        return Lock.model_validate(_raw_yaml(path))
    except ValidationError:
        raise ConfigError(f"{path}: is no lock of `abi pin`; delete it and pin again") from None


def _apply_lock(scale: Given, path: Path) -> Given:
    """Put what a lock pins into a scale, whose own form is valid; a revision of the scale's own is not replaced."""
    lock = read_lock(path)
    for name, found in lock.backbones.items():
        if hub := scale["backbones"].get(name, {}).get("hub"):
            _pin(hub, found)
    for place in (place for places in scale["sources"].values() for place in places):
        if place.get("id") in lock.sources:
            _pin(place, lock.sources[place["id"]])
    return scale


def _pin(given: Given, found: Snapshot) -> None:
    if given.get("revision") in {UNPINNED, found.revision}:
        given.update(found.plain())
