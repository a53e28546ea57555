"""Step train_lora: the arm `lora` for a batch of seeds: adapters trained like every other arm, and what they say."""

from dataclasses import replace
from pathlib import Path

from abi.arms.fitting import Budget, gradient_tasks
from abi.arms.forms import corrections
from abi.arms.gradient import FitData
from abi.arms.lora_fit import Lora
from abi.base.job import InputFiles, Job, OutputFiles
from abi.base.manifests.arms import ScopeRun, place_of
from abi.base.manifests.backbones import BackboneManifest
from abi.base.manifests.rates import RatesManifest
from abi.base.names import LORA
from abi.models.backbone import load_checked
from abi.models.saved import check_same_text, module_of_seed, read_head, read_states, spread
from abi.plan.specs.arms import ChooseRates
from abi.plan.specs.arms import TrainLora as Spec


def run(job: Job[Spec], inputs: InputFiles, outputs: OutputFiles) -> None:
    """Write `manifest` and beside it one folder per seed and fit: the adapter, and the final states it gives."""
    spec, rates = job.spec, RatesManifest.read(inputs["rates"][0])
    budget = Budget.of(spec, rates.rates([LORA]))
    train = read_states(inputs["train"], "train")
    scopes = {name: read_states(inputs[name], "test") for name in ("domain", "general")}
    check_same_text(train, scopes["domain"])
    if spec.training_windows is not None:
        scopes["on_training_text"] = train.select(spread(train, spec.training_windows))
    [head, *_] = [read_head(inputs["head"], states) for states in (train, *scopes.values())]
    base = BackboneManifest.read(inputs["backbone"])
    lora = Lora(load_checked(inputs["model"], base), base, spec.module, train)
    folder, arms = Path(outputs["folder"]), []
    for seed in spec.seeds:
        oracle = module_of_seed(inputs["oracle"], seed, train) if spec.fit == "kd" else None
        data = FitData(train, head, None if oracle is None else corrections(oracle, train))
        for task in gradient_tasks(data, budget, seed):
            name = place_of(seed, task.fit, LORA, task.draw)
            checkpoint = job.scratch / f"{seed}-{task.fit}-{task.draw}.safetensors"
            arms.append(lora.fit(task, budget, seed, scopes, folder, name, checkpoint))
    of_scopes = {
        name: ScopeRun(tensors_sha256=states.manifest.tensors_sha256, n_windows=len(states))
        for name, states in scopes.items()
    }
    lora.manifest(scopes=of_scopes, arms=arms, provenance=job.provenance(outputs)).write(outputs["manifest"])


def tried_rates(
    spec: ChooseRates, inputs: InputFiles, data: FitData, held_out: FitData, budget: Budget, checkpoints: Path
) -> list[float]:
    """Return the objective of an adapter on held-out data at every rate of the grid, as `arms.rates.tried_rates`."""
    base = BackboneManifest.read(inputs["backbone"])
    lora = Lora(load_checked(inputs["model"][0], base), base, spec.module, data.states)
    [seed], found = spec.seeds, []
    for rate in spec.budget.rates:
        at_rate, below = replace(budget, rates={LORA: rate}), checkpoints / repr(rate)
        tasks = gradient_tasks(data, at_rate, seed)
        values = [
            lora.tried(task, at_rate, seed, held_out, below / f"{LORA}-{task.draw}.safetensors") for task in tasks
        ]
        found.append(sum(values) / len(values))
    return found
