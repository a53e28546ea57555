"""Step train_portable: portable modules of a source and the controls trained with them, one of each per seed."""

from pathlib import Path

from abi.arms.portable_fit import Lesson, anchors_of, fit_portable, portables, write_portable
from abi.base.job import InputFiles, Job, OutputFiles
from abi.base.manifests.backbones import TokensManifest
from abi.base.manifests.portable import PortableFacts, PortablesManifest
from abi.base.names import BIAS, NO_DOMAIN
from abi.models.loop import Schedule
from abi.models.portable import Vocabulary
from abi.models.saved import check_backbone, read_head, read_states
from abi.plan.specs.models import TrainPortable as Spec


def run(job: Job[Spec], inputs: InputFiles, outputs: OutputFiles) -> None:
    """Write `manifest` and beside it a folder per seed, with a module folder per arm that is made of it."""
    spec, shape = job.spec, job.spec.portable
    domain, general = read_states(inputs["domain"], "train"), read_states(inputs["general"], "train")
    base = domain.manifest.base
    check_backbone(general, base.base_sha256, "the domain's states")
    vocabulary = Vocabulary(TokensManifest.read(inputs["tokens"]).spellings)
    anchors, head = anchors_of(vocabulary, (domain, general), shape.max_anchors), read_head(inputs["head"], domain)
    lesson = Lesson.of(shape, head, domain, general, vocabulary, anchors)
    controls = (NO_DOMAIN, BIAS) if spec.controls else ()
    schedule = Schedule.given(shape.phases, shape.weight_decay)
    folder, entries = Path(outputs["folder"]), []
    for seed in spec.seeds:
        made = portables(shape, anchors, controls, seed)
        modules = {name: module.to(domain.device) for name, module in made.items()}
        checkpoint = job.scratch / f"{seed}.safetensors"
        trained = fit_portable(modules, lesson, schedule, batch=shape.batch, seed=seed, checkpoint=checkpoint)
        for name, module in modules.items():
            facts = PortableFacts(**dict(base), name=name, text=spec.text, seed=seed)
            entries.append(write_portable(module, facts, trained[name], schedule, folder))
    PortablesManifest(modules=entries, provenance=job.provenance(outputs)).write(outputs["manifest"])
