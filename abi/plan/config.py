"""The whole configuration of one scale, validated: claims in all their regimes, scale, protocol."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from abi.base.catalogue import REGIMES
from abi.base.errors import ConfigError
from abi.base.files import ROOT
from abi.plan.checks import check_claims, check_headline, check_scale
from abi.plan.claims import Claim, Claims, FittedClaim
from abi.plan.faults import Faults, closest
from abi.plan.kinds import claims_model, kinds
from abi.plan.scale import Scale
from abi.plan.specs.judge import ClaimSaid, LadderClaim, Protocol, StudyClaim
from abi.plan.yaml_files import read_scale, read_yaml, require_pinned, scales

__all__ = ["Config", "load", "read_scale", "require_pinned", "scales", "workflow_config"]


@dataclass(frozen=True)
class Config:
    """The whole configuration of one scale, validated: claims, scale, protocol, and where it was read.

    `claims` holds one entry per verdict: a transfer stands once per regime, the first under its own id, the others as
    `<id>_<regime>` with `of`. `studies` holds claims made of several studies, `ladders` claims about other claims,
    `pending` what this scale cannot run, and `headline` the claims that the page `headline` counts.
    """

    root: Path
    name: str
    claims: dict[str, FittedClaim]
    studies: dict[str, StudyClaim]
    ladders: dict[str, LadderClaim]
    pending: dict[str, ClaimSaid]
    headline: tuple[str, ...]
    scale: Scale
    protocol: Protocol

    def seeds(self, claim: str) -> int:
        """Return how many seeds a claim gets at this scale."""
        return min((self.claims | self.studies)[claim].seeds, self.scale.max_seeds)

    def every(self) -> dict[str, Claim]:
        """Return all claims of this scale: with their own evidence first, then those about others."""
        return {**self.claims, **self.studies, **self.ladders}

    def closed_form_seeds(self, claim: str) -> int:
        """Return how many seeds the closed form of a claim gets at this scale: at least those of its gradient fits."""
        entry = self.claims[claim]
        wanted = (entry.closed_form_seeds or 0) if REGIMES[entry.regime].closed_form else 0
        return max(self.seeds(claim), min(wanted, self.scale.max_seeds))

    def published(self) -> list[str]:
        """Return the claims a headline counts: those of the record; without one, every claim under its own id."""
        every = self.every()
        known = [claim_id for claim_id, claim in every.items() if claim.record.claim is not None]
        return known or [claim_id for claim_id, claim in every.items() if getattr(claim, "of", None) is None]


def load(name: str, root: Path = ROOT) -> Config:
    """Return the configuration of a scale.

    Raises: ConfigError: unknown scale; every unknown or missing key and wrong value; every name that nothing defines.
    """
    given, scale, protocol = _files(name, root / "config")
    config = Config(root, name, {}, {}, {}, {}, tuple(given.headline), scale, protocol)
    faults = Faults(scale)
    check_scale(faults, f"config/scales/{name}.yaml")
    _sort(given, config, faults)
    faults.fitted, faults.studied = list(config.claims), list(config.studies)
    check_claims(config.every(), root, faults)
    check_headline(given, config.published(), faults)
    faults.raise_all()
    return config


def _files(name: str, folder: Path) -> tuple[Claims, Scale, Protocol]:
    """Return claims, scale and protocol. Raises: ConfigError: with the faults of all three files."""
    found: list[Any] = []
    told: list[str] = []
    for read in (
        lambda: read_yaml(folder / "claims.yaml", claims_model()),
        lambda: read_scale(name, folder / "scales"),
        lambda: read_yaml(folder / "protocol.yaml", Protocol),
    ):
        try:
            found.append(read())
        except ConfigError as error:
            told.append(str(error))
    if told:
        raise ConfigError("\n".join(told))
    claims, scale, protocol = found
    return claims, scale, protocol


def _sort(given: Claims, config: Config, faults: Faults) -> None:
    """Put every claim where its kind belongs: one entry per verdict."""
    tables: dict[str, dict[str, Any]] = {"claim": config.claims, "studies": config.studies, "ladder": config.ladders}
    for claim_id, claim in given.claims.items():
        jobs = kinds()[claim.kind].jobs
        jobs.check_given(claim, f"config/claims.yaml: claims.{claim_id}", faults)
        if config.name not in (claim.scales or [config.name]):
            config.pending[claim_id] = claim
        else:
            tables[jobs.form] |= jobs.entries(claim_id, claim, given.regimes)


def workflow_config(given: Mapping[str, Any]) -> str:
    """Return the scale's name from Snakemake's config. Raises: ConfigError: a key that is none."""
    unknown = [key for key in given if key != "scale"]
    if unknown:
        raise ConfigError(f"config: unknown key {unknown[0]!r}{closest(unknown[0], ['scale'])} (valid: scale)")
    return str(given.get("scale", "tiny"))
