"""What a configuration must hold besides its models: names that exist, budgets that are equal, shares that sum to 1."""

import functools
import json
import re
from collections.abc import Mapping
from pathlib import Path

from abi.base.errors import ConfigError
from abi.base.files import ROOT
from abi.base.names import ASIDE
from abi.plan.claims import Claim, Claims
from abi.plan.faults import Faults
from abi.plan.kinds import kinds
from abi.plan.scale import Scale
from abi.plan.specs.arms import EvaluationSection, FitSection
from abi.plan.specs.models import BackboneSection
from abi.plan.specs.shared import Shares
from abi.plan.specs.studies import UpdateSection


def check_scale(faults: Faults, where: str) -> None:
    """Tell what a scale names and does not define, and what of it cannot be used together."""
    scale = faults.scale
    if f"{scale.scale}.yaml" != where.rpartition("/")[2]:
        faults.tell(f"{where}: scale: is {scale.scale!r}; write the name of the file")
    for rule in scale.jobs.resources:
        faults.known(rule, ["default", *sorted(rule_names())], f"{where}: jobs.resources", "rule of the workflow")
    _check_draws(scale.evaluation, where, faults)
    for name, hub in ((name, place) for name, places in scale.sources.items() for place in enumerate(places)):
        _check_heading(getattr(hub[1], "heading", None), f"{where}: sources.{name}.{hub[0]}.heading", faults)
    _check_shares(scale.split, f"{where}: split", faults)
    for name, text in scale.texts.items():
        if text.split is not None:
            _check_shares(text.split, f"{where}: texts.{name}.split", faults)
        faults.known(text.sources, scale.sources, f"{where}: texts.{name}.sources", "source of this scale")
    faults.known(scale.alignment.text, scale.texts, f"{where}: alignment.text", "text of this scale")
    for name, backbone in scale.backbones.items():
        _check_window(backbone, f"{where}: backbones.{name}", faults)
        if backbone.build is not None:
            at = f"{where}: backbones.{name}.build.text"
            faults.known(backbone.build.text, scale.texts, at, "text of this scale")
    for name, update in scale.updates.items():
        _check_update(update, scale, f"{where}: updates.{name}", faults)
    for name, fit in scale.calibration.items():
        _check_fit(fit, f"{where}: calibration.{name}", faults)


def _check_heading(pattern: str | None, where: str, faults: Faults) -> None:
    try:
        re.compile(pattern or "")
    except re.error as error:
        faults.tell(f"{where}: is no regular expression ({error}); correct it")


def _check_shares(shares: Shares, where: str, faults: Faults) -> None:
    total = sum(shares.of().values())
    if abs(total - 1) > 1e-9:
        faults.tell(f"{where}: the shares sum to {total}, not to 1; correct them")


def _check_window(backbone: BackboneSection, where: str, faults: Faults) -> None:
    window, build = backbone.window, backbone.build
    positions = window.length - (window.prefix or 1)
    if window.skip >= positions:
        faults.tell(f"{where}.window: skip {window.skip} leaves none of {positions} positions; lower it")
    keywords = build.config if build else {}
    limit = keywords.get("n_positions", keywords.get("max_position_embeddings"))
    longest = max(window.prefix, window.length - window.prefix)
    if build is not None and isinstance(limit, int) and longest > limit and build.model_type != "t5":
        faults.tell(
            f"{where}.window: {longest} tokens are more than the {limit} positions of the model; lower `length`"
        )


def _check_draws(evaluation: EvaluationSection, where: str, faults: Faults) -> None:
    seeds = evaluation.rng_seeds
    if min(seeds, default=-1) < 0 or len(set(seeds)) < len(seeds) or len(seeds) * evaluation.n_chunks < 2:
        faults.tell(
            f"{where}: evaluation.rng_seeds: {seeds} are not two or more draws of different seeds from 0; correct them"
        )


def _check_update(update: UpdateSection, scale: Scale, where: str, faults: Faults) -> None:
    faults.known(update.backbone, scale.backbones, f"{where}.backbone", "backbone of this scale")
    for key, texts in (("text", [update.text]), ("holds", update.holds)):
        for text in texts:
            faults.known(text, scale.texts, f"{where}.{key}", "text of this scale")
    faults.module(update.module, update.backbone, f"{where}.module", "module of this scale")


def _check_fit(fit: FitSection, where: str, faults: Faults) -> None:
    if "module" not in fit.phases:
        faults.tell(f"{where}.phases: needs 'module'; add it")
    looked = fit.budgets.steps if fit.budgets else []
    if looked != sorted(looked):
        faults.tell(f"{where}.budgets.steps: {looked} do not ascend; sort them")
    steps = {form: fit.steps_of(form) for form in fit.phases}
    if len(set(steps.values())) > 1:
        faults.tell(f"{where}.phases: arms must share one number of steps, not {steps}; make them equal")


def check_claims(every: Mapping[str, Claim], root: Path, faults: Faults) -> None:
    """Tell which entries of `config/claims.yaml` cannot be built at a scale."""
    files: dict[str, str] = {}
    for claim_id, claim in every.items():
        # A fault of a claim is told once, not in each of its regimes.
        where, file = f"config/claims.yaml: claims.{getattr(claim, 'of', None) or claim_id}", claim.record.result_file
        if claim_id in rule_names():
            faults.tell(f"{where}: is the name of a rule of the workflow; give the claim another id")
        if file in ASIDE:
            faults.tell(f"{where}.record.result_file: {file} is another file; rename it")
        if claim.record.claim is not None:
            faults.known(claim.record.claim, record_claims(root), f"{where}.record.claim", "claim of the record")
        other = files.setdefault(file, claim_id)
        if other != claim_id:
            faults.tell(f"{where}.record.result_file is already that of {other}; give it its own name")
        kinds()[claim.kind].jobs.check(claim, where, faults)


def check_headline(given: Claims, published: list[str], faults: Faults) -> None:
    """Tell what a headline cannot count, and what no transfer can be measured with."""
    for regime, section in given.regimes.every().items():
        faults.arms(section.arms, regime, f"config/claims.yaml: regimes.{regime}.arms")
    if not given.claims:
        faults.tell("config/claims.yaml: claims: holds no claim; add one (CONTRIBUTING.md shows how)")
        return
    for claim_id in given.headline:
        what = f"claim of scale {faults.scale.scale} that the record holds (`record.claim`)"
        faults.known(claim_id, published, "config/claims.yaml: headline", what)


@functools.cache
def rule_names() -> frozenset[str]:
    """Return the names of the workflow's rules."""
    files = [ROOT / "workflow" / "Snakefile", *sorted((ROOT / "workflow" / "rules").glob("*.smk"))]
    return frozenset(name for file in files for name in re.findall(r"^rule (\w+):", file.read_text(), re.MULTILINE))


def record_claims(root: Path) -> list[str]:
    """Return the ids of the claims of the published record."""
    path = root / "config" / "record" / "published.json"
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["entries"]
        return list(dict.fromkeys(entry["claim"] for entry in entries.values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{path}: is not the record ({error}); restore it from the repository") from None
