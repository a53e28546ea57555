"""YAML -> validated configuration; one sentence per fault, naming file, key and the closest valid one."""

import copy
import difflib
import functools
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import yaml

from abi.errors import ConfigError
from abi.provenance import ROOT, SCHEMAS, validator
from abi.vocabulary import ASIDE

UNPINNED = "unpinned"
NAME = re.compile(r"[a-z][a-z0-9_]*")
"""What may name a backbone, a text or a module: it becomes part of a path and a wildcard of the workflow."""
LARGEST = 10**12
SOURCE_KEYS = {
    "package": ("package", "version"),
    "metadata": ("packages", "part_bytes"),
    "folder": ("path",),
    "hub": ("id", "revision"),
    "grammar": ("name", "seed", "documents", "groups", "lines_per_document"),
}
REGIMES = ("oracle-kd", "few-shot", "general-only")
CORE = ("transferred", "random", "permuted", "no-domain", "linear", "bias")
# What the judge of each way of measuring reads (protocol sections 2 and 4), and what else it can fit.
REQUIRED_ARMS = {
    "oracle-kd": ("native", *CORE),
    "few-shot": ("native", *CORE),
    "general-only": CORE,
    "reconstruction": ("candidate", "random", "linear"),
}
ARMS = {
    "oracle-kd": (*REQUIRED_ARMS["oracle-kd"], "identity", "published", "unfrozen", "direct", "wrong-domain", "lora"),
    "few-shot": (*REQUIRED_ARMS["few-shot"], "identity", "unfrozen", "direct", "wrong-domain", "lora"),
    "general-only": (*CORE, "unfrozen"),
    "reconstruction": REQUIRED_ARMS["reconstruction"],
}


@dataclass(frozen=True)
class Config:
    """The whole configuration of one scale, validated: claims, scale, protocol, and where it was read.

    `claims` holds one entry per verdict: a transfer claim stands once per regime, the first under its own id, the others as
    `<id>_<regime>` with `of: <id>`. `studies` holds the kinds made of several studies (update, succession, scaling law, atlas),
    `ladders` claims about several others; `pending` what this scale cannot run;
    `headline` the claims that the page `headline` counts.
    """

    root: Path
    name: str
    claims: dict[str, dict[str, Any]]
    studies: dict[str, dict[str, Any]]
    ladders: dict[str, dict[str, Any]]
    pending: dict[str, dict[str, Any]]
    headline: tuple[str, ...]
    scale: dict[str, Any]
    protocol: dict[str, Any]

    def seeds(self, claim: str) -> int:
        """Return how many seeds a claim gets at this scale."""
        return min(int((self.claims | self.studies)[claim]["seeds"]), int(self.scale["max_seeds"]))

    def every(self) -> dict[str, dict[str, Any]]:
        """Return all claims of this scale: with their own evidence first, then those about others."""
        return self.claims | self.studies | self.ladders

    def closed_form_seeds(self, claim: str) -> int:
        """Return how many seeds the closed form of a claim gets at this scale: at least those of its gradient fits."""
        entry = self.claims[claim]
        wanted = 0 if entry["regime"] == "few-shot" else int(entry.get("closed_form_seeds", 0))
        return max(self.seeds(claim), min(wanted, int(self.scale["max_seeds"])))

    def published(self) -> list[str]:
        """Return the claims a headline counts: those of the record, ladders among them; without one, every own claim."""
        every = self.every()
        known = [claim_id for claim_id, claim in every.items() if "claim" in claim["record"]]
        return known or [claim_id for claim_id, claim in every.items() if "of" not in claim]


def load(name: str, root: Path = ROOT) -> Config:
    """Return the configuration of a scale.

    Raises: ConfigError: unknown scale, unknown or missing key, wrong value, or a name that nothing defines.
    """
    folder = root / "config"
    given = read_yaml(folder / "claims.yaml", "claims")
    here = {key: claim for key, claim in given["claims"].items() if name in claim.get("scales", [name])}
    for claim_id, claim in given["claims"].items():
        _check_keys(claim_id, claim)
    claims = {
        key: entry
        for claim_id, claim in here.items()
        if claim["kind"] in EXPANDED
        for key, entry in _expanded(claim_id, claim, given["regimes"]).items()
    }
    config = Config(
        root=root, name=name, claims=claims,
        studies={key: _with_file(key, claim) for key, claim in here.items() if claim["kind"] in STUDIES},
        ladders={key: _with_file(key, claim) for key, claim in here.items() if claim["kind"] in LADDERS},
        pending={key: claim for key, claim in given["claims"].items() if key not in here},
        headline=tuple(given["headline"]),
        scale=read_scale(name, folder / "scales"), protocol=read_yaml(folder / "protocol.yaml", "protocol"),
    )  # fmt: skip
    _check_scale(config.scale, f"config/scales/{name}.yaml")
    if not claims:
        raise ConfigError("config/claims.yaml: claims: holds no claim; add one (CONTRIBUTING.md shows how)")
    for claim_id, claim in config.every().items():
        _check_identity(claim_id, claim, config)
    for claim_id, claim in claims.items():
        _check_claim(claim_id, claim, config)
    for claim_id, claim in config.studies.items():
        _check_study(claim_id, claim, config)
    _check_ladders(config)
    for claim_id in config.headline:
        what = f"claim of scale {name} that the record holds (`record.claim`)"
        _known(claim_id, config.published(), "config/claims.yaml: headline", what)
    files: dict[str, str] = {}
    for claim_id, claim in config.every().items():
        other = files.setdefault(claim["record"]["result_file"], claim_id)
        if other != claim_id:
            raise ConfigError(
                f"config/claims.yaml: claims.{claim_id}.record.result_file is already that of {other}; give it its own name"
            )
    return config


def _with_file(claim_id: str, claim: Mapping[str, Any]) -> dict[str, Any]:
    """Return a claim whose record names its result file: its id where the original has none."""
    return {**claim, "record": {"result_file": f"{claim_id}.json", **claim.get("record", {})}}


def _expanded(claim_id: str, claim: Mapping[str, Any], regimes: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return id -> entry of a claim: one per regime of a transfer, with the arms that regime is given for free."""
    if claim["kind"] == "reconstruction":
        return {claim_id: {**_with_file(claim_id, claim), "regime": "reconstruction"}}
    extra = claim.get("extra_arms", {})
    for key in ("extra_arms", "variants"):
        unused = next((regime for regime in claim.get(key, {}) if regime not in claim["regimes"]), None)
        if unused:
            raise ConfigError(
                f"config/claims.yaml: claims.{claim_id}.{key}: {unused!r} is not among its regimes; add it there or remove it"
            )
    common = {
        key: value
        for key, value in claim.items()
        if key not in {"regimes", "extra_arms", "variants", "record", "scales"}
    }
    entries = {}
    for regime in claim["regimes"]:
        given, own = regimes[regime], regime == claim["regimes"][0]
        key = claim_id if own else f"{claim_id}_{regime.replace('-', '_')}"
        record = claim.get("record", {}) if own else {}
        entry = {**common, "regime": regime, "fit": given["fit"], "sees": given["sees"], "record": record}
        entry["arms"] = list(dict.fromkeys([*given["arms"], *extra.get(regime, [])]))
        entry["variants"] = claim.get("variants", {}).get(regime, [])
        if not own:
            entry |= {"of": claim_id, "title": f"{claim['title']}, {regime}"}
        entries[key] = _with_file(key, entry)
    return entries


KEYS = {  # kind -> keys it needs, keys it may have
    "transfer": (
        {"text", "source", "target", "module", "regimes", "seeds"},
        {"extra_arms", "variants", "closed_form_seeds"},
    ),
    "reconstruction": (
        {"text", "source", "target", "module", "reference_module", "fit", "arms", "seeds"},
        {"closed_form_seeds"},
    ),
    "ladder": ({"rungs"}, set()),
    "aggregate": ({"rungs", "checks"}, set()),
    "update": ({"update", "texts", "seeds"}, {"generation"}),
    "succession": ({"update", "texts", "seeds"}, set()),
    "scaling_law": ({"updates", "texts", "calibrated_by", "seeds"}, set()),
    "atlas": ({"backbone", "module", "shared", "texts", "seeds"}, {"mixture"}),
}
EXPANDED, LADDERS = ("transfer", "reconstruction"), ("ladder", "aggregate")
STUDIES = ("update", "succession", "scaling_law", "atlas")


def _check_keys(claim_id: str, claim: Mapping[str, Any]) -> None:
    """Raise ConfigError for a key that a claim's kind lacks or does not know."""
    needed, allowed = KEYS[claim["kind"]]
    where, common = f"config/claims.yaml: claims.{claim_id}", {"title", "statement", "kind", "record", "scales"}
    kind, missing = with_article(claim["kind"]), sorted(needed - set(claim))
    if missing:
        raise ConfigError(f"{where}: {kind} needs {missing[0]!r}; add it")
    unknown = sorted(set(claim) - needed - allowed - common)
    if unknown:
        raise ConfigError(
            f"{where}: {kind} has no {unknown[0]!r}{closest(unknown[0], needed | allowed)}; remove it or change `kind`"
        )


def _check_ladders(config: Config) -> None:
    for claim_id, claim in config.ladders.items():
        for rung in claim["rungs"]:
            others = config.claims if claim["kind"] == "ladder" else config.claims | config.studies
            _known(rung, others, f"config/claims.yaml: claims.{claim_id}.rungs", "claim of this scale")


def _check_study(claim_id: str, claim: Mapping[str, Any], config: Config) -> None:
    """Raise ConfigError for a text, update, module or budget that a claim of several studies names and the scale lacks."""
    where, scale = f"config/claims.yaml: claims.{claim_id}", config.scale
    for text in claim["texts"]:
        _known(text, scale["texts"], f"{where}.texts", f"text of scale {config.name}")
    updates = [claim["update"]] if "update" in claim else claim.get("updates", [])
    for name in updates:
        _known(name, scale.get("updates", {}), f"{where}.update", f"update of scale {config.name}")
        for text in claim["texts"]:
            _known(text, scale["updates"][name]["holds"], f"{where}.texts", f"text that update {name} holds")
    if claim["kind"] == "scaling_law":
        fit = claim["calibrated_by"]
        _known(fit, scale["calibration"], f"{where}.calibrated_by", f"calibration of scale {config.name}")
        if "budgets" not in scale["calibration"][fit]:
            raise ConfigError(
                f"{where}.calibrated_by: calibration.{fit} of scale {config.name} has no `budgets`; add them"
            )
    if claim["kind"] == "atlas":
        _known(claim["backbone"], scale["backbones"], f"{where}.backbone", f"backbone of scale {config.name}")
        _known(claim["module"], scale["modules"], f"{where}.module", f"module of scale {config.name}")
        _check_module(claim["module"], scale, claim["backbone"], f"{where}.module")
        for text in [claim["shared"], *claim.get("mixture", [])]:
            _known(text, claim["texts"], f"{where}.texts", "text of this atlas")


def workflow_config(given: Mapping[str, Any]) -> str:
    """Return the scale's name from Snakemake's config. Raises: ConfigError: a key that is none."""
    unknown = [key for key in given if key != "scale"]
    if unknown:
        raise ConfigError(f"config: unknown key {unknown[0]!r}{closest(unknown[0], ['scale'])} (valid: scale)")
    return str(given.get("scale", "tiny"))


def require_pinned(scale: Mapping[str, Any], name: str) -> None:
    """Raise ConfigError where something of a scale was never pinned: nothing is downloaded at a moving revision."""
    missing = unpinned(scale)
    if missing:
        raise ConfigError(
            f"config/scales/{name}.yaml: no pinned revision of {', '.join(missing)}; go online and run `abi pin --scale {name}` once"
        )


def scales(root: Path = ROOT) -> list[str]:
    """Return the names of the scales there are."""
    return sorted(p.stem for p in (root / "config" / "scales").glob("*.yaml") if not p.stem.endswith(".lock"))


def read_scale(name: str, folder: Path) -> dict[str, Any]:
    """Return a scale merged over what it extends and with the revisions of its lock file, validated."""
    names = sorted(p.stem for p in folder.glob("*.yaml") if not p.stem.endswith(".lock"))
    if name not in names:
        raise ConfigError(f"config/scales: no scale {name!r}{closest(name, names)}; scales: {', '.join(names)}")
    scale = _mapping(folder / f"{name}.yaml")
    chain = [name]
    while "extends" in scale:
        base = scale.pop("extends")
        if base not in names or base in chain:
            raise ConfigError(
                f"config/scales/{chain[-1]}.yaml: extends {base!r}, which is not another scale; scales: {', '.join(names)}"
            )
        chain.append(base)
        scale = merge(_mapping(folder / f"{base}.yaml"), scale)
    _check_schema(scale, "scale", f"config/scales/{name}.yaml")
    lock = folder / f"{name}.lock.yaml"
    return _apply_lock(scale, _raw_yaml(lock), lock) if lock.exists() else scale


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with the keys of `over` put over it, mappings merged at every level."""
    out = copy.deepcopy(dict(base))
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(out.get(key), Mapping)
        out[key] = merge(out[key], value) if both else copy.deepcopy(value)
    return out


def read_yaml(path: Path, schema: str) -> dict[str, Any]:
    """Return a YAML file validated against a schema of `workflow/schemas`."""
    document = _raw_yaml(path)
    _check_schema(document, schema, f"{path.parent.name}/{path.name}")
    return document


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
        if name in scale["backbones"] and "hub" in scale["backbones"][name]:
            scale["backbones"][name]["hub"]["revision"] = revision
    for place in (place for places in scale["sources"].values() for place in places):
        if place.get("id") in sources:
            place["revision"] = sources[place["id"]]
    return scale


def unpinned(scale: Mapping[str, Any]) -> list[str]:
    """Return what of a scale has no pinned revision yet."""
    backbones = [name for name, b in scale["backbones"].items() if b.get("hub", {}).get("revision") == UNPINNED]
    sources = [
        place["id"] for places in scale["sources"].values() for place in places if place.get("revision") == UNPINNED
    ]
    return backbones + sources


def record_claims(root: Path) -> list[str]:
    """Return the ids of the claims of the published record."""
    path = root / "config" / "record" / "published.json"
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["entries"]
        return list(dict.fromkeys(entry["claim"] for entry in entries.values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{path}: is not the record ({error}); restore it from the repository") from None


def closest(name: str, valid: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the closest valid name, or nothing."""
    near = difflib.get_close_matches(str(name), list(valid), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


def with_article(words: str) -> str:
    """Return words after `a` or `an`."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _check_schema(document: Any, schema: str, where: str) -> None:
    from jsonschema.exceptions import best_match

    errors = list(validator(schema).iter_errors(document))
    if not errors:
        return
    error = next((e for e in errors if e.validator == "additionalProperties"), None) or best_match(errors)
    while error.context:
        error = best_match(error.context)
    place = ".".join(str(part) for part in error.absolute_path)
    if error.validator == "additionalProperties" and isinstance(error.instance, dict):
        valid = list(error.schema.get("properties", {}))
        unknown = next(key for key in error.instance if key not in valid)
        raise ConfigError(
            f"{where}: unknown key {unknown!r}{f' in {place}' if place else ''}{closest(unknown, valid)} (valid: {', '.join(valid)})"
        )
    raise ConfigError(
        f"{where}: {place or 'the file'}: {error.message[:160]} (see {SCHEMAS.name}/{schema}.schema.yaml)"
    )


def _known(name: str, valid: Iterable[str], where: str, what: str) -> None:
    names = list(valid)
    if name not in names:
        raise ConfigError(
            f"{where}: {name!r} is not {with_article(what)}{closest(name, names)} (valid: {', '.join(names)})"
        )


@functools.cache
def rule_names() -> frozenset[str]:
    """Return the names of the workflow's rules."""
    files = [ROOT / "workflow" / "Snakefile", *sorted((ROOT / "workflow" / "rules").glob("*.smk"))]
    return frozenset(name for file in files for name in re.findall(r"^rule (\w+):", file.read_text(), re.MULTILINE))


def _check_names(scale: Mapping[str, Any], where: str) -> None:
    if f"{scale['scale']}.yaml" != where.rpartition("/")[2]:
        raise ConfigError(f"{where}: scale: is {scale['scale']!r}; write the name of the file")
    for kind in ("backbones", "texts", "modules", "updates"):
        for name in scale.get(kind, {}):
            if not NAME.fullmatch(name):
                raise ConfigError(f"{where}: {kind}.{name}: may hold a to z, 0 to 9 and _ only; rename it")
    for rule in scale["jobs"]["resources"]:
        _known(rule, ["default", *sorted(rule_names())], f"{where}: jobs.resources", "rule of the workflow")


def _check_source(place: Mapping[str, Any], where: str) -> None:
    missing = [key for key in SOURCE_KEYS[place["kind"]] if not place.get(key)]
    if missing:
        raise ConfigError(f"{where}: a source of kind {place['kind']} needs {missing[0]!r}; add it")
    try:
        re.compile(place.get("heading", ""))
    except re.error as error:
        raise ConfigError(f"{where}.heading: is no regular expression ({error}); correct it") from None


def _check_split(split: Mapping[str, float], where: str) -> None:
    if abs(sum(split.values()) - 1) > 1e-9:
        raise ConfigError(f"{where}: the shares sum to {sum(split.values())}, not to 1; correct them")


def _check_window(backbone: Mapping[str, Any], where: str) -> None:
    window = backbone["window"]
    positions = window["length"] - (window["prefix"] or 1)
    if window["skip"] >= positions:
        raise ConfigError(f"{where}.window: skip {window['skip']} leaves none of {positions} positions; lower it")
    keywords = backbone.get("build", {}).get("config", {})
    limit = keywords.get("n_positions", keywords.get("max_position_embeddings"))
    longest = max(window["prefix"], window["length"] - window["prefix"])
    if isinstance(limit, int) and longest > limit and backbone["build"]["model_type"] != "t5":
        raise ConfigError(
            f"{where}.window: {longest} tokens are more than the {limit} positions of the model; lower `length`"
        )


def _check_draws(evaluation: Mapping[str, Any], where: str) -> None:
    seeds = evaluation["rng_seeds"]
    if min(seeds, default=-1) < 0 or len(set(seeds)) < len(seeds) or len(seeds) * evaluation["n_chunks"] < 2:
        raise ConfigError(
            f"{where}: evaluation.rng_seeds: {seeds} are not two or more draws of different seeds from 0; correct them"
        )


def _check_scale(scale: Mapping[str, Any], where: str) -> None:
    _check_names(scale, where)
    _check_draws(scale["evaluation"], where)
    for name, places in scale["sources"].items():
        for i, place in enumerate(places):
            _check_source(place, f"{where}: sources.{name}.{i}")
    _check_split(scale["split"], f"{where}: split")
    for name, text in scale["texts"].items():
        _check_split(text.get("split", scale["split"]), f"{where}: texts.{name}.split")
        _known(text["sources"], scale["sources"], f"{where}: texts.{name}.sources", "source of this scale")
    _known(scale["alignment"]["text"], scale["texts"], f"{where}: alignment.text", "text of this scale")
    for name, backbone in scale["backbones"].items():
        _check_window(backbone, f"{where}: backbones.{name}")
        if "build" in backbone:
            _known(
                backbone["build"]["text"], scale["texts"], f"{where}: backbones.{name}.build.text", "text of this scale"
            )
    for name, update in scale.get("updates", {}).items():
        _check_update(update, scale, f"{where}: updates.{name}")
    for name, fit in scale["calibration"].items():
        looked = fit.get("budgets", {"steps": []})["steps"]
        if looked != sorted(looked):
            raise ConfigError(f"{where}: calibration.{name}.budgets.steps: {looked} do not ascend; sort them")
        steps = {form: sum(p["steps"] for p in phases) for form, phases in fit["phases"].items()}
        if len(set(steps.values())) > 1:
            raise ConfigError(
                f"{where}: calibration.{name}.phases: arms must share one number of steps, not {steps}; make them equal"
            )


def _check_update(update: Mapping[str, Any], scale: Mapping[str, Any], where: str) -> None:
    """Raise ConfigError for a backbone, text or module that an update names and the scale lacks."""
    _known(update["backbone"], scale["backbones"], f"{where}.backbone", "backbone of this scale")
    _known(update["module"], scale["modules"], f"{where}.module", "module of this scale")
    for key in ("text", "holds"):
        for text in [update[key]] if key == "text" else update[key]:
            _known(text, scale["texts"], f"{where}.{key}", "text of this scale")
    _check_module(update["module"], scale, update["backbone"], f"{where}.module")


def _check_identity(claim_id: str, claim: Mapping[str, Any], config: Config) -> None:
    """Raise ConfigError for an id, a result file or a claim of the record that a claim or ladder cannot have."""
    where = f"config/claims.yaml: claims.{claim_id}"
    if claim_id in rule_names():
        raise ConfigError(f"{where}: is the name of a rule of the workflow; give the claim another id")
    if claim["record"]["result_file"] in ASIDE:
        raise ConfigError(f"{where}.record.result_file: {claim['record']['result_file']} is another file; rename it")
    if "claim" in claim["record"]:
        _known(claim["record"]["claim"], record_claims(config.root), f"{where}.record.claim", "claim of the record")


def _check_claim(claim_id: str, claim: Mapping[str, Any], config: Config) -> None:
    where, scale = f"config/claims.yaml: claims.{claim_id}", config.scale
    for role in ("source", "target"):
        _known(claim[role], scale["backbones"], f"{where}.{role}", f"backbone of scale {config.name}")
    _known(claim["text"], scale["texts"], f"{where}.text", f"text of scale {config.name}")
    _known(claim["fit"], scale["calibration"], f"{where}.fit", f"calibration of scale {config.name}")
    for arm in claim["arms"]:
        _known(arm, ARMS[claim["regime"]], f"{where}.arms", f"arm of {claim['regime']}")
    for variant in claim.get("variants", []):
        known = scale["calibration"][claim["fit"]].get("variants", {})
        _known(variant, known, f"{where}.variants", f"variant of calibration.{claim['fit']}")
    missing = [arm for arm in REQUIRED_ARMS[claim["regime"]] if arm not in claim["arms"]]
    if missing:
        raise ConfigError(
            f"{where}.arms: lacks the control arm {missing[0]!r}, without which there is no verdict; add it"
        )
    for form in ("linear", "bias", "lora"):
        if form in claim["arms"] and form not in scale["calibration"][claim["fit"]]["phases"]:
            raise ConfigError(f"{where}.arms: calibration.{claim['fit']}.phases of the scale has no {form!r}; add it")
    same = claim["source"] == claim["target"]
    if same != (claim["kind"] == "reconstruction"):
        rule = "needs one backbone as source and target" if not same else "needs two different backbones"
        raise ConfigError(f"{where}: a {claim['kind']} {rule}; change `kind`, `source` or `target`")
    for key in ("module", "reference_module"):
        if key in claim:
            _known(claim[key], scale["modules"], f"{where}.{key}", f"module of scale {config.name}")
            for role in ("source", "target"):
                _check_module(claim[key], scale, claim[role], f"{where}.{key}")


def _check_module(name: str, scale: Mapping[str, Any], backbone: str, where: str) -> None:
    module, definition = scale["modules"][name], scale["backbones"][backbone]
    stored = {*definition["taps"], "final"}
    missing = [tap for tap in module["taps"] if tap not in stored]
    if missing:
        raise ConfigError(
            f"{where}: module {name!r} reads tap {missing[0]}, which {backbone} does not store; add it to backbones.{backbone}.taps"
        )
    config = definition.get("build", {}).get("config", {})
    width = config.get("d_model") or config.get("n_embd") or config.get("hidden_size")
    if isinstance(width, int) and module["d_abi"] > width * len(module["taps"]):
        limit = f"{width} wide states of {len(module['taps'])} taps give at most {width * len(module['taps'])}"
        raise ConfigError(
            f"{where}: d_abi {module['d_abi']} of module {name!r} is too large for {backbone}: {limit}; lower it"
        )
