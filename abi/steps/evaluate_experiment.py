"""Step evaluate_experiment: arms of an experiment fitted and scored; evidence, published draws, and what was fitted."""

from collections.abc import Mapping
from functools import partial

import torch

from abi.arms.experiment import TRIAL
from abi.arms.experiment_scores import ScoredExperiment
from abi.arms.generated_code import task_rows
from abi.arms.metrics import DrawRow, EvidenceRow, evidence_rows, published_draws
from abi.base.job import InputFiles, Job
from abi.base.manifests.backbones import BackboneManifest
from abi.base.manifests.experiments import FitOfArm, FitsManifest
from abi.base.names import REFERENCE, TASKS
from abi.judge.evidence_files import write_evidence
from abi.models.backbone import Backbone, Window, load_checked
from abi.models.code_writing import CodeWriter
from abi.models.states import States
from abi.plan.specs.experiments import ExperimentEvidence

Spec = ExperimentEvidence
NUMBERS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def run(job: Job[ExperimentEvidence], inputs: InputFiles, outputs: Mapping[str, str]) -> None:
    """Write `fits`, `evidence` and `draws` (csv.gz), and `manifest`, which says what is in them."""
    spec = job.spec
    running, writing = partial(run_in, spec, inputs), partial(writer_of, inputs)
    experiment = ScoredExperiment(spec, inputs, job.scratch, running, writing)
    tried = experiment.tried()
    rates = {one.arm: one.rate for one in tried}
    rows: list[EvidenceRow] = []
    draws: list[DrawRow] = []
    for seed in spec.seeds:
        for every, scopes in experiment.studies(seed, rates):
            scores = [one for one in every if one.scope != TASKS]
            rows += evidence_rows(scores, scopes, seed)
            if spec.code is not None:
                coded = [one for one in every if one.scope == TASKS]
                rows += task_rows(coded, experiment.tasks, seed, spec.code.tokens)
            between = [one for one in scores if one.key.arm == REFERENCE and one.metric == "teacher_js_nats"]
            rows += evidence_rows(between, scopes, seed, reference="")
            n_windows = len(scopes["domain"])
            draws += published_draws(scores, n_windows, seed=seed, rng_seeds=spec.rng_seeds, n_chunks=spec.n_chunks)
    FitsManifest(
        seed=TRIAL,
        grid=spec.budget.rates,
        tried=tried,
        arms=[FitOfArm(arm=fit.arm, seed=fit.seed, **fit.figures.given()) for fit in experiment.fits],
        provenance=job.provenance(),
    ).write(outputs["fits"])
    write_evidence(outputs, rows, draws, lambda: job.provenance(outputs))


def writer_of(inputs: InputFiles) -> CodeWriter:
    """Return the backbone as it writes code."""
    return CodeWriter(backbone_of(inputs))


def backbone_of(inputs: InputFiles, precision: torch.dtype = torch.float32) -> Backbone:
    """Return the backbone itself, checked."""
    return load_checked(inputs["model"][0], BackboneManifest.read(inputs["backbone"]), precision)


@torch.no_grad()
def run_in(spec: Spec, inputs: InputFiles, precision: str, states: States, batch: int = 16) -> States:
    """Return windows with the states that the backbone gives in a number format, of the taps that are stored alone."""
    window, number = Window.of(spec.window), NUMBERS[precision]
    backbone = backbone_of(inputs, number)
    shape = (len(states), states.manifest.positions, states.manifest.width)
    # Not every depth of every window: of a medium GPT-2 those are 63 GB.
    kept = {tap: torch.empty(shape, dtype=number) for tap in {*states.manifest.taps, states.final_tap}}
    for start in range(0, len(states), batch):
        part = slice(start, start + batch)
        hidden = backbone.hidden_states(states.tokens(part), window)
        for tap, whole in kept.items():
            whole[part] = hidden[tap]
    return states.rerun(kept)
