"""`config/scales/<scale>.yaml`: how much of everything there is."""

import os
from collections.abc import Collection, Iterator
from importlib import metadata
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from abi.base.compute import Device, Precision
from abi.base.errors import ConfigError
from abi.base.files import sha256_json, sha256_once
from abi.base.model_folders import folder_hash
from abi.base.typed import Count, Positive, Typed
from abi.plan.specs.arms import AlignmentSection, BudgetName, EvaluationSection, FitSection
from abi.plan.specs.experiments import CodeSection
from abi.plan.specs.models import BackboneSection, FoundModel, LocalModel, ModuleSection, PortableSection
from abi.plan.specs.shared import Names, Pinned, Shares
from abi.plan.specs.studies import UpdateSection
from abi.plan.specs.text import Folder, HubData, Metadata, Package, Source, TextSection

Name = Annotated[str, Field(pattern="^[a-z][a-z0-9_]*$")]
"""What may name a backbone, a text or a module: it becomes part of a path and a wildcard of the workflow."""
UNPINNED = "unpinned"
GrowingKey = Literal["mem_mb", "runtime"]
"""Resources of which a job that is tried again asks for more."""


def files_hash(source: Folder) -> str:
    """Return the beginning of a hash of the files that a source takes from its folder, "" where they cannot be listed.

    Its job then says what is wrong with the folder or the pattern.
    """
    root = Path(os.path.expanduser(source.path))
    try:
        files = [path for path in root.glob(source.pattern) if path.is_file()]
        return sha256_json({path.relative_to(root).as_posix(): sha256_once(path) for path in files})[:12]
    except (OSError, ValueError, NotImplementedError):
        return ""


def _not_installed(source: Source) -> Iterator[str]:
    """Yield which packages of a source are not installed at their version, and what to run."""
    asked = {source.package: source.version} if isinstance(source, Package) else {}
    for package, version in (source.packages if isinstance(source, Metadata) else asked).items():
        advice = f"run `pip install {package}=={version}`, or correct its entry"
        try:
            found = metadata.version(package)
        except (metadata.PackageNotFoundError, ValueError):
            yield f"{package} is not installed; {advice}"
        else:
            if found != version:
                yield f"{package} is installed as {found}, not as {version}; {advice}"


class SeedsPerJob(Typed):
    """Seeds that share one job (saves imports on a laptop; 1 on a cluster)."""

    modules: Positive
    """seeds per training job"""
    alignments: Positive
    """seeds per alignment job"""
    calibration: Positive
    """seeds per calibration job"""
    evaluation: Positive
    """seeds per evaluation job"""
    updates: Positive
    """seeds per job that updates, reads or evaluates updated backbones"""


class Resources(Typed):
    """What a job may use."""

    mem_mb: Annotated[int, Field(ge=100)]
    """memory in MB"""
    runtime: Positive
    """minutes"""
    threads: Positive
    """threads; figures are reproducible bit for bit at one number of threads"""
    gpu: Count
    """GPUs asked of a cluster"""


class Ceiling(Typed):
    """What a job asks for at most, however often it was tried."""

    mem_mb: Positive | None = None
    """memory in MB: what the largest node has"""
    runtime: Positive | None = None
    """minutes: what the partition allows"""


class JobsSection(Typed):
    """How work is cut into jobs."""

    seeds_per_job: SeedsPerJob
    """seeds that share one job (saves imports on a laptop; 1 on a cluster)"""
    resources: dict[str, Resources]
    """rule -> resources, `default` for the rest"""
    ceiling: Ceiling = Ceiling()
    """what a job asks for at most, however often it was tried; no ceiling by default"""

    def of(self, rule: str) -> Resources:
        """Return what a rule's jobs ask for at their first attempt."""
        return self.resources.get(rule, self.resources["default"])

    def growing(self, key: GrowingKey, amount: int, attempt: int, *, least: int = 0) -> int:
        """Return what a job asks for at an attempt, from 1: as much again as at the one before, up to the ceiling.

        Args: amount: at the first attempt; least: what it needs in any case, above the ceiling, too.
        """
        most: int | None = getattr(self.ceiling, key)
        grown = amount * attempt
        return max(grown if most is None else min(grown, most), least)


class RuleCompute(Typed):
    """Where a rule's jobs compute, and in which precision."""

    device: Device = "cpu"
    """where jobs compute: cpu, cuda (cuda:1, ...), or auto: a card where there is one; outputs do not depend on it"""
    precision: Precision = "fp32"
    """in which frozen backbones run and their states are stored; `auto`: bf16 where the processor has it; all else is
    in fp32 or fp64"""

    @property
    def stored(self) -> dict[str, Precision]:
        """What stored states depend on; nothing in fp32, as before there was a choice."""
        return {} if self.precision == "fp32" else {"precision": self.precision}


class ComputeSection(RuleCompute):
    """Where jobs compute, and in which precision."""

    rules: dict[str, RuleCompute] = {}
    """rule -> its own, where it differs; a key that is not given is that of the scale"""

    @property
    def cards(self) -> list[str]:
        """The CUDA devices that are asked for by name."""
        asked = dict.fromkeys([self.device, *(own.device for own in self.rules.values())])
        return [device for device in asked if device.startswith("cuda")]

    def of(self, rule: str) -> RuleCompute:
        """Return what holds for a rule."""
        own = self.rules.get(rule, RuleCompute())
        return RuleCompute(**(self.given("device", "precision") | own.given()))


class Scale(Typed):
    """A file of `config/scales`."""

    scale: Annotated[str, Field(pattern="^[a-z0-9_]+$")]
    """name of the scale; results go to results/<scale>"""
    extends: str | None = None
    """scale whose keys are the defaults of this one"""
    replicate: Count = 0
    """1, 2, ... in a scale that replicates the one it extends: the same, every built backbone from another pretraining
    seed (its own plus 1000 times this)"""
    description: str
    """one line"""
    meaningless: bool
    """whether verdicts are marked as meaningless (budgets too small to say anything)"""
    max_seeds: Positive
    """cap on the seeds of every claim"""
    claims: Names | None = None
    """claims that this scale runs (default: all that do not name other `scales`); the others are `pending`"""
    headline: Names | None = None
    """claims of its page `headline` (default: the `headline` of config/claims.yaml)"""
    sources: dict[str, Annotated[list[Source], Field(min_length=1)]]
    """name -> list of places text comes from"""
    split: Shares
    """share of groups per split; they sum to 1"""
    salt: str
    """mixed into the group hash that splits"""
    texts: dict[Name, TextSection]
    """name -> how a text is made"""
    backbones: dict[Name, BackboneSection]
    """name -> definition"""
    accepts: list[str] = []
    """licences of models that you have read and accept, each the word of its `licence.accept`"""
    modules: dict[Name, ModuleSection]
    """name -> shape and training"""
    portable: PortableSection
    """shape and training of the portable modules, and of their placebos (zero-text)"""
    updates: dict[Name, UpdateSection] = {}
    """name -> how a backbone is updated on general text; the result is a backbone like any other"""
    alignment: AlignmentSection
    """how spaces are aligned"""
    calibration: dict[BudgetName, FitSection]
    """fit -> budget shared by all arms of a pair and seed"""
    evaluation: EvaluationSection
    """how evidence is made"""
    code: CodeSection = CodeSection()
    """how much code is generated where an experiment asks for it"""
    jobs: JobsSection
    """how work is cut into jobs"""
    compute: ComputeSection = ComputeSection()
    """where jobs compute, and in which precision"""

    def runs(self, claim_id: str, scales: Collection[str] | None) -> bool:
        """Return whether this scale runs a claim. Args: scales: those that the claim names, None for every scale."""
        return self.scale in (scales or [self.scale]) and claim_id in (self.claims or [claim_id])

    def split_of(self, text: str) -> Shares:
        """Return the share of a text's groups per split: its own, or the scale's."""
        return self.texts[text].split or self.split

    def unpinned(self, backbones: Collection[str] | None = None, texts: Collection[str] | None = None) -> list[str]:
        """Return what of this scale has no pinned revision, or none of whose files is pinned.

        Args: backbones, texts: only these are looked at; all, if None.
        """
        hubs = {name: b.hub for name, b in self.backbones.items() if b.hub and (backbones is None or name in backbones)}
        data = self.hub_data(None if texts is None else self.named_sources(texts))
        taken: dict[str, Pinned] = {**hubs, **{one.id: one for one in data}}
        return [name for name, pinned in taken.items() if pinned.revision == UNPINNED or not pinned.files]

    def require_pinned(self, backbones: Collection[str] | None = None, texts: Collection[str] | None = None) -> None:
        """Raise ConfigError where something was never pinned: nothing is downloaded at a moving revision.

        Args: as of `unpinned`.
        """
        missing = self.unpinned(backbones, texts)
        if missing:
            raise ConfigError(
                f"config/scales/{self.scale}.yaml: no pinned revision of {', '.join(missing)}; go online and run "
                f"`abi pin --scale {self.scale}` once"
            )

    def require_backbones(self, used: Collection[str]) -> None:
        """Raise ConfigError where terms of a model that is used are not accepted, or its folder holds none."""
        where = f"config/scales/{self.scale}.yaml"
        for name, backbone in self.backbones.items():
            if name not in used:
                continue
            if backbone.wheel is not None and backbone.wheel.licence.accept not in (None, *self.accepts):
                licence = backbone.wheel.licence
                raise ConfigError(
                    f"{where}: backbones.{name}: {licence.name} must be accepted; read the terms in the wheel "
                    f"{licence.wheel or backbone.wheel.parts[0]} and add {licence.accept!r} to `accepts`"
                )
            if backbone.folder is not None:
                self.found(name, backbone.folder)

    def named_sources(self, texts: Collection[str]) -> list[str]:
        """Return the names of the sources that some texts are taken from."""
        return [*dict.fromkeys(text.sources for name, text in self.texts.items() if name in texts)]

    def require_texts(self, used: Collection[str]) -> None:
        """Raise ConfigError where a folder of text that is used is not there, or holds no file of its pattern."""
        for name in self.named_sources(used):
            where = f"config/scales/{self.scale}.yaml: sources.{name}"
            for place in (place for place in self.sources[name] if isinstance(place, Folder)):
                root = Path(os.path.expanduser(place.path))
                if not root.is_dir():
                    raise ConfigError(f"{where}: {root} is not a folder; correct `path`")
                try:
                    found = any(path.is_file() for path in root.glob(place.pattern))
                except (ValueError, NotImplementedError) as error:
                    words = f"pattern {place.pattern!r} cannot be used ({error}); correct it"
                    raise ConfigError(f"{where}: {words}") from None
                if not found:
                    raise ConfigError(f"{where}: {root} holds no file {place.pattern}; correct `path` or `pattern`")

    def not_installed(self, used: Collection[str]) -> list[str]:
        """Return which packages that texts are taken from are not installed here, in words. Args: used: the texts.

        Jobs may run in another environment than the one that asks, so it is for the caller to refuse.
        """
        where = f"config/scales/{self.scale}.yaml: sources"
        return [
            f"{where}.{name}: {said}"
            for name in self.named_sources(used)
            for place in self.sources[name]
            for said in _not_installed(place)
        ]

    def found(self, name: str, folder: LocalModel) -> FoundModel:
        """Return the folder of a backbone with the hash of its files as they are now. Raises: as `folder_hash`."""
        where = f"config/scales/{self.scale}.yaml: backbones.{name}.folder"
        return FoundModel(path=folder.path, sha256=folder_hash(folder.path, where))

    def sources_of(self, text: TextSection) -> list[Source]:
        """Return the sources of a text as they are now: an edit of a folder's files is another version of it."""
        return [
            source.model_copy(update={"version": f"{source.version} {files_hash(source)}".strip()})
            if isinstance(source, Folder)
            else source
            for source in self.sources[text.sources]
        ]

    def hub_data(self, sources: Collection[str] | None = None) -> list[HubData]:
        """Return the sources that are data sets of the hub. Args: sources: among these, all if None."""
        asked = [places for name, places in self.sources.items() if sources is None or name in sources]
        return [place for places in asked for place in places if isinstance(place, HubData)]
