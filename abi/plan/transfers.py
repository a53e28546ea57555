"""What each job of a transfer or a reconstruction depends on: its spec (a plain dict), its input files, its batches of seeds.

Rules ask here and hold no logic themselves; what all jobs share is in `jobs`, what claims of several studies need in `studies`.
"""

from typing import Any

from abi.base.names import written_variants
from abi.plan.jobs import Needed, seeds_of
from abi.plan.lineages import SeveralJobs

__all__ = ["Study", "seeds_of"]

# The trained modules each regime's calibration reads. The reference of a transfer never teaches; general-only sees no oracle.
CALIBRATES_WITH = {
    "oracle-kd": ("source", "oracle", "wrong"),
    "few-shot": ("source", "oracle", "wrong"),
    "general-only": ("source",),
    "reconstruction": ("before", "reference"),
}


class Study(SeveralJobs):
    """The jobs of one configuration. Paths are relative to the working directory."""

    def needs(self, claim_id: str) -> list[tuple[Needed, int]]:
        """Return the trained modules a claim needs and their seeds."""
        if claim_id not in self.config.claims:
            return super().needs(claim_id)
        n_seeds = self.config.closed_form_seeds(claim_id)
        return [(of, n_seeds) for of in self.modules_of(claim_id).values()]

    def closed_only(self, claim_id: str, batch: str) -> list[int]:
        """Return the seeds of a batch that only the closed form of a claim has."""
        return [seed for seed in seeds_of(batch) if seed > self.config.seeds(claim_id)]

    def modules_of(self, claim_id: str) -> dict[str, tuple[str, str, str, str]]:
        """Return role in the claim -> (backbone, text, shape, role) of the trained modules a claim needs."""
        claim = self.claim(claim_id)
        text, target = claim["text"], claim["target"]
        if claim["kind"] == "reconstruction":
            return {
                "reference": (target, text, claim["reference_module"], "reference"),
                "before": (target, text, claim["module"], "source"),
                "oracle": (target, text, claim["module"], "oracle"),
            }
        modules = {
            "source": (claim["source"], text, claim["module"], "source"),
            "oracle": (target, text, claim["module"], "oracle"),
            "reference": (target, text, claim["module"], "reference"),
        }
        if "wrong-domain" in claim["arms"]:
            modules["wrong"] = (claim["source"], self.general, claim["module"], "source")
        return modules

    def alignment_spec(self, claim_id: str, batch: str) -> dict[str, Any]:
        """What the rotations of a batch of seeds depend on."""
        claim, settings = self.claim(claim_id), self.scale["alignment"]
        return {
            "module": self._shape(claim["module"]),
            "max_rows": settings["max_rows"],
            "pool": settings["pool"],
            "split": settings["split"],
            "seeds": seeds_of(batch),
        }

    def calibration_spec(self, claim_id: str, batch: str) -> dict[str, Any]:
        """What the fitted arms of a batch of seeds depend on."""
        claim = self.claim(claim_id)
        return {
            "regime": claim["regime"], "arms": [arm for arm in claim["arms"] if arm != "lora"], "fit": claim["fit"],
            "budget": self._budget(claim),
            "module": self._shape(claim["module"]), "text": claim["text"], "seeds": seeds_of(batch),
            "variants": claim.get("variants", []), "closed_only": self.closed_only(claim_id, batch),
            **({"max_rows": self.scale["alignment"]["max_rows"]} if claim["regime"] == "general-only" else {}),
        }  # fmt: skip

    def writes(self, claim_id: str) -> bool:
        """Return whether a claim has a variant whose lesson is on text that the source writes."""
        claim = self.claim(claim_id)
        return bool(written_variants(claim, self.scale["calibration"][claim["fit"]].get("variants", {})))

    def written_spec(self, claim_id: str, batch: str) -> dict[str, Any]:
        """What the text that a batch of source modules writes, and the states on it, depend on."""
        claim = self.claim(claim_id)
        states = {role: self.states_spec(claim[role], self.general) for role in ("source", "target")}
        return {"seeds": seeds_of(batch), **self.scale["calibration"][claim["fit"]]["written"], **states}

    def written_input(self, claim_id: str, batch: str) -> dict[str, Any]:
        """Return the inputs of what a source writes: source and target, the source's modules, general text to begin with."""
        claim = self.claim(claim_id)
        backbones = {f"{role}_backbone": f"{self.backbone_folder(claim[role])}.json" for role in ("source", "target")}
        heads = {f"{role}_head": self.head(claim[role]) for role in ("source", "target")}
        modules = {"modules": self.modules_input(claim_id, batch)["source"]}
        return {**backbones, **heads, **modules, "general": self.states(claim["source"], self.general, "train")}

    def written_files(self, claim_id: str, batch: str) -> dict[str, list[str]]:
        """Return the manifests of written text that hold a batch's seeds, or nothing where a claim has none."""
        wanted = self.batches_for("calibration", self.config.seeds(claim_id), batch) if self.writes(claim_id) else []
        return {"written": [f"{self.results}/written/{claim_id}/{b}.json" for b in wanted]} if wanted else {}

    def lora_spec(self, claim_id: str, batch: str) -> dict[str, Any]:
        """What the adapters of a batch of seeds depend on: the budget of the other arms, and the size of their interface."""
        claim = self.claim(claim_id)
        return {
            "regime": claim["regime"], "fit": claim["fit"], "budget": self._budget(claim, lora=True),
            "module": self._shape(claim["module"]), "seeds": seeds_of(batch), "variants": claim.get("variants", []),
            **({"training_windows": self.scale["evaluation"]["training_windows"]} if self._reports_training(claim) else {}),
        }  # fmt: skip

    def evaluation_spec(self, claim_id: str, batch: str) -> dict[str, Any]:
        """What the evidence of a batch of seeds depends on."""
        claim = self.claim(claim_id)
        closed = {"closed_only": self.closed_only(claim_id, batch)}
        return {"regime": claim["regime"], "seeds": seeds_of(batch), **closed, **self.scale["evaluation"]}

    def verdict_spec(self, claim_id: str) -> dict[str, Any]:
        """What a verdict depends on besides the evidence."""
        claim = self.claim(claim_id)
        keys = (
            "title",
            "statement",
            "kind",
            "regime",
            "of",
            "sees",
            "text",
            "source",
            "target",
            "module",
            "fit",
            "variants",
            "record",
        )
        return {
            "id": claim_id, "claim": {key: claim[key] for key in keys if key in claim}, **self.verdict_facts(),
            "seeds": self.config.seeds(claim_id),
            "backbones": {role: self.backbone_spec(claim[role]) for role in ("source", "target")},
            "budget": self._budget(claim), "d_abi": self.scale["modules"][claim["module"]]["d_abi"],
            "training_steps": sum(p["steps"] for p in self.scale["modules"][claim["module"]]["training"]["phases"]),
        }  # fmt: skip

    def ladder_spec(self, claim_id: str) -> dict[str, Any]:
        """What the verdict of a ladder depends on besides its rungs."""
        claim = {key: value for key, value in self.claim(claim_id).items() if key != "scales"}
        about = {"scale": self.config.name, "meaningless": self.scale["meaningless"]}
        return {"id": claim_id, "claim": claim, "protocol": self.config.protocol["protocol"], **about}

    def ladder_input(self, claim_id: str) -> dict[str, list[str]]:
        """Return the result files of a ladder's rungs; of an aggregate also the alignments of its transfers."""
        claim = self.claim(claim_id)
        inputs = {"rungs": self.result_files(claim["rungs"])}
        if "checks" in claim:
            transfers = [rung for rung in claim["rungs"] if rung in self.config.claims]
            inputs["alignments"] = [path for rung in transfers for path in self.alignments_of(rung)]
        return inputs

    def alignments_of(self, claim_id: str) -> list[str]:
        """Return the manifests of all alignments of a transfer."""
        n_seeds = max(self.config.closed_form_seeds(regime) for regime in self.regimes_of(claim_id))
        return [f"{self.results}/alignments/{claim_id}/{name}.json" for name in self.batches("alignments", n_seeds)]

    def _budget(self, claim: dict[str, Any], *, lora: bool = False) -> dict[str, Any]:
        """Return the budget of a claim's fit with the phases of `lora` alone or of every other form."""
        budget = self.scale["calibration"][claim["fit"]]
        return {**budget, "phases": {form: p for form, p in budget["phases"].items() if (form == "lora") == lora}}

    @staticmethod
    def _reports_training(claim: dict[str, Any]) -> bool:
        """Return whether the figures on training text are reported: where the fits saw all of it."""
        return claim["regime"] in {"oracle-kd", "reconstruction"}

    def modules_input(self, claim_id: str, batch: str) -> dict[str, list[str]]:
        """Return role -> manifests of the trained modules that hold a batch's seeds."""
        found = {}
        for name, of in self.modules_of(claim_id).items():
            found[name] = self.module_manifests(of, batch)
        return found

    def alignment_input(self, claim_id: str, batch: str) -> dict[str, Any]:
        """Return the inputs of an alignment: states of the alignment text, and every module whose space is aligned to.

        All regimes of a claim share its alignment; a module that one of them needs is aligned for all.
        """
        claim, settings = self.claim(claim_id), self.scale["alignment"]
        modules = {
            role: paths
            for regime in self.regimes_of(claim_id)
            for role, paths in self.modules_input(regime, batch).items()
        }
        return {
            "source_states": self.states(claim["source"], settings["text"], settings["split"]),
            "target_states": self.states(claim["target"], settings["text"], settings["split"]),
            **{role: modules[role] for role in ("source", "oracle", "wrong") if role in modules},
        }  # fmt: skip

    def calibration_input(self, claim_id: str, batch: str) -> dict[str, Any]:
        """Return the inputs of a calibration: what the target side may see in the claim's regime, and nothing else."""
        claim = self.claim(claim_id)
        modules = self.modules_input(claim_id, batch)
        inputs: dict[str, Any] = {
            "head": self.head(claim["target"]),
            **{role: modules[role] for role in CALIBRATES_WITH[claim["regime"]] if role in modules},
        }
        if claim["regime"] == "general-only":
            return inputs | {
                "target_states": self.states(claim["target"], self.general, "train"),
                "source_states": self.states(claim["source"], self.general, "train"),
                "target_held_out": self.states(claim["target"], self.general, "calibration"),
                "source_held_out": self.states(claim["source"], self.general, "calibration"),
                "source_head": self.head(claim["source"]),
                "target_tokens": self.tokens(claim["target"]),
                "source_tokens": self.tokens(claim["source"]),
                **self.written_files(claim_id, batch),
            }
        inputs["train"] = self.states(claim["target"], claim["text"], "train")
        if claim["kind"] == "transfer":
            family = claim.get("of", claim_id)
            n_seeds = max(self.config.closed_form_seeds(regime) for regime in self.regimes_of(family))
            wanted = self.batches_for("alignments", n_seeds, batch)
            inputs["alignment"] = [f"{self.results}/alignments/{family}/{b}.json" for b in wanted]
        return inputs

    def lora_input(self, claim_id: str, batch: str) -> dict[str, Any]:
        """Return the inputs of the arm `lora`: the target backbone, what the other arms are fitted on, and what is evaluated."""
        claim = self.claim(claim_id)
        teacher = {"oracle": self.modules_input(claim_id, batch)["oracle"]} if claim["regime"] == "oracle-kd" else {}
        return {
            "backbone": f"{self.backbone_folder(claim['target'])}.json",
            "head": self.head(claim["target"]),
            "train": self.states(claim["target"], claim["text"], "train"),
            "domain": self.states(claim["target"], claim["text"], "test"),
            "general": self.states(claim["target"], self.general, "test"),
            **teacher,
        }

    def lora_files(self, claim_id: str, batch: str) -> dict[str, list[str]]:
        """Return the manifests of the arm `lora` that hold a batch's seeds, or nothing where a claim has no such arm."""
        if "lora" not in self.claim(claim_id)["arms"]:
            return {}
        wanted = self.batches_for("calibration", self.config.seeds(claim_id), batch)
        if not wanted:
            return {}
        return {"lora": [f"{self.results}/lora/{claim_id}/{b}.json" for b in wanted]}

    def evaluation_input(self, claim_id: str, batch: str) -> dict[str, Any]:
        """Return the inputs of an evaluation: states of all scopes, head, native modules, fitted arms."""
        claim = self.claim(claim_id)
        wanted = self.batches_for("calibration", self.config.closed_form_seeds(claim_id), batch)
        trained_on = {"train": self.states(claim["target"], claim["text"], "train")}
        return {
            "domain": self.states(claim["target"], claim["text"], "test"),
            "general": self.states(claim["target"], self.general, "test"),
            **(trained_on if self._reports_training(claim) else {}),
            "head": self.head(claim["target"]),
            **{role: paths for role, paths in self.modules_input(claim_id, batch).items() if role not in {"source", "wrong"}},
            "calibration": [f"{self.results}/calibration/{claim_id}/{b}.json" for b in wanted],
            **self.lora_files(claim_id, batch),
        }  # fmt: skip

    def verdict_input(self, claim_id: str) -> dict[str, list[str]]:
        """Return evidence and draws of a claim, their manifests, and those that say what its modules and arms are."""
        n_seeds = self.config.closed_form_seeds(claim_id)
        batches, whole = self.batches("evaluation", n_seeds), f"1-{n_seeds}"
        calibrations = self.batches_for("calibration", n_seeds, whole)
        return {
            "evidence": [f"{self.results}/evidence/{claim_id}/{b}.csv.gz" for b in batches],
            "draws": [f"{self.results}/evidence/{claim_id}/{b}.draws.csv.gz" for b in batches],
            "manifests": [f"{self.results}/evidence/{claim_id}/{b}.json" for b in batches],
            "calibration": [f"{self.results}/calibration/{claim_id}/{b}.json" for b in calibrations],
            **self.lora_files(claim_id, whole),
            **self.modules_input(claim_id, whole),
            "backbones": sorted({f"{self.results}/backbones/{self.claim(claim_id)[role]}.json" for role in ("source", "target")}),
        }  # fmt: skip
