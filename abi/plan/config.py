"""The whole configuration of one scale, validated: claims in all their regimes, scale, protocol."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from abi.base.errors import ConfigError
from abi.base.files import ROOT
from abi.plan.checks import ARMS, EXPANDED, LADDERS, NAME, REQUIRED_ARMS, STUDIES, check_all, check_keys
from abi.plan.yaml_files import (
    UNPINNED,
    closest,
    merge,
    read_scale,
    read_yaml,
    record_claims,
    require_pinned,
    rule_names,
    scales,
    unpinned,
)

__all__ = [
    "ARMS", "NAME", "REQUIRED_ARMS", "UNPINNED", "Config", "closest", "load", "merge", "read_scale", "read_yaml", "record_claims",
    "require_pinned", "rule_names", "scales", "unpinned", "workflow_config",
]  # fmt: skip


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
        check_keys(claim_id, claim)
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
    check_all(config)
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


def workflow_config(given: Mapping[str, Any]) -> str:
    """Return the scale's name from Snakemake's config. Raises: ConfigError: a key that is none."""
    unknown = [key for key in given if key != "scale"]
    if unknown:
        raise ConfigError(f"config: unknown key {unknown[0]!r}{closest(unknown[0], ['scale'])} (valid: scale)")
    return str(given.get("scale", "tiny"))
