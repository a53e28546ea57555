"""Scores of a scaling law: a module on an updated backbone, calibrated for more and more steps, looked at on the way.

Every point is a backbone and a domain: the module trained before the update, its interface calibrated by KD from the
oracle of the updated backbone, its net frozen (`docs/experiments.md`, C7, trains the net too).
"""

from collections.abc import Iterator

from abi.arms.forms import ArmForm, corrections
from abi.arms.gradient import Batch, FitData, Objective, fit_gradients
from abi.arms.metrics import Key, Score, margins, score
from abi.base.job import InputFiles
from abi.base.names import ORACLE, RAW, REFERENCE
from abi.models.loop import Member, Phase, Schedule
from abi.models.module import AbiModule, derive_seed, with_net
from abi.models.saved import having, module_of_seed, updated
from abi.models.states import States
from abi.plan.specs.studies import LawEvidence


def studies(spec: LawEvidence, inputs: InputFiles, seed: int) -> Iterator[tuple[list[Score], dict[str, States]]]:
    """Yield the scores of a point, a study `<update>-<text>` each: `raw`, `oracle`, `reference`, `budget-<steps>`.

    `reference` is a second module of the updated backbone, which never teaches: agreement is measured against it, and
    how far the oracle agrees with it is as far as any calibration goes.
    """
    for update in spec.updates:
        for text in spec.texts:
            place = f"/{update}/held.1/"
            train, head = updated(inputs, place, text, seed, "train")
            test, _ = updated(inputs, place, text, seed)
            native = [having(inputs["oracles"], place, f"{text}/{role}") for role in (ORACLE, REFERENCE)]
            oracle, reference = (module_of_seed(paths, seed, train) for paths in native)
            module = module_of_seed(inputs[source_of(inputs, text, update)], seed)
            data = FitData(train, head, corrections(oracle, train))
            study, scopes = f"{update}-{text}", {"domain": test}
            known: dict[str, ArmForm | None] = {RAW: None, ORACLE: oracle, REFERENCE: reference}
            arms = {Key(study, name): arm for name, arm in known.items()}
            arms |= {Key(study, f"budget-{n}"): m for n, m in calibrated(module, data, spec, seed).items()}
            scores = score(arms, reference, None, scopes, head, windows_per_batch=spec.windows_per_batch)
            margin = Score("domain", Key(study, "margin"), "top5_margin", margins(oracle, test, head))
            yield [*scores, margin], scopes


def calibrated(module: AbiModule, data: FitData, spec: LawEvidence, seed: int) -> dict[int, AbiModule]:
    """Return steps -> the module after that many steps of one run; its net and the given module stay."""
    budget, looked = spec.budget, spec.budget.budgets
    schedule = Schedule([Phase(max(looked.steps), looked.lr, looked.warmup)])
    moving, kept = with_net(module, module), {}

    def keep(done: int) -> None:
        if done in looked.steps:
            kept[done] = with_net(moving, moving)

    interface, net = moving.interface_parameters(), moving.domain_parameters()
    fit_gradients(
        [moving],
        [Member(f"calibration seed {seed}", interface, schedule, net)],
        data,
        Objective(spec.fit, budget.temperature, budget.kd_weight),
        batch=Batch(budget.batch, budget.batch_of),
        seed=derive_seed("calibration", seed),
        before_step=keep,
    )
    return kept


def source_of(inputs: InputFiles, text: str, update: str) -> str:
    """Return the name of the input that holds a text's source modules on the backbone of an update."""
    return f"source_{text}_{update}" if f"source_{text}_{update}" in inputs.keys() else f"source_{text}"
