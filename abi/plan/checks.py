"""What a configuration must hold besides its schemas: names that exist, arms that a judge reads, budgets that are equal."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from abi.base.errors import ConfigError
from abi.base.names import ASIDE, written_variants
from abi.plan.yaml_files import closest, record_claims, require_known, rule_names, with_article

NAME = re.compile(r"[a-z][a-z0-9_]*")
"""What may name a backbone, a text or a module: it becomes part of a path and a wildcard of the workflow."""
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


class Settings(Protocol):
    """The configuration of one scale, as `config.Config` holds it."""

    @property
    def root(self) -> Path:
        """Return where `config/` lies."""

    @property
    def name(self) -> str:
        """Return the scale."""

    @property
    def claims(self) -> dict[str, dict[str, Any]]:
        """Return claims with evidence of their own."""

    @property
    def studies(self) -> dict[str, dict[str, Any]]:
        """Return claims made of several studies."""

    @property
    def ladders(self) -> dict[str, dict[str, Any]]:
        """Return claims about other claims."""

    @property
    def headline(self) -> tuple[str, ...]:
        """Return the claims of the headline."""

    @property
    def scale(self) -> dict[str, Any]:
        """Return the scale's settings."""

    def every(self) -> dict[str, dict[str, Any]]:
        """Return all claims of this scale."""

    def published(self) -> list[str]:
        """Return the claims a headline counts."""


def check_all(config: Settings) -> None:
    """Raise ConfigError for the first thing that a configuration names and nothing defines, or that cannot be judged."""
    _check_scale(config.scale, f"config/scales/{config.name}.yaml")
    if not config.claims:
        raise ConfigError("config/claims.yaml: claims: holds no claim; add one (CONTRIBUTING.md shows how)")
    for claim_id, claim in config.every().items():
        _check_identity(claim_id, claim, config)
    for claim_id, claim in config.claims.items():
        _check_claim(claim_id, claim, config)
    for claim_id, claim in config.studies.items():
        _check_study(claim_id, claim, config)
    _check_ladders(config)
    for claim_id in config.headline:
        what = f"claim of scale {config.name} that the record holds (`record.claim`)"
        require_known(claim_id, config.published(), "config/claims.yaml: headline", what)
    files: dict[str, str] = {}
    for claim_id, claim in config.every().items():
        other = files.setdefault(claim["record"]["result_file"], claim_id)
        if other != claim_id:
            raise ConfigError(
                f"config/claims.yaml: claims.{claim_id}.record.result_file is already that of {other}; give it its own name"
            )


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
    "scaling_law": ({"updates", "texts", "calibrated_by", "formula", "seeds"}, set()),
    "atlas": ({"backbone", "module", "shared", "texts", "seeds"}, {"mixture"}),
}
EXPANDED, LADDERS = ("transfer", "reconstruction"), ("ladder", "aggregate")
STUDIES = ("update", "succession", "scaling_law", "atlas")


def check_keys(claim_id: str, claim: Mapping[str, Any]) -> None:
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


def _check_ladders(config: Settings) -> None:
    for claim_id, claim in config.ladders.items():
        for rung in claim["rungs"]:
            others = config.claims if claim["kind"] == "ladder" else config.claims | config.studies
            require_known(rung, others, f"config/claims.yaml: claims.{claim_id}.rungs", "claim of this scale")


def _check_study(claim_id: str, claim: Mapping[str, Any], config: Settings) -> None:
    """Raise ConfigError for a text, update, module or budget that a claim of several studies names and the scale lacks."""
    where, scale = f"config/claims.yaml: claims.{claim_id}", config.scale
    for text in claim["texts"]:
        require_known(text, scale["texts"], f"{where}.texts", f"text of scale {config.name}")
    updates = [claim["update"]] if "update" in claim else claim.get("updates", [])
    for name in updates:
        require_known(name, scale.get("updates", {}), f"{where}.update", f"update of scale {config.name}")
        for text in claim["texts"]:
            require_known(text, scale["updates"][name]["holds"], f"{where}.texts", f"text that update {name} holds")
    if claim["kind"] == "scaling_law":
        fit = claim["calibrated_by"]
        require_known(fit, scale["calibration"], f"{where}.calibrated_by", f"calibration of scale {config.name}")
        if "budgets" not in scale["calibration"][fit]:
            raise ConfigError(
                f"{where}.calibrated_by: calibration.{fit} of scale {config.name} has no `budgets`; add them"
            )
    if claim["kind"] == "atlas":
        require_known(claim["backbone"], scale["backbones"], f"{where}.backbone", f"backbone of scale {config.name}")
        require_known(claim["module"], scale["modules"], f"{where}.module", f"module of scale {config.name}")
        _check_module(claim["module"], scale, claim["backbone"], f"{where}.module")
        for text in [claim["shared"], *claim.get("mixture", [])]:
            require_known(text, claim["texts"], f"{where}.texts", "text of this atlas")


def _check_names(scale: Mapping[str, Any], where: str) -> None:
    if f"{scale['scale']}.yaml" != where.rpartition("/")[2]:
        raise ConfigError(f"{where}: scale: is {scale['scale']!r}; write the name of the file")
    for kind in ("backbones", "texts", "modules", "updates"):
        for name in scale.get(kind, {}):
            if not NAME.fullmatch(name):
                raise ConfigError(f"{where}: {kind}.{name}: may hold a to z, 0 to 9 and _ only; rename it")
    for rule in scale["jobs"]["resources"]:
        require_known(rule, ["default", *sorted(rule_names())], f"{where}: jobs.resources", "rule of the workflow")


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
        require_known(text["sources"], scale["sources"], f"{where}: texts.{name}.sources", "source of this scale")
    require_known(scale["alignment"]["text"], scale["texts"], f"{where}: alignment.text", "text of this scale")
    for name, backbone in scale["backbones"].items():
        _check_window(backbone, f"{where}: backbones.{name}")
        if "build" in backbone:
            require_known(
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
    require_known(update["backbone"], scale["backbones"], f"{where}.backbone", "backbone of this scale")
    require_known(update["module"], scale["modules"], f"{where}.module", "module of this scale")
    for key in ("text", "holds"):
        for text in [update[key]] if key == "text" else update[key]:
            require_known(text, scale["texts"], f"{where}.{key}", "text of this scale")
    _check_module(update["module"], scale, update["backbone"], f"{where}.module")


def _check_identity(claim_id: str, claim: Mapping[str, Any], config: Settings) -> None:
    """Raise ConfigError for an id, a result file or a claim of the record that a claim or ladder cannot have."""
    where = f"config/claims.yaml: claims.{claim_id}"
    if claim_id in rule_names():
        raise ConfigError(f"{where}: is the name of a rule of the workflow; give the claim another id")
    if claim["record"]["result_file"] in ASIDE:
        raise ConfigError(f"{where}.record.result_file: {claim['record']['result_file']} is another file; rename it")
    if "claim" in claim["record"]:
        require_known(
            claim["record"]["claim"], record_claims(config.root), f"{where}.record.claim", "claim of the record"
        )


def _check_claim(claim_id: str, claim: Mapping[str, Any], config: Settings) -> None:
    where, scale = f"config/claims.yaml: claims.{claim_id}", config.scale
    for role in ("source", "target"):
        require_known(claim[role], scale["backbones"], f"{where}.{role}", f"backbone of scale {config.name}")
    require_known(claim["text"], scale["texts"], f"{where}.text", f"text of scale {config.name}")
    require_known(claim["fit"], scale["calibration"], f"{where}.fit", f"calibration of scale {config.name}")
    for arm in claim["arms"]:
        require_known(arm, ARMS[claim["regime"]], f"{where}.arms", f"arm of {claim['regime']}")
    for variant in claim.get("variants", []):
        known = scale["calibration"][claim["fit"]].get("variants", {})
        require_known(variant, known, f"{where}.variants", f"variant of calibration.{claim['fit']}")
    for variant in written_variants(claim, scale["calibration"][claim["fit"]].get("variants", {})):
        _check_written(claim, variant, scale, where)
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
            require_known(claim[key], scale["modules"], f"{where}.{key}", f"module of scale {config.name}")
            for role in ("source", "target"):
                _check_module(claim[key], scale, claim[role], f"{where}.{key}")


def _check_written(claim: Mapping[str, Any], variant: str, scale: Mapping[str, Any], where: str) -> None:
    """Raise a ConfigError where a source cannot write its own lesson."""
    if claim["regime"] != "general-only":
        raise ConfigError(
            f"{where}.variants: {variant!r} is on written text, which general-only alone has; take it out"
        )
    if "written" not in scale["calibration"][claim["fit"]]:
        raise ConfigError(
            f"{where}.variants: {variant!r} needs calibration.{claim['fit']}.written of the scale; add it"
        )
    if scale["backbones"][claim["source"]]["window"]["prefix"]:
        raise ConfigError(
            f"{where}.variants: {variant!r} needs a decoder that writes, and {claim['source']} is an encoder-decoder; take it out"
        )


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
