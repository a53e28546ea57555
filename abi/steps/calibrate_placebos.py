"""Step calibrate_placebos: placebos of portable modules, calibrated on general text of a target to say what the moved
module says there. What moves is not calibrated; these are what a user could have had for the same general text.
"""

from pathlib import Path

from abi.arms.portable_fit import Positions, calibrate_placebos, write_portable
from abi.base.job import InputFiles, Job, OutputFiles
from abi.base.manifests.backbones import TokensManifest
from abi.base.manifests.portable import PortableFacts, PortablesManifest
from abi.base.names import BIAS, CALIBRATED, CALIBRATED_TOO, TRANSFERRED
from abi.models.loop import Schedule
from abi.models.module import derive_seed
from abi.models.portable import Vocabulary, placebo_of, portable_of_seed
from abi.models.saved import read_head, read_states
from abi.plan.specs.models import CalibratePortable as Spec


def run(job: Job[Spec], inputs: InputFiles, outputs: OutputFiles) -> None:
    """Write `manifest` and beside it a folder per seed, with a module folder per placebo."""
    spec, training = job.spec, job.spec.training
    general = read_states(inputs["general"], "train")
    head = read_head(inputs["head"], general)
    vocabulary = Vocabulary(TokensManifest.read(inputs["tokens"]).spellings)
    positions = Positions(general, vocabulary, spec.context)
    schedule = Schedule.given(training.phases, training.weight_decay)
    folder, entries = Path(outputs["folder"]), []
    for seed in spec.seeds:
        moved = portable_of_seed(inputs["portable"], seed, TRANSFERRED)
        # The others have the moved module's own reader and writer; the bias starts as the source trained it.
        placebos = {
            arm: portable_of_seed(inputs["portable"], seed, arm)
            if arm == BIAS
            else placebo_of(moved, arm, derive_seed("placebo", arm, seed, 0))
            for arm in CALIBRATED_TOO
        }
        anchor_of, checkpoint = vocabulary.longest(moved.config.anchors), job.scratch / f"{seed}.safetensors"
        trained = calibrate_placebos(
            placebos,
            moved,
            positions,
            head,
            anchor_of,
            schedule,
            batch=training.batch,
            seed=seed,
            checkpoint=checkpoint,
        )
        for name, module in placebos.items():
            facts = PortableFacts(**dict(general.manifest.base), name=f"{name}{CALIBRATED}", text=spec.text, seed=seed)
            entries.append(write_portable(module, facts, trained[name], schedule, folder))
    PortablesManifest(modules=entries, provenance=job.provenance(outputs)).write(outputs["manifest"])
