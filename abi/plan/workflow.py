"""What each job of a claim depends on: its spec and its input files. Rules ask here and hold no logic.

What a kind of claim needs is in `kinds`, one file each; what all jobs share in `jobs`, what updates need in `lineages`.
"""

from collections.abc import Callable
from typing import Any

from abi.plan.config import Config
from abi.plan.jobs import Inputs, Plain, seeds_of
from abi.plan.kinds import kinds
from abi.plan.lineages import Planner
from abi.plan.paths import Needed

__all__ = ["Workflow", "seeds_of"]


def _asked(name: str) -> Callable[..., Any]:
    """Return a method of `Workflow` that asks the claim it is given first: what one kind or two alone have."""

    def ask(study: "Workflow", claim_id: str, *rest: str) -> Any:
        return getattr(study.of(claim_id), name)(*rest)

    ask.__name__ = name
    return ask


class Workflow(Planner):
    """The jobs of one configuration. Paths are relative to the working directory."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        known = kinds()
        self._of = {name: known[claim.kind].jobs(self, name, claim) for name, claim in config.every().items()}

    def of(self, claim_id: str) -> Any:  # the class of its kind, whose methods differ
        """Return a claim with what its jobs depend on. Raises: ConfigError: unknown, or pending at this scale."""
        self.claim(claim_id)
        return self._of[claim_id]

    def needs(self, claim_id: str) -> list[tuple[Needed, int]]:
        """Return the trained modules a claim needs and their seeds."""
        return self._of[claim_id].needs()

    def updates_of(self, claim_id: str) -> list[str]:
        """Return the updates a claim looks at."""
        return self._of[claim_id].updates()

    def modules_of(self, claim_id: str) -> dict[str, Needed]:
        """Return role in the claim -> (backbone, text, shape, role) of the trained modules a claim needs."""
        return self._of[claim_id].modules()

    def alignments_of(self, claim_id: str) -> list[str]:
        """Return the manifests of all alignments of a transfer."""
        found: list[str] = self.of(claim_id).alignments()
        return found

    # evidence and verdict of every kind

    def evaluation_spec(self, claim_id: str, batch: str) -> Plain:
        """What the evidence of a batch of seeds depends on."""
        return self._of[claim_id].evidence_spec(batch)

    def evaluation_input(self, claim_id: str, batch: str) -> Inputs:
        """Return the inputs of the evidence of a batch of seeds."""
        return self._of[claim_id].evidence_input(batch)

    def verdict_spec(self, claim_id: str) -> Plain:
        """What a verdict depends on besides its inputs."""
        return self._of[claim_id].verdict_spec()

    def verdict_input(self, claim_id: str) -> Inputs:
        """Return the inputs of a verdict."""
        return self._of[claim_id].verdict_input()

    alignment_spec, alignment_input = _asked("alignment_spec"), _asked("alignment_input")
    written_spec, written_input = _asked("written_spec"), _asked("written_input")
    writes, written_files = _asked("writes"), _asked("written_files")
    calibration_spec, calibration_input = _asked("calibration_spec"), _asked("calibration_input")
    lora_spec, lora_input, lora_files = _asked("lora_spec"), _asked("lora_input"), _asked("lora_files")
    generation_spec, generation_input = _asked("generation_spec"), _asked("generation_input")
    generation_files = _asked("generation_files")

    def modules_input(self, claim_id: str, batch: str) -> dict[str, list[str]]:
        """Return role -> manifests of the trained modules that hold a batch's seeds."""
        found: dict[str, list[str]] = self.of(claim_id).module_files(batch)
        return found

    def stages_of(self, claim_id: str) -> list[str]:
        """Return the stages of updates that a claim looks at."""
        found: list[str] = self.of(claim_id).stages()
        return found

    def rounds_of(self, claim_id: str) -> int:
        """Return the rounds of its updates that a claim looks at."""
        return int(self.of(claim_id).rounds())
