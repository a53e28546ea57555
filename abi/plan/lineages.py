"""What the jobs of claims made of several studies depend on: updates of backbones, their states and modules, atlases, laws.

`specs.Study` is built on this. An updated backbone is named by its update, its stage and its seed. The stage says how it was
made and in which round: `held.1` with the stability term, `free.1` without.
"""

from typing import Any

from abi.base.errors import ConfigError
from abi.plan.jobs import Jobs, Needed, seeds_of

WAYS = ("held", "free")


class SeveralJobs(Jobs):
    """The part of `specs.Study` that knows updates, atlases and laws. Paths are relative to the working directory."""

    def needs(self, claim_id: str) -> list[tuple[Needed, int]]:
        """Return the trained modules a claim of several studies needs and their seeds."""
        if claim_id not in self.config.studies:
            return super().needs(claim_id)
        return [(of, self.config.seeds(claim_id)) for of in self.study_modules(claim_id).values()]

    def update_definition(self, update: str) -> dict[str, Any]:
        """Return an update of the scale."""
        found: dict[str, Any] = self.scale["updates"][update]
        return found

    def updates_of(self, claim_id: str) -> list[str]:
        """Return the updates a claim looks at."""
        claim = self.config.studies[claim_id]
        return [claim["update"]] if "update" in claim else list(claim.get("updates", []))

    def rounds_of(self, claim_id: str) -> int:
        """Return the rounds of its updates that a claim looks at: all in a succession, else the first."""
        claim = self.config.studies[claim_id]
        return int(self.update_definition(claim["update"])["rounds"]) if claim["kind"] == "succession" else 1

    def ways_of(self, claim_id: str) -> tuple[str, ...]:
        """Return the ways of updating a claim compares; a scaling law looks at held ones alone."""
        return WAYS[:1] if self.config.studies[claim_id]["kind"] == "scaling_law" else WAYS

    def stages_of(self, claim_id: str) -> list[str]:
        """Return the stages of updates that a claim looks at."""
        return [
            f"{way}.{number}" for number in range(1, self.rounds_of(claim_id) + 1) for way in self.ways_of(claim_id)
        ]

    def update_seeds(self, update: str) -> int:
        """Return how many seeds of an update the claims need."""
        return max((self.config.seeds(c) for c in self.config.studies if update in self.updates_of(c)), default=1)

    # paths

    def updated(self, update: str, stage: str, batch: str) -> str:
        """Return the manifest of the updated backbones of a batch of seeds."""
        return f"{self.results}/updates/{update}/{stage}/{batch}.json"

    def updated_states(self, update: str, stage: str, text: str, batch: str) -> str:
        """Return the manifest of the states of updated backbones on a text."""
        return f"{self.results}/updated_states/{update}/{stage}/{text}/{batch}.json"

    def updated_modules(self, update: str, stage: str, text: str, batch: str) -> str:
        """Return the manifest of the oracles trained on updated backbones."""
        return f"{self.results}/updated_modules/{update}/{stage}/{text}/{batch}.json"

    # specs

    def update_spec(self, update: str, stage: str, batch: str) -> dict[str, Any]:
        """What the updated backbones of a batch of seeds depend on."""
        way, number = stage.split(".")
        definition = self.update_definition(update)
        made = {key: definition[key] for key in ("rounds", "trains", "training")}
        held = (
            {"holds": definition["holds"], "stability": definition["stability"]}
            if way == "held"
            else {"holds": [], "stability": 0.0}
        )
        window = self.scale["backbones"][definition["backbone"]]["window"]
        return {
            "update": update,
            "way": way,
            "round": int(number),
            "seeds": seeds_of(batch),
            "window": window,
            **made,
            **held,
        }

    def updated_states_spec(self, update: str, stage: str, text: str, batch: str) -> dict[str, Any]:
        """What the states of updated backbones depend on; train states are stored where an oracle is trained."""
        splits = ["train", "test"] if stage.startswith("held.") else ["test"]
        own: dict[str, Any] = self.states_spec(self.update_definition(update)["backbone"], text)
        return {**own, "splits": splits, "seeds": seeds_of(batch)}

    def updated_module_spec(self, update: str, stage: str, text: str, batch: str) -> dict[str, Any]:
        """What the oracles of updated backbones depend on: the budget of every native module."""
        shape = self.update_definition(update)["module"]
        own: dict[str, Any] = self.module_spec(text, shape, "oracle", batch)
        return {**own, "updated": f"{update}.{stage}"}

    # inputs

    def update_input(self, update: str, stage: str, batch: str) -> dict[str, Any]:
        """Return the inputs of an update: the text, the backbone itself, the round before, the modules that are held."""
        way, number = stage.split(".")
        definition = self.update_definition(update)
        backbone = definition["backbone"]
        inputs: dict[str, Any] = {
            **self.text_files(definition["text"]),
            "backbone": f"{self.results}/backbones/{backbone}.json",
        }
        if int(number) > 1:
            inputs["before"] = self.updated(update, f"{way}.{int(number) - 1}", batch)
        if way == "held":
            inputs |= {f"source_{text}": paths for text, paths in self.held_modules(update, batch).items()}
        return inputs

    def held_modules(self, update: str, batch: str) -> dict[str, list[str]]:
        """Return text -> manifests of the source modules whose states an update holds."""
        definition = self.update_definition(update)
        wanted = {text: (definition["backbone"], text, definition["module"], "source") for text in definition["holds"]}
        return {text: self.module_manifests(of, batch) for text, of in wanted.items()}

    def update_batches(self, update: str, batch: str) -> list[str]:
        """Return the batches of an update that hold the seeds of another batch."""
        found: list[str] = self.batches_for("updates", self.update_seeds(update), batch)
        return found

    def study_modules(self, claim_id: str) -> dict[str, tuple[str, str, str, str]]:
        """Return role -> (backbone, text, shape, role) of the modules that a claim of several studies needs."""
        claim = self.config.studies[claim_id]
        if claim["kind"] == "atlas":
            backbone, shape = claim["backbone"], claim["module"]
            own = {
                f"{role}_{text}": (backbone, text, shape, role)
                for text in claim["texts"]
                for role in ("oracle", "reference")
            }
            return {"shared": (backbone, claim["shared"], shape, "source"), **own}
        found = {}
        for update in self.updates_of(claim_id):
            definition = self.update_definition(update)
            for text in definition["holds"]:
                where = f"{text}_{update}" if len(self.updates_of(claim_id)) > 1 else text
                found[f"source_{where}"] = (definition["backbone"], text, definition["module"], "source")
                if claim["kind"] != "scaling_law" and text in claim["texts"]:
                    found[f"oracle_{where}"] = (definition["backbone"], text, definition["module"], "oracle")
        return found

    def study_input(self, claim_id: str, batch: str) -> dict[str, Any]:
        """Return the inputs of the evaluation of a claim of several studies: states, heads, modules, of every stage."""
        claim = self.config.studies[claim_id]
        needed = self.study_modules(claim_id)
        modules = {name: self.module_manifests(of, batch) for name, of in needed.items()}
        if claim["kind"] == "atlas":
            return {**self._atlas_input(claim), **modules}
        used = {name: paths for name, paths in modules.items() if needed[name][1] in claim["texts"]}
        updated, states, oracles = [], [], []
        for update in self.updates_of(claim_id):
            for name in self.update_batches(update, batch):
                for stage in self.stages_of(claim_id):
                    updated.append(self.updated(update, stage, name))
                    states += [self.updated_states(update, stage, text, name) for text in claim["texts"]]
                    if stage.startswith("held."):
                        oracles += [self.updated_modules(update, stage, text, name) for text in claim["texts"]]
        inputs = {"updates": updated, "states": states, "oracles": oracles, **used}
        if claim["kind"] == "scaling_law":
            return inputs
        backbone = self.update_definition(claim["update"])["backbone"]
        before = {f"before_{text}": self.states(backbone, text, "test") for text in claim["texts"]}
        return {**inputs, **before, "head": self.head(backbone)}

    def _atlas_input(self, claim: dict[str, Any]) -> dict[str, Any]:
        states = {
            f"{split}_{text}": self.states(claim["backbone"], text, split)
            for text in claim["texts"] for split in ("train", "test")
        }  # fmt: skip
        return {**states, "head": self.head(claim["backbone"])}

    def study_evaluation_spec(self, claim_id: str, batch: str) -> dict[str, Any]:
        """What the evidence of a claim of several studies depends on, for a batch of seeds."""
        claim = self.config.studies[claim_id]
        keys = ("kind", "texts", "shared", "mixture")
        spec = {
            **{key: claim[key] for key in keys if key in claim},
            "seeds": seeds_of(batch),
            **self.scale["evaluation"],
        }
        if claim["kind"] == "atlas":
            fit = self.scale["calibration"]["kd"]
            closed = {"ridge_penalty": fit["ridge_penalty"], "closed_form_rows": fit.get("closed_form_rows")}
            return {**spec, "module": self._shape(claim["module"]), **closed}
        if claim["kind"] == "scaling_law":
            budget = self.scale["calibration"][claim["calibrated_by"]]
            keys_of_fit = ("temperature", "kd_weight", "batch", "batch_of", "budgets")
            return {
                **spec,
                "updates": claim["updates"],
                "fit": claim["calibrated_by"],
                "budget": {key: budget[key] for key in keys_of_fit if key in budget},
            }
        return {**spec, "update": claim["update"], "rounds": self.rounds_of(claim_id)}

    def study_verdict_input(self, claim_id: str) -> dict[str, list[str]]:
        """Return the evidence of a claim of several studies, its manifests, and what its modules and updates are."""
        n_seeds = self.config.seeds(claim_id)
        batches = self.batches("updates", n_seeds)
        whole, kept = f"1-{n_seeds}", {}
        inputs = self.study_input(claim_id, whole)
        for name in ("updates", "oracles"):
            kept[name] = inputs.get(name, [])
        modules = [path for name in self.study_modules(claim_id) for path in inputs.get(name, [])]
        return {
            "evidence": [f"{self.results}/evidence/{claim_id}/{b}.csv.gz" for b in batches],
            "draws": [f"{self.results}/evidence/{claim_id}/{b}.draws.csv.gz" for b in batches],
            "manifests": [f"{self.results}/evidence/{claim_id}/{b}.json" for b in batches],
            "modules": list(dict.fromkeys(modules)),
            **{name: paths for name, paths in kept.items() if paths},
            **self.generation_files(claim_id),
        }

    def width_of(self, backbone: str) -> int:
        """Return the width of a backbone, from its definition. Raises: ConfigError: a backbone of the hub without `width`."""
        definition = self.scale["backbones"][backbone]
        keywords = definition.get("build", {}).get("config", {})
        width = (
            definition.get("width") or keywords.get("d_model") or keywords.get("n_embd") or keywords.get("hidden_size")
        )
        if width is None:
            raise ConfigError(
                f"config/scales/{self.config.name}.yaml: backbones.{backbone}: a scaling law needs its `width`; add it"
            )
        return int(width)

    def generation_files(self, claim_id: str) -> dict[str, list[str]]:
        """Return the manifest of texts generated on the updated backbone, where a claim asks for them."""
        if not self.config.studies[claim_id].get("generation", False):
            return {}
        return {"generation": [f"{self.results}/generation/{claim_id}.json"]}

    def generation_spec(self, claim_id: str) -> dict[str, Any]:
        """What generated texts depend on."""
        claim = self.config.studies[claim_id]
        return {"update": claim["update"], "seeds": list(range(1, self.config.seeds(claim_id) + 1))}

    def generation_input(self, claim_id: str) -> dict[str, Any]:
        """Return the inputs of generated texts: the backbones of the first held round, the modules of the claim's first text."""
        claim, whole = self.config.studies[claim_id], f"1-{self.config.seeds(claim_id)}"
        batches = self.update_batches(claim["update"], whole)
        return {
            "updates": [self.updated(claim["update"], "held.1", batch) for batch in batches],
            "source": self.held_modules(claim["update"], whole)[claim["texts"][0]],
        }

    def study_verdict_spec(self, claim_id: str) -> dict[str, Any]:
        """What the verdict of a claim of several studies depends on besides its evidence."""
        claim = {key: value for key, value in self.config.studies[claim_id].items() if key != "scales"}
        about: dict[str, Any] = self.verdict_facts()
        updates = {update: self.update_definition(update) for update in self.updates_of(claim_id)}
        rest: dict[str, Any] = {"rounds": self.rounds_of(claim_id), "updates": updates} if updates else {}
        if claim["kind"] == "scaling_law":
            rest["budgets"] = self.scale["calibration"][claim["calibrated_by"]]["budgets"]["steps"]
            rest["widths"] = {update: self.width_of(definition["backbone"]) for update, definition in updates.items()}
        return {"id": claim_id, "claim": claim, "seeds": self.config.seeds(claim_id), **about, **rest}
