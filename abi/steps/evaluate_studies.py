"""Step evaluate_studies: evidence and published draws of a claim made of several studies; `fit` names the study."""

from collections.abc import Iterator, Mapping

from abi.arms import atlas, budgets
from abi.arms.forms import ArmForm
from abi.arms.metrics import DrawRow, EvidenceRow, Key, Score, evidence_rows, published_draws, score
from abi.base.job import InputFiles, Job
from abi.base.names import (
    BEFORE,
    BEFORE_OFF,
    ORACLE,
    ORACLE_BEFORE,
    ORACLE_OFF,
    RANDOM,
    RANDOM_NET,
    RANDOM_OFF,
    RAW,
    RAW_BEFORE,
    RAW_FREE,
    REFERENCE,
    UNTRAINED,
    ZERO_SHOT,
    ZERO_SHOT_FREE,
    ZERO_SHOT_OFF,
)
from abi.judge.evidence_files import write_evidence
from abi.models.head import Head
from abi.models.module import AbiModule, derive_seed, with_net
from abi.models.saved import having, module_of_seed, read_head, read_states, updated
from abi.models.states import States
from abi.plan.specs.studies import AtlasEvidence, EvaluateStudies, LawEvidence, UpdateEvidence

Spec = EvaluateStudies
Scored = tuple[list[Score], dict[str, States]]


def run(job: Job[AtlasEvidence | LawEvidence | UpdateEvidence], inputs: InputFiles, outputs: Mapping[str, str]) -> None:
    """Write `evidence` and `draws` (csv.gz), and `manifest`, which says what is in them."""
    spec = job.spec
    judge = ORACLE if isinstance(spec, UpdateEvidence) else REFERENCE
    rows: list[EvidenceRow] = []
    draws: list[DrawRow] = []
    for seed in spec.seeds:
        for scores, scopes in studies(spec, inputs, seed):
            rows += evidence_rows(scores, scopes, seed, judge)
            agreeing = [one for one in scores if one.key.arm != judge]
            n_windows = len(scopes["domain"])
            draws += published_draws(agreeing, n_windows, seed=seed, rng_seeds=spec.rng_seeds, n_chunks=spec.n_chunks)
    write_evidence(outputs, rows, draws, lambda: job.provenance(outputs))


def studies(spec: AtlasEvidence | LawEvidence | UpdateEvidence, inputs: InputFiles, seed: int) -> Iterator[Scored]:
    """Return the scores of a seed's studies, as the kind of claim makes them."""
    if spec.kind == "atlas":
        return atlas.studies(spec, inputs, seed)
    if spec.kind == "scaling_law":
        return budgets.studies(spec, inputs, seed)
    return updates(spec, inputs, seed)


def updates(spec: UpdateEvidence, inputs: InputFiles, seed: int) -> Iterator[Scored]:
    """Yield the scores of every arm, a study per text and dose (an update, or a round of one), backbone by backbone.

    Agreement is measured on the held backbone alone, against the oracle trained on it.
    """
    single = spec.kind == "update"
    doses = [(update, number) for update in spec.updates for number in range(1, spec.rounds + 1)]
    for text in spec.texts:
        states = read_states(inputs[f"before_{text}"], "test")
        module, oracle = (module_of_seed(inputs[f"{role}_{text}"], seed, states) for role in ("source", "oracle"))
        arms = {RAW_BEFORE: None, BEFORE: module, BEFORE_OFF: with_net(module, None), ORACLE_BEFORE: oracle}
        before = plain(arms, states, read_head(inputs["head"], states), spec)
        for update, number in doses:
            study = f"{update}-{text}" if single else f"round{number}-{text}"
            renamed = [Score(one.scope, Key(study, one.key.arm), one.metric, one.values) for one in before]
            yield renamed, {"domain": states}
            yield held(inputs, f"/{update}/held.{number}/", text, seed, module, study, spec)
            free, free_head = updated(inputs, f"/{update}/free.{number}/", text, seed)
            arms = {RAW_FREE: None, ZERO_SHOT_FREE: module}
            yield plain(arms, free, free_head, spec, study), {"domain": free}


def held(
    inputs: InputFiles, place: str, text: str, seed: int, module: AbiModule, study: str, spec: UpdateEvidence
) -> Scored:
    """Return the scores of all arms on the backbone whose update held the module's states.

    Args: place: `/<update>/held.<round>/`.
    """
    states, head = updated(inputs, place, text, seed)
    oracle = module_of_seed(having(inputs["oracles"], place, f"{text}/{ORACLE}"), seed, states)
    untrained = AbiModule(module.config, seed=derive_seed(UNTRAINED, seed)).requires_grad_(False).to(module.device)
    fresh = AbiModule(module.config, seed=derive_seed("placebo", RANDOM_NET, seed, 0))
    arms: dict[str, ArmForm | None] = {
        RAW: None,
        ZERO_SHOT: module,
        ZERO_SHOT_OFF: with_net(module, None),
        RANDOM: untrained,
        RANDOM_OFF: with_net(untrained, None),
        RANDOM_NET: with_net(module, fresh),
        ORACLE: oracle,
        ORACLE_OFF: with_net(oracle, None),
    }
    keys = {Key(study, name): arm for name, arm in arms.items()}
    scopes = {"domain": states}
    return score(keys, oracle, None, scopes, head, windows_per_batch=spec.windows_per_batch), scopes


def plain(
    arms: Mapping[str, ArmForm | None], states: States, head: Head, spec: UpdateEvidence, study: str = ""
) -> list[Score]:
    """Return the losses of some arms on one backbone; no agreement."""
    keys = {Key(study, name): arm for name, arm in arms.items()}
    scopes = {"domain": states}
    return score(keys, None, None, scopes, head, windows_per_batch=spec.windows_per_batch, agree_on=())
