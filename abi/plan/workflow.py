"""What each job of the DAG depends on: its spec, its input files, its place. Rules ask here and hold no logic.

A spec holds everything an output depends on and nothing else, so that one edit in `config/` reruns its own jobs only.
Every `*_spec` returns plain values, after the model of its rule (`abi/plan/specs`) has read them. What the jobs of a
claim depend on is said by its kind (`abi/plan/kinds`): `Workflow.of` finds it.
"""

import functools
from collections.abc import Iterable
from typing import Any

from abi.plan.config import Config
from abi.plan.kinds import kinds
from abi.plan.kinds.base import TRIAL, Inputs, Needed, Plain, seeds_of
from abi.plan.pages import Pages
from abi.plan.specs.admitted import AdmitUpdate
from abi.plan.specs.models import (
    BackboneSection,
    BuildBackbone,
    PortableTraining,
    Shape,
    TrainModules,
    TrainPortable,
    TrainUpdatedModules,
    WriteStates,
    WriteUpdatedStates,
)
from abi.plan.specs.studies import UpdateBackbone
from abi.plan.specs.text import BuildText, MeasureOverlap, Selection


class Workflow(Pages):
    """The jobs of one configuration. Paths are relative to the working directory; rules repeat them as patterns."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.general = self.scale.alignment.text
        """the general text: what backbones are aligned on, and what harm is measured on"""
        self._of = {
            name: kinds()[claim.kind].jobs.jobs_of(claim)(self, name, claim) for name, claim in config.every().items()
        }

    # claims

    def of(self, claim_id: str) -> Any:  # the class of its kind, whose methods differ
        """Return a claim with what its jobs depend on. Raises: ConfigError: unknown, or pending at this scale."""
        self.claim(claim_id)
        return self._of[claim_id]

    def of_file(self, result: str) -> Any:
        """Return the claim of a result file's stem, as `of`."""
        return next(jobs for jobs in self._of.values() if jobs.claim.record.result_file == f"{result}.json")

    # seeds in batches

    def batches(self, stage: str, n_seeds: int) -> list[str]:
        """Return batch names `first-last` that cover seeds 1 to n."""
        size = getattr(self.scale.jobs.seeds_per_job, stage)
        return [f"{first}-{min(first + size - 1, n_seeds)}" for first in range(1, n_seeds + 1, size)]

    def batches_for(self, stage: str, n_seeds: int, batch: str) -> list[str]:
        """Return the batches of a stage (that has n seeds in all) that hold the seeds of another, or of the trial."""
        wanted = set(seeds_of(batch))
        return [name for name in (TRIAL, *self.batches(stage, n_seeds)) if wanted & set(seeds_of(name))]

    @functools.cached_property
    def _seeds_of_modules(self) -> dict[Needed, int]:
        found: dict[Needed, int] = {}
        for claim_id, jobs in self._of.items():
            for of in jobs.modules().values():
                found[of] = max(self.config.closed_form_seeds(claim_id), found.get(of, 1))
        return found

    def module_seeds(self, backbone: str, text: str, shape: str, role: str) -> int:
        """Return how many seeds of a module the claims need."""
        return self._seeds_of_modules.get((backbone, text, shape, role), 1)

    def module_manifests(self, of: Needed, batch: str) -> list[str]:
        """Return the manifests of trained modules that hold a batch's seeds."""
        batches = self.batches_for("modules", self.module_seeds(*of), batch)
        return [f"{self.results}/modules/{'/'.join(of)}/{name}.json" for name in batches]

    def update_batches(self, update: str, batch: str) -> list[str]:
        """Return the batches of an update that hold the seeds of another batch."""
        users = [claim_id for claim_id in self.config.studies if update in self._of[claim_id].updates()]
        return self.batches_for("updates", max((self.config.seeds(user) for user in users), default=1), batch)

    # texts, backbones, states and native modules

    def text_files(self, text: str) -> dict[str, str]:
        """Return the documents of a text and the record that says which belong to which split."""
        place = f"{self.results}/corpus/{text}"
        return {"documents": f"{place}.jsonl.gz", "record": f"{place}.json"}

    def text_records(self, *texts: str) -> list[str]:
        """Return the records of some texts, each once."""
        return [self.text_files(text)["record"] for text in dict.fromkeys(texts)]

    def text_spec(self, text: str) -> Plain:
        """What a text depends on."""
        made = self.scale.texts[text]
        return BuildText(
            **made.given(*Selection.model_fields),
            sources=self.scale.sources_of(made),
            split=self.scale.split_of(text),
            salt=self.scale.salt,
        ).plain()

    def backbone_folder(self, backbone: str) -> str:
        """Return the folder of a backbone in the Hugging Face layout."""
        return f"{self.results}/backbones/{backbone}"

    def backbone(self, backbone: str) -> str:
        """Return the manifest of a backbone."""
        return f"{self.backbone_folder(backbone)}.json"

    def head(self, backbone: str) -> str:
        """Return the file of a backbone's head."""
        return f"{self.results}/heads/{backbone}.safetensors"

    def tokens(self, backbone: str) -> str:
        """Return the file of a backbone's vocabulary as spellings."""
        return f"{self.results}/heads/{backbone}.tokens.json"

    def base_of(self, backbone: str) -> BackboneSection:
        """Return the definition of a backbone, or of the one that an update of this name starts from."""
        made = self.scale.updates.get(backbone)
        return self.scale.backbones[made.backbone if made else backbone]

    def memory_mb(self, backbone: str) -> int:
        """Return the megabytes that loading a backbone takes at least, 0 where its sizes were never pinned."""
        hub = self.base_of(backbone).hub
        return 0 if hub is None or hub.sizes is None else hub.sizes.memory_needed // 10**6 + 1

    def admission_spec(self, update: str) -> Plain:
        """What an update that is a target depends on: its first round without the stability term, of the first seed."""
        return AdmitUpdate(update=update, stage="free.1", seed=1).plain()

    def admission_input(self, update: str) -> Inputs:
        """Return the batch of updated backbones that holds the one which is admitted."""
        [batch] = self.update_batches(update, "1-1")
        return {"updates": [self.updated(update, "free.1", batch)]}

    def backbone_spec(self, backbone: str) -> Plain:
        """What a backbone depends on: its definition, without what only states need; in a replicate, another seed."""
        if backbone in self.scale.updates:
            return self.admission_spec(backbone)
        definition = self.scale.backbones[backbone]
        if definition.folder is not None:
            return BuildBackbone(folder=self.scale.found(backbone, definition.folder)).plain()
        needed = (definition.place,) if definition.build is None else ("build", "window")
        spec = BuildBackbone(**definition.given(*needed)).plain()
        if definition.build is not None:
            spec["build"]["pretraining"]["seed"] += 1000 * self.scale.replicate
        return spec

    def backbone_input(self, backbone: str) -> dict[str, str]:
        """Return the inputs of a backbone: general text where it is built, nothing where it comes from elsewhere."""
        build = self.scale.backbones[backbone].build
        return self.text_files(build.text) if build else {}

    def states(self, backbone: str, text: str, split: str) -> str:
        """Return the manifest of the states of a backbone on one split of a text."""
        return f"{self.results}/states/{backbone}/{text}.{split}.json"

    def overlaps(self, backbone: str, *texts: str) -> list[str]:
        """Return the manifests of how much of some texts, as far as a backbone scores them, stands in train."""
        return [f"{self.results}/overlaps/{backbone}/{text}.json" for text in dict.fromkeys(texts)]

    def overlap_spec(self, backbone: str, text: str) -> Plain:
        """What such a manifest depends on besides text and states."""
        return MeasureOverlap(text=text, backbone=backbone).plain()

    def states_spec(self, backbone: str, text: str, rule: str = "write_states") -> Plain:
        """What the states of a backbone on a text depend on. Args: rule: that writes them."""
        made, texts = self.base_of(backbone), self.scale.texts[text]
        return WriteStates(
            window=made.window,
            taps=made.taps,
            max_windows=texts.max_windows,
            max_windows_per_document=texts.max_windows_per_document,
            min_scored=self.config.protocol.criteria.min_positions,
            split=self.scale.split_of(text),
            salt=self.scale.salt,
            **self.scale.compute.of(rule).stored,
        ).plain()

    def module_spec(self, text: str, shape: str, role: str, batch: str) -> Plain:
        """What the native modules of a batch of seeds depend on."""
        own = {"module": self.scale.modules[shape], "role": role, "seeds": seeds_of(batch), "text": text, "name": shape}
        return TrainModules.model_validate(own).plain()

    def portable_spec(self, text: str, batch: str) -> Plain:
        """What the portable modules of a batch of seeds depend on."""
        moved = {claim.text for claim in self.config.claims.values() if claim.regime == "zero-text"}
        shape = self.scale.portable.given(*PortableTraining.model_fields)
        own = {"portable": shape, "text": text, "seeds": seeds_of(batch), "controls": text in moved}
        return TrainPortable.model_validate(own).plain()

    def shape(self, name: str) -> Shape:
        """Return the sizes of a module shape, without its training."""
        return Shape(**self.scale.modules[name].given(*Shape.model_fields))

    # updated backbones, named by update, stage and seed; `held.1` is made with the stability term, `free.1` without

    def updated(self, update: str, stage: str, batch: str) -> str:
        """Return the manifest of the updated backbones of a batch of seeds."""
        return f"{self.results}/updates/{update}/{stage}/{batch}.json"

    def updated_states(self, update: str, stage: str, text: str, batch: str) -> str:
        """Return the manifest of the states of updated backbones on a text."""
        return f"{self.results}/updated_states/{update}/{stage}/{text}/{batch}.json"

    def updated_modules(self, update: str, stage: str, text: str, role: str, batch: str) -> str:
        """Return the manifest of the native modules trained on updated backbones."""
        return f"{self.results}/updated_modules/{update}/{stage}/{text}/{role}/{batch}.json"

    def update_spec(self, update: str, stage: str, batch: str) -> Plain:
        """What the updated backbones of a batch of seeds depend on."""
        way, number = stage.split(".")
        definition = self.scale.updates[update]
        held = definition.given("holds", "stability") if way == "held" else {"holds": [], "stability": 0.0}
        about = {"update": update, "way": way, "round": int(number), "seeds": seeds_of(batch), **held}
        window = self.scale.backbones[definition.backbone].window
        return UpdateBackbone(**about, **definition.given("rounds", "trains", "training"), window=window).plain()

    def update_input(self, update: str, stage: str, batch: str) -> Inputs:
        """Return the inputs of an update: text, backbone, the round before, the modules that are held."""
        way, number = stage.split(".")
        definition = self.scale.updates[update]
        inputs: Inputs = {**self.text_files(definition.text), "backbone": self.backbone(definition.backbone)}
        if int(number) > 1:
            inputs["before"] = self.updated(update, f"{way}.{int(number) - 1}", batch)
        if way == "held":
            inputs |= {f"source_{text}": paths for text, paths in self.held_modules(update, batch).items()}
        return inputs

    def held_modules(self, update: str, batch: str) -> dict[str, list[str]]:
        """Return text -> manifests of the source modules whose states an update holds."""
        made = self.scale.updates[update]
        return {t: self.module_manifests((made.backbone, t, made.module, "source"), batch) for t in made.holds}

    def updated_states_spec(self, update: str, stage: str, text: str, batch: str) -> Plain:
        """What the states of updated backbones depend on; train states are stored where an oracle is trained."""
        own = self.states_spec(self.scale.updates[update].backbone, text, "write_updated_states")
        splits = ["train", "test"] if stage.startswith("held.") else ["test"]
        return WriteUpdatedStates.model_validate(own | {"splits": splits, "seeds": seeds_of(batch)}).plain()

    def updated_module_spec(self, update: str, stage: str, text: str, role: str, batch: str) -> Plain:
        """What the native modules of updated backbones depend on: the budget of every native module."""
        own = self.module_spec(text, self.scale.updates[update].module, role, batch)
        return TrainUpdatedModules.model_validate(own | {"updated": f"{update}.{stage}"}).plain()

    # claims: their manifests, and what every verdict on evidence depends on

    def of_claim(self, stage: str, claim_id: str, batches: Iterable[str]) -> list[str]:
        """Return the manifests of a stage of a claim (`alignments`, `calibration`, `fits`, ...), one per batch."""
        return [f"{self.results}/{stage}/{claim_id}/{batch}.json" for batch in batches]

    def evidence(self, claim_id: str, batches: Iterable[str]) -> dict[str, list[str]]:
        """Return evidence and draws of a claim and their manifests."""
        ends = {"evidence": "csv.gz", "draws": "draws.csv.gz", "manifests": "json"}
        places = [f"{self.results}/evidence/{claim_id}/{batch}" for batch in batches]
        return {name: [f"{place}.{end}" for place in places] for name, end in ends.items()}

    def verdict_facts(self, claim_id: str) -> dict[str, Any]:
        """Return the fields that every verdict on evidence depends on."""
        return {
            "id": claim_id,
            "scale": self.config.name,
            "meaningless": self.scale.meaningless,
            "protocol": self.config.protocol,
            "n_claims": len(self.config.published()),
            "published_sha256": self.published_sha256,
            "seeds": self.config.seeds(claim_id),
        }
