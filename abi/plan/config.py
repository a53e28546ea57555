"""The whole configuration of one scale, validated: claims in all their regimes, scale, protocol."""

import functools
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from abi.base.errors import ConfigError
from abi.base.files import ROOT, checkout, scales
from abi.base.names import ASIDE
from abi.base.regimes import EXPERIMENT, KINDS, REGIMES
from abi.base.typed import Typed
from abi.base.wording import closest
from abi.plan import DEFAULT
from abi.plan.faults import Faults, check_scale, rule_names, scored
from abi.plan.kinds import claims_model, kinds
from abi.plan.kinds.base import Claims, FittedClaim
from abi.plan.scale import Scale
from abi.plan.specs.judge import ClaimSaid, DoseClaim, LadderClaim, Protocol, StudyClaim
from abi.plan.yaml_files import read_scale, read_yaml

SCHEMAS = "workflow/schemas"
MAKE_WORDS = frozenset(
    {"test", "quick", "durations", "kills", "lint", "setup", "verify", "smoke", "benchmarks", "site", "lock", "docs"}
    | {"clean", "replicates"}
)
"""Words of the Makefile that no claim may take: `make <claim>` would do something else.

`reproduce` is a word of it and a claim of the original; `snakemake reproduce` builds the claim.
"""
Claim = FittedClaim | StudyClaim | LadderClaim | DoseClaim


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
    ladders: dict[str, LadderClaim | DoseClaim]
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

    def backbones(self, claims: Collection[str] = ()) -> set[str]:
        """Return the backbones that a run of some claims (of all, if none are given) needs: those they name, themselves
        or by an update.
        """
        named = self._named(claims)
        updated = {update.backbone for name, update in self.scale.updates.items() if name in named}
        return {name for name in self.scale.backbones if name in named | updated}

    def texts(self, claims: Collection[str] = ()) -> set[str]:
        """Return the texts that such a run needs: of its claims, of what is built or updated for them."""
        named, scale = self._named(claims), self.scale
        built = {made.text for name in self.backbones(claims) if (made := scale.backbones[name].build)}
        updated = {text for name, one in scale.updates.items() if name in named for text in (one.text, *one.holds)}
        return {name for name in scale.texts if name in named | built | updated | {scale.alignment.text}}

    def _named(self, claims: Collection[str]) -> set[str]:
        """Return the words of some claims or all, among them the names of what they need; a ladder has its rungs'."""
        every = self.every()
        rungs = {rung for name in claims if name in self.ladders for rung in self.ladders[name].rungs if rung in every}
        asked = [claim for name, claim in every.items() if not claims or name in {*claims, *rungs}]
        return set(_words([claim.plain() for claim in asked]))

    def require_inputs(self, targets: Collection[str] = ()) -> None:
        """Raise ConfigError, before anything runs, for terms that are not accepted and folders that hold nothing.

        Args: targets: where all are claims, only what they need is looked at.
        """
        claims = self._meant(targets)
        self.scale.require_backbones(self.backbones(claims))
        self.scale.require_texts(self.texts(claims))

    def require_pinned(self, targets: Collection[str] = ()) -> None:
        """Raise ConfigError for what was never pinned of what a run needs. Args: targets: as of `require_inputs`."""
        claims = self._meant(targets)
        self.scale.require_pinned(self.backbones(claims), self.texts(claims))

    def _meant(self, targets: Collection[str]) -> Collection[str]:
        """Return the claims that targets mean, or none, which stands for all, where other targets are among them."""
        every = self.every()
        asked = [name for target in targets for name in (self.headline if target == "headline" else (target,))]
        return asked if all(name in every for name in asked) else ()

    def require_targets(self, targets: Iterable[str]) -> None:
        """Raise ConfigError for a target that is neither a claim nor a rule; a path may be any file of the workflow."""
        valid = [*self.every(), *self.pending, *sorted(rule_names())]
        for target in targets:
            if "/" not in target and target not in valid and not (target and Path(target).exists()):
                raise self.no_claim(target, valid)

    def no_claim(self, target: str, valid: Iterable[str]) -> ConfigError:
        """Return the error that says that a target is no claim, and which of the valid ones is nearest."""
        others = (name for name in scales(self.root / "config/scales") if name != self.name)
        if there := [name for name in others if target in claims_at(name, self.root)]:
            return ConfigError(f"{target!r} is no claim of scale {self.name}; it runs at {_named(there)}")
        listed = "`abi claims`" if self.name == DEFAULT else f"`abi claims --scale {self.name}`"
        return ConfigError(f"{target!r} is no claim of scale {self.name}{closest(target, valid)}; {listed} lists them")

    def closed_form_seeds(self, claim: str) -> int:
        """Return how many seeds a claim gets at this scale with those that its closed form alone has."""
        entry = self.claims.get(claim)
        more = (entry.closed_form_seeds or 0) if entry and REGIMES[entry.regime].closed_form else 0
        return max(self.seeds(claim), min(more, self.scale.max_seeds))

    def elsewhere(self, claim_id: str) -> str:
        """Return in words where a pending claim runs."""
        scales = self.pending[claim_id].scales
        return f"runs at {_named(scales)} only" if scales else f"is not among the claims of scale {self.name}"

    def published(self) -> list[str]:
        """Return the claims a headline counts: those of the record; without one, every claim in every regime.

        Experiments have a page of their own and are counted by none.
        """
        every = {claim_id: claim for claim_id, claim in self.every().items() if claim.kind != EXPERIMENT}
        known = [claim_id for claim_id, claim in every.items() if claim.record.claim is not None]
        return known or list(every)


def claims_at(name: str, root: Path) -> Collection[str]:
    """Return the claims of a scale, none of one that is not valid: what is asked is about another."""
    try:
        return load(name, root).every()
    except ConfigError:
        return ()


def _named(scales: Sequence[str]) -> str:
    """Return scales by name, in words."""
    return f"scale{'s' if len(scales) > 1 else ''} {', '.join(scales)}"


def load(name: str, root: Path | None = None) -> Config:
    """Return the configuration of a scale. Args: root: the folder of `config/`, None for the checkout that is meant.

    Raises: ConfigError: unknown scale; every unknown or missing key and wrong value; every name that nothing defines.
    """
    root = (root or checkout()).absolute()  # the record is read later, perhaps from another folder
    require_checkout(root)
    given, scale, protocol = _files(name, root / "config")
    config = Config(root, name, {}, {}, {}, {}, tuple(scale.headline or given.headline), scale, protocol)
    faults = Faults(scale, config.claims, config.studies, config.pending, config.ladders)
    check_scale(faults, f"config/scales/{name}.yaml")
    _sort(given, config, faults)
    _check_claims(config, faults)
    _check_headline(given, config, faults)
    _check_protocol(config, faults)
    if faults.sentences:
        raise ConfigError("\n".join(faults.sentences))
    return config


def require_checkout(root: Path) -> None:
    """Raise ConfigError where a folder is no checkout: there is none, and this code was installed without one."""
    if not (root / "config").is_dir():
        raise ConfigError(f"{Path.cwd()}: is no checkout of abi, which has a folder config/; run the command in one")


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
    """Put every claim where it belongs: one entry per verdict."""
    tables: Any = {"claim": config.claims, "studies": config.studies, "ladder": config.ladders}
    owners = dict[str, str]()
    for claim_id, claim in given.claims.items():
        jobs = kinds()[claim.kind].jobs
        jobs.check_given(claim, f"config/claims.yaml: claims.{claim_id}", faults)
        where = f"config/claims.yaml: claims.{claim_id}.scales"
        for name in claim.scales or ():
            faults.known(name, scales(config.root / "config" / "scales"), where, "scale of config/scales")
        entries = jobs.entries(claim_id, claim, given.regimes)
        for target in entries:
            if owners.setdefault(target, claim_id) != claim_id:
                words = f"its target {target!r} is that of {owners[target]} too; rename one"
                faults.tell(f"config/claims.yaml: claims.{claim_id}: {words}")
        if not config.scale.runs(claim_id, claim.scales) or _of_others(config.scale, entries):
            config.pending[claim_id] = claim
            continue
        form = KINDS[claim.kind].form if claim.kind in KINDS else "studies"  # of a kind that its two files alone make
        tables[form].update(entries)


def _of_others(scale: Scale, entries: Mapping[str, ClaimSaid]) -> bool:
    """Return whether a replicate would build a claim on the same models again: only others could pretrain them anew."""
    named = set(_words([entry.plain() for entry in entries.values()])) if scale.replicate else set()
    return any(backbone.build is None for name, backbone in scale.backbones.items() if name in named)


def targets_of_claim(given: Claims, claim_id: str) -> list[str]:
    """Return the targets of a claim: its id, and one for each of its other regimes."""
    claim = given.claims[claim_id]
    return [*kinds()[claim.kind].jobs.entries(claim_id, claim, given.regimes)]


def _check_claims(config: Config, faults: Faults) -> None:
    """Tell which claims cannot be built at a scale. A fault of a claim is told once, not in each of its regimes."""
    files: dict[str, str] = {}
    of_record: dict[str, str] = {}
    known = functools.cache(lambda: _record_claims(config.root))  # a configuration may do without the record
    for claim_id, claim in config.every().items():
        where, file = f"config/claims.yaml: claims.{getattr(claim, 'of', None) or claim_id}", claim.record.result_file
        if claim_id in rule_names():
            faults.tell(f"{where}: is the name of a rule of the workflow; give the claim another id")
        if claim_id in MAKE_WORDS:
            faults.tell(f"{where}: is a word of the Makefile; give the claim another id")
        if (ROOT / claim_id).exists():
            faults.tell(f"{where}: `make {claim_id}` would find the folder of that name; give the claim another id")
        if file in ASIDE:
            faults.tell(f"{where}.record.result_file: {file} is another file; rename it")
        if claim.record.claim is not None:
            faults.known(claim.record.claim, known(), f"{where}.record.claim", "claim of the record")
            same = of_record.setdefault(claim.record.claim, claim_id)
            if same != claim_id:
                faults.tell(f"{where}.record.claim is already that of {same}; take it out of one")
        other = files.setdefault(file, claim_id)
        if other != claim_id:
            faults.tell(f"{where}.record.result_file is already that of {other}; give it its own name")
        kinds()[claim.kind].jobs.check(claim, where, faults)


def _check_headline(given: Claims, config: Config, faults: Faults) -> None:
    """Tell which claims a scale names that are none, what a headline cannot count, and what no transfer measures."""
    for regime, section in given.regimes.every().items():
        faults.arms(section.arms, regime, f"config/claims.yaml: regimes.{regime}.arms")
    if not given.claims:
        faults.tell("config/claims.yaml: claims: holds no claim; add one (CONTRIBUTING.md shows how)")
        return
    scale = f"config/scales/{config.name}.yaml"
    for claim_id in config.scale.claims or ():
        if faults.known(claim_id, given.claims, f"{scale}: claims", "claim of config/claims.yaml"):
            scales = given.claims[claim_id].scales or [config.name]
            if config.name not in scales:
                faults.tell(
                    f"{scale}: claims: {claim_id!r} names other scales ({', '.join(scales)}); add this one there"
                )
    if config.scale.claims and not config.scale.headline and {*config.headline} - {*config.published()}:
        some = ", ".join(config.published())
        mend = f"give `headline`, some of {some}" if some else "add a claim of the record, and name it in `headline`"
        faults.tell(f"{scale}: has `claims` and no `headline`; {mend}")
        return
    where = f"{scale}: headline" if config.scale.headline else "config/claims.yaml: headline"
    for claim_id in config.headline:
        what = f"claim of scale {config.name} that the record holds (`record.claim`)"
        faults.known(claim_id, config.published(), where, what)


def few_groups(config: Config) -> list[str]:
    """Return which texts of a scale's claims may be made with fewer test groups than an interval needs, in words."""
    needed, texts = config.protocol.criteria.min_groups, config.scale.texts
    given = {
        f"texts.{name}.{key}": (n, what)
        for name in config.texts()
        for key, n, what in (
            ("min_test_groups", texts[name].min_test_groups, "test groups"),
            ("max_windows.test", texts[name].max_windows.test, "windows of as many test groups at most"),
        )
    }
    words = f"give no interval and so no verdict; write {needed}"
    return [f"{where}: {n} {what} {words}" for where, (n, what) in given.items() if n < needed]


def _check_protocol(config: Config, faults: Faults) -> None:
    """Tell which texts and windows of a scale's claims give less than the protocol asks for."""
    where, scale, needed = f"config/scales/{config.name}.yaml", config.scale, config.protocol.criteria.min_positions
    if not scale.meaningless:
        for sentence in few_groups(config):
            faults.tell(f"{where}: {sentence}, or set `meaningless: true`")
    told = set[str]()
    for claim_id, claim in {**config.claims, **config.studies}.items():
        named = {str(text) for text in (getattr(claim, "text", ""), *getattr(claim, "texts", ()), scale.alignment.text)}
        for name in config.backbones([claim_id]) - told:
            positions = scored(scale.backbones[name])
            for text in (text for text in scale.texts if text in named and positions > 0):
                windows = min(scale.texts[text].max_windows.test, scale.texts[text].max_windows_per_document.test)
                if windows * positions < needed and name not in told:
                    told.add(name)
                    words = f"{windows} windows of {positions} scored positions are all of a test document of {text}"
                    faults.tell(
                        f"{where}: backbones.{name}.window: {words}, and the protocol asks for {needed}; lower `skip`, "
                        f"or raise `length` or texts.{text}.max_windows_per_document"
                    )


def _record_claims(root: Path) -> list[str]:
    """Return the ids of the claims of the published record."""
    path = root / "config" / "record" / "published.json"
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["entries"]
        return list(dict.fromkeys(entry["claim"] for entry in entries.values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{path}: is not the record ({error}); restore it from the repository") from None


def _words(value: object) -> Iterator[str]:
    """Yield every text among the values of nested lists and mappings."""
    if isinstance(value, str):
        yield value
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    for part in parts:
        yield from _words(part)


def targets_of(words: Sequence[str]) -> list[str]:
    """Return what a call of Snakemake asks for: the words after `--`; none where it names its targets without it.

    Snakemake reads the rules before it tells what it was asked for.
    """
    return [*words[words.index("--") + 1 :]] if "--" in words else []


def workflow_config(given: Mapping[str, object]) -> str:
    """Return the scale's name from Snakemake's config. Raises: ConfigError: a key that is none."""
    unknown = [key for key in given if key != "scale"]
    if unknown:
        raise ConfigError(f"config: unknown key {unknown[0]!r}{closest(unknown[0], ['scale'])} (valid: scale)")
    return str(given.get("scale", DEFAULT))


def models() -> dict[str, type[Typed]]:
    """Return configuration file -> its model."""
    return {"config/claims.yaml": claims_model(), "config/scales/<scale>.yaml": Scale, "config/protocol.yaml": Protocol}


def schema_files() -> dict[str, str]:
    """Return path from the repository root -> text of the JSON Schema of every model, for editors and other tools."""
    found = {}
    for name, (file, model) in zip(("claims", "scale", "protocol"), models().items(), strict=True):
        schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **model.model_json_schema(), "title": file}
        found[f"{SCHEMAS}/{name}.schema.json"] = json.dumps(schema, indent=1) + "\n"
    return found
