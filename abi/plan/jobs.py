"""What every job of the DAG may ask, and what texts, backbones, states and native modules depend on.

A spec holds everything an output depends on and nothing else, so that one edit in `config/` reruns its own jobs only.
Every `*_spec` returns plain values, after the model of its rule (`abi/plan/specs`) has read them.
"""

import functools
from collections.abc import Iterable
from typing import Any

from abi.base.errors import ConfigError
from abi.base.files import sha256_file
from abi.plan.claims import Claim
from abi.plan.config import Config
from abi.plan.faults import closest
from abi.plan.paths import Needed, Paths
from abi.plan.scale import Resources
from abi.plan.specs.judge import SimulateStudies, Summarise
from abi.plan.specs.models import BuildBackbone, Shape, TrainModules, WriteStates
from abi.plan.specs.shared import Shares
from abi.plan.specs.text import BuildText, Selection

Plain = dict[str, Any]
"""A spec as it stands in `params` and in provenance."""
Inputs = dict[str, str | list[str]]


class Jobs(Paths):
    """The jobs of one configuration. Paths are relative to the working directory."""

    def __init__(self, config: Config) -> None:
        super().__init__(config.name)
        self.config, self.scale = config, config.scale

    def claim(self, claim_id: str) -> Claim:
        """Return a claim, one of several studies, or one about other claims.

        Raises: ConfigError: unknown, with the list of claims; or one that this scale cannot run.
        """
        claims = self.config.every()
        if claim_id in self.config.pending:
            scales = ", ".join(self.config.pending[claim_id].scales or ())
            raise ConfigError(f"claim {claim_id!r} is pending: it runs at scale {scales} only; choose that scale")
        if claim_id not in claims:
            raise ConfigError(f"no claim {claim_id!r}{closest(claim_id, claims)}; claims: {', '.join(claims)}")
        return claims[claim_id]

    def claim_of_file(self, result: str) -> str:
        """Return the claim id of a result file's stem."""
        every = self.config.every()
        return next(name for name, claim in every.items() if claim.record.result_file == f"{result}.json")

    def result_file(self, claim_id: str) -> str:
        """Return the path of a claim's result file."""
        return f"{self.results}/{self.claim(claim_id).record.result_file}"

    def result_files(self, claims: Iterable[str] | None = None) -> list[str]:
        """Return the result files of some claims, by default of all with arms of their own."""
        return [self.result_file(claim_id) for claim_id in (self.config.claims if claims is None else claims)]

    def study_files(self) -> list[str]:
        """Return the result files of the claims made of several studies."""
        return self.result_files(self.config.studies)

    def ladder_files(self) -> list[str]:
        """Return the result files of all claims about other claims."""
        return self.result_files(self.config.ladders)

    def transfers(self) -> list[str]:
        """Return the transfer claims in all their regimes."""
        return [claim_id for claim_id, claim in self.config.claims.items() if claim.kind == "transfer"]

    def published(self) -> list[str]:
        """Return the claims a headline counts: those the record holds, each once, ladders among them."""
        return self.config.published()

    def listed(self, page: str) -> list[str]:
        """Return the claims a page of `names.PAGES` lists: all of this scale, ladders last, or the headline's."""
        return list(self.config.headline) if page == "headline" else list(self.config.every())

    def page_files(self, page: str) -> list[str]:
        """Return the result files of the claims a page lists."""
        return self.result_files(self.listed(page))

    def regimes_of(self, claim_id: str) -> list[str]:
        """Return the claims that are one claim in its several regimes, itself first."""
        return [claim for claim, entry in self.config.claims.items() if claim_id in (claim, entry.of)]

    def resources(self, rule: str) -> Resources:
        """Return memory, minutes, threads and GPUs of a rule at this scale."""
        table = self.scale.jobs.resources
        return table.get(rule, table["default"])

    @property
    def general(self) -> str:
        """The general text: what backbones are aligned on, and what harm is measured on."""
        return self.scale.alignment.text

    # seeds in batches

    def batches(self, stage: str, n_seeds: int) -> list[str]:
        """Return batch names `first-last` that cover seeds 1 to n."""
        size = self.scale.jobs.seeds_per_job.of(stage)
        return [f"{first}-{min(first + size - 1, n_seeds)}" for first in range(1, n_seeds + 1, size)]

    def batches_for(self, stage: str, n_seeds: int, batch: str) -> list[str]:
        """Return the batches of a stage (that has n seeds in all) which hold the seeds of another batch."""
        wanted = set(seeds_of(batch))
        return [name for name in self.batches(stage, n_seeds) if wanted & set(seeds_of(name))]

    def needs(self, claim_id: str) -> list[tuple[Needed, int]]:
        """Return the trained modules a claim needs and their seeds."""
        raise NotImplementedError

    @functools.cached_property
    def _seeds_of_modules(self) -> dict[Needed, int]:
        found: dict[Needed, int] = {}
        for claim_id in self.config.every():
            for of, n in self.needs(claim_id):
                found[of] = max(n, found.get(of, 1))
        return found

    def module_seeds(self, backbone: str, text: str, shape: str, role: str) -> int:
        """Return how many seeds of a module the claims need."""
        return self._seeds_of_modules.get((backbone, text, shape, role), 1)

    def module_manifests(self, of: Needed, batch: str) -> list[str]:
        """Return the manifests of trained modules that hold a batch's seeds."""
        return self.modules(of, self.batches_for("modules", self.module_seeds(*of), batch))

    # what jobs that belong to no claim depend on

    def text_spec(self, text: str) -> Plain:
        """What a text depends on."""
        made = self.scale.texts[text]
        return BuildText(
            **made.given(*Selection.model_fields),
            sources=self.scale.sources[made.sources],
            split=self.split_of(text),
            salt=self.scale.salt,
        ).plain()

    def split_of(self, text: str) -> Shares:
        """Return the share of a text's groups per split: its own, or the scale's."""
        return self.scale.split_of(text)

    def made(self, backbone: str) -> BuildBackbone:
        """Return what a backbone depends on: its definition, without what only states need."""
        definition = self.scale.backbones[backbone]
        needed = ("hub",) if definition.build is None else ("build", "window")
        return BuildBackbone(**definition.given(*needed))

    def backbone_spec(self, backbone: str) -> Plain:
        """What a backbone depends on."""
        return self.made(backbone).plain()

    def backbone_input(self, backbone: str) -> dict[str, str]:
        """Return the inputs of a backbone: general text where it is built, nothing where it is downloaded."""
        build = self.scale.backbones[backbone].build
        return self.text_files(build.text) if build else {}

    def written(self, backbone: str, text: str) -> WriteStates:
        """Return what the states of a backbone on a text depend on."""
        made, texts = self.scale.backbones[backbone], self.scale.texts[text]
        return WriteStates(
            window=made.window,
            taps=made.taps,
            max_windows=texts.max_windows,
            max_windows_per_document=texts.max_windows_per_document,
            min_scored=self.config.protocol.criteria.min_positions,
            split=self.split_of(text),
            salt=self.scale.salt,
        )

    def states_spec(self, backbone: str, text: str) -> Plain:
        """What the states of a backbone on a text depend on."""
        return self.written(backbone, text).plain()

    def trained(self, text: str, shape: str, role: str, batch: str) -> TrainModules:
        """Return what the native modules of a batch of seeds depend on."""
        return TrainModules.model_validate(
            {"module": self.scale.modules[shape], "role": role, "seeds": seeds_of(batch), "text": text, "name": shape}
        )

    def module_spec(self, text: str, shape: str, role: str, batch: str) -> Plain:
        """What the native modules of a batch of seeds depend on."""
        return self.trained(text, shape, role, batch).plain()

    def shape(self, name: str) -> Shape:
        """Return the sizes of a module shape, without its training."""
        return Shape(**self.scale.modules[name].given(*Shape.model_fields))

    def page_spec(self, page: str) -> Plain:
        """What a page that counts claims depends on besides their result files."""
        published = self.published()
        counted = [claim_id for claim_id in self.listed(page) if claim_id in published]
        return Summarise(protocol=self.config.protocol, counted=counted, n_claims=len(published)).plain()

    def simulation_spec(self) -> Plain:
        """What the instrument's own test depends on."""
        return SimulateStudies(protocol=self.config.protocol, seed=0).plain()

    @property
    def published_sha256(self) -> str:
        """Hash of the published record's figures."""
        return sha256_file(self.config.root / "config" / "record" / "published.json")

    def verdict_facts(self, claim_id: str) -> dict[str, Any]:
        """Return the fields that every verdict on evidence depends on."""
        return {
            "id": claim_id,
            "scale": self.config.name,
            "meaningless": self.scale.meaningless,
            "protocol": self.config.protocol,
            "n_claims": len(self.published()),
            "published_sha256": self.published_sha256,
            "seeds": self.config.seeds(claim_id),
        }


def seeds_of(batch: str) -> list[int]:
    """Return the seeds of a batch name `first-last`."""
    first, last = batch.split("-")
    return list(range(int(first), int(last) + 1))
