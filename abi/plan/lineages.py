"""What updated backbones, their states and the oracles beside them depend on.

An updated backbone is named by its update, its stage and its seed. The stage says how it was made and in which round:
`held.1` with the stability term, `free.1` without.
"""

from abi.plan.jobs import Inputs, Jobs, Plain, seeds_of
from abi.plan.paths import Needed
from abi.plan.specs.models import TrainUpdatedModules, WriteUpdatedStates
from abi.plan.specs.shared import Split
from abi.plan.specs.studies import UpdateBackbone, UpdateSection

HELD = "held."


class Planner(Jobs):
    """What a kind of claim may ask of all jobs: also of updates and of other claims. `workflow.Workflow` answers."""

    def modules_of(self, claim_id: str) -> dict[str, Needed]:
        """Return role in a claim -> the trained modules it needs."""
        raise NotImplementedError

    def alignments_of(self, claim_id: str) -> list[str]:
        """Return the manifests of all alignments of a transfer."""
        raise NotImplementedError

    def update_definition(self, update: str) -> UpdateSection:
        """Return an update of the scale."""
        return self.scale.updates[update]

    def updates_of(self, claim_id: str) -> list[str]:
        """Return the updates a claim looks at."""
        raise NotImplementedError

    def update_seeds(self, update: str) -> int:
        """Return how many seeds of an update the claims need."""
        return max((self.config.seeds(c) for c in self.config.studies if update in self.updates_of(c)), default=1)

    def update_batches(self, update: str, batch: str) -> list[str]:
        """Return the batches of an update that hold the seeds of another batch."""
        return self.batches_for("updates", self.update_seeds(update), batch)

    def update_spec(self, update: str, stage: str, batch: str) -> Plain:
        """What the updated backbones of a batch of seeds depend on."""
        way, number = stage.split(".")
        definition = self.update_definition(update)
        held = definition.given("holds", "stability") if way == "held" else {"holds": [], "stability": 0.0}
        about = {"update": update, "way": way, "round": int(number), "seeds": seeds_of(batch), **held}
        window = self.scale.backbones[definition.backbone].window
        return UpdateBackbone(**about, **definition.given("rounds", "trains", "training"), window=window).plain()

    def updated_states_spec(self, update: str, stage: str, text: str, batch: str) -> Plain:
        """What the states of updated backbones depend on; train states are stored where an oracle is trained."""
        own = self.written(self.update_definition(update).backbone, text).given()
        splits: list[Split] = ["train", "test"] if stage.startswith(HELD) else ["test"]
        return WriteUpdatedStates(**own, splits=splits, seeds=seeds_of(batch)).plain()

    def updated_module_spec(self, update: str, stage: str, text: str, batch: str) -> Plain:
        """What the oracles of updated backbones depend on: the budget of every native module."""
        own = self.trained(text, self.update_definition(update).module, "oracle", batch).given()
        return TrainUpdatedModules(**own, updated=f"{update}.{stage}").plain()

    def update_input(self, update: str, stage: str, batch: str) -> Inputs:
        """Return the inputs of an update: text, backbone, the round before, the modules that are held."""
        way, number = stage.split(".")
        definition = self.update_definition(update)
        inputs: Inputs = {**self.text_files(definition.text), "backbone": self.backbone(definition.backbone)}
        if int(number) > 1:
            inputs["before"] = self.updated(update, f"{way}.{int(number) - 1}", batch)
        if way == "held":
            inputs |= {f"source_{text}": paths for text, paths in self.held_modules(update, batch).items()}
        return inputs

    def held_modules(self, update: str, batch: str) -> dict[str, list[str]]:
        """Return text -> manifests of the source modules whose states an update holds."""
        made = self.update_definition(update)
        return {t: self.module_manifests((made.backbone, t, made.module, "source"), batch) for t in made.holds}
