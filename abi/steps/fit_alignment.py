"""Step fit_alignment: rotations from a redrawn target interface to the spaces the domain nets come from, per seed."""

from typing import Literal

from torch import Tensor

from abi.arms.alignment import abi_rows, fit_procrustes, pair_states
from abi.base.files import sha256_once, write_tensors
from abi.base.job import InputFiles, Job, OutputFiles
from abi.base.manifests.alignments import AlignmentEntry, AlignmentManifest
from abi.models.module import redrawn
from abi.models.saved import check_same_text, module_of_seed, read_states, shape
from abi.models.states import States
from abi.plan.specs.arms import FitAlignment as Spec


def run(job: Job[Spec], inputs: InputFiles, outputs: OutputFiles) -> None:
    """Write `rotations` (safetensors: `<seed>.aligned`, `<seed>.own`) and `manifest` with how good each is.

    `aligned` maps the redrawn interface of the target to the source module's space, at positions that have read the
    same text; `home` maps it to the space of the positive control's module and `own` to the native oracle's, at the
    very same positions; `other` to the space of the source's module of another domain, where a claim has that control.
    """
    spec = job.spec
    source_states, target_states = (read_states(inputs[f"{side}_states"], spec.split) for side in ("source", "target"))
    check_same_text(source_states, target_states)
    at_target, at_source = pair_states(target_states, source_states, spec.max_rows)
    source, target = (source_states, at_source), (target_states, at_target)
    spaces: dict[Literal["aligned", "home", "own", "other"], tuple[str, States, Tensor]] = {
        "aligned": ("source", *source),
        "home": ("home", *target),
        "own": ("oracle", *target),
    }
    if "wrong" in inputs.keys():
        spaces["other"] = ("wrong", *source)
    rotations: dict[str, Tensor] = {}
    entries = []
    for seed in spec.seeds:
        interface = redrawn(shape(spec.module, target_states), seed)
        target_rows = abi_rows(interface, target_states, at_target)
        for name, (role, states, at) in spaces.items():
            rows = abi_rows(module_of_seed(inputs[role], seed, states), states, at)
            fit = fit_procrustes(target_rows, rows)
            rotations[f"{seed}.{name}"] = fit.rotation
            entries.append(AlignmentEntry(seed=seed, rotation=name, **dict(fit.figures)))
    write_tensors(outputs["rotations"], rotations)
    digest = sha256_once(outputs["rotations"])
    made = AlignmentManifest(alignments=entries, rotations_sha256=digest, provenance=job.provenance(outputs))
    made.write(outputs["manifest"])
