"""YAML files of `config/`: read, merged, validated by their models; one sentence per fault."""

import copy
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from abi.base.errors import ConfigError
from abi.base.files import ROOT
from abi.plan.faults import closest, sentences
from abi.plan.scale import Scale

LARGEST = 10**12
M = TypeVar("M", bound=BaseModel)


def require_pinned(scale: Scale, name: str) -> None:
    """Raise ConfigError where something of a scale was never pinned: nothing is downloaded at a moving revision."""
    missing = scale.unpinned()
    if missing:
        raise ConfigError(
            f"config/scales/{name}.yaml: no pinned revision of {', '.join(missing)}; go online and run "
            f"`abi pin --scale {name}` once"
        )


def scales(root: Path = ROOT) -> list[str]:
    """Return the names of the scales there are."""
    return sorted(p.stem for p in (root / "config" / "scales").glob("*.yaml") if not p.stem.endswith(".lock"))


def read_scale(name: str, folder: Path) -> Scale:
    """Return a scale merged over what it extends and with the revisions of its lock file."""
    names = sorted(p.stem for p in folder.glob("*.yaml") if not p.stem.endswith(".lock"))
    if name not in names:
        raise ConfigError(f"config/scales: no scale {name!r}{closest(name, names)}; scales: {', '.join(names)}")
    scale = _mapping(folder / f"{name}.yaml")
    chain = [name]
    while "extends" in scale:
        base = scale.pop("extends")
        if base not in names or base in chain:
            raise ConfigError(
                f"config/scales/{chain[-1]}.yaml: extends {base!r}, which is not another scale; "
                f"scales: {', '.join(names)}"
            )
        chain.append(base)
        scale = merge(_mapping(folder / f"{base}.yaml"), scale)
    where, lock = f"config/scales/{name}.yaml", folder / f"{name}.lock.yaml"
    read = valid(scale, Scale, where)
    return valid(_apply_lock(scale, _raw_yaml(lock), lock), Scale, where) if lock.exists() else read


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with the keys of `over` put over it, mappings merged at every level."""
    out = copy.deepcopy(dict(base))
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(out.get(key), Mapping)
        out[key] = merge(out[key], value) if both else copy.deepcopy(value)
    return out


def read_yaml(path: Path, model: type[M]) -> M:
    """Return what a YAML file holds. Raises: ConfigError: with every fault of the file."""
    return valid(_raw_yaml(path), model, f"{path.parent.name}/{path.name}")


def valid(document: object, model: type[M], where: str) -> M:
    """Return a document as its model. Raises: ConfigError: with a sentence per fault, one per line."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise ConfigError("\n".join(sentences(error, model, where))) from None


class _Loader(yaml.SafeLoader):
    """YAML as configuration needs it: keys are words and stand once, numbers are finite and of a sane size."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Return a mapping's node. Raises: ConstructorError: a key twice, or one that is no word."""
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            word = key.tag.endswith((":str", ":merge")) and key.value.isprintable()
            if not word or key.value in seen:
                name = repr(key.value) if isinstance(key.value, str) else "a key"
                self._refuse(key, f"{name} occurs twice" if word else f"{name} is no word to name a key; quote it")
            seen.add(key.value)
        return node

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        """Return a number. Raises: ConstructorError: NaN, infinite or larger than any setting can be."""
        whole = node.tag.endswith(":int")
        value = self.construct_yaml_int(node) if whole else self.construct_yaml_float(node)
        if not math.isfinite(value) or abs(value) > LARGEST:
            self._refuse(node, f"{node.value[:20]} is not a number that a setting can have")
        return value

    def _refuse(self, node: yaml.Node, problem: str) -> NoReturn:
        raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


for _kind in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _Loader.construct_number)


def _mapping(path: Path) -> dict[str, Any]:
    document = _raw_yaml(path)
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: holds no mapping of keys to values; restore it from the repository")
    return document


def _raw_yaml(path: Path) -> Any:
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        raise ConfigError(f"{path}: does not exist; restore it from the repository") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); restore it from the repository") from None
    except RecursionError:
        raise ConfigError(f"{path}: is nested too deeply to be configuration; restore it from the repository") from None
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        place = getattr(error, "problem_mark", None)
        line = f" in line {place.line + 1}" if place else ""
        raise ConfigError(f"{path}: is not valid YAML{line} ({getattr(error, 'problem', error)}); correct it") from None


def _apply_lock(scale: dict[str, Any], lock: Any, path: Path) -> dict[str, Any]:
    """Put the revisions of a lock (`backbones: {name: revision}`, `sources: {id: revision}`) into a scale."""
    tables = [lock.get(key, {}) for key in ("backbones", "sources")] if isinstance(lock, dict) else []
    pins = [pin for table in tables if isinstance(table, dict) for pin in table.values()]
    good = all(isinstance(pin, str) and re.fullmatch("[0-9a-f]{40}", pin) for pin in pins)
    if not good or [type(table) for table in tables] != [dict, dict] or set(lock) - {"backbones", "sources"}:
        raise ConfigError(f"{path}: is no lock of `abi pin`; delete it and pin again")
    backbones, sources = tables
    for name, revision in backbones.items():
        entry = scale["backbones"].get(name)
        hub = entry.get("hub") if isinstance(entry, dict) else None
        if isinstance(hub, dict):
            hub["revision"] = revision
    for place in (place for places in scale["sources"].values() for place in places):
        if place.get("id") in sources:
            place["revision"] = sources[place["id"]]
    return scale
