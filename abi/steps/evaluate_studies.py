"""Job: evidence rows and published draws of a claim made of several studies, for a batch of seeds; `fit` names the study."""

from collections.abc import Iterator, Mapping
from typing import Any

from abi.arms import atlas, budgets
from abi.arms.forms import Evaluated
from abi.arms.scores import Key, Score, evidence_rows, published_draws, score
from abi.base.job import Job
from abi.base.seeds import derive_seed
from abi.judge.evidence_files import COLUMNS, DRAW_COLUMNS, write_csv, write_promise
from abi.models.module import AbiModule, with_net
from abi.models.saved import having, module_of_seed, read_head, read_states, updated
from abi.models.states import Head, States

Scored = tuple[list[Score], Mapping[str, States]]


def run(job: Job, inputs: Mapping[str, Any], outputs: Mapping[str, str]) -> None:
    """Write `evidence` and `draws` (csv.gz), and `manifest`, which says what is in them."""
    spec: dict[str, Any] = dict(job.spec)
    judge = "reference" if spec["kind"] == "atlas" else "oracle"
    studies = {"atlas": atlas.studies, "scaling_law": budgets.studies}.get(spec["kind"], updates)
    rows: list[tuple[Any, ...]] = []
    draws: list[tuple[Any, ...]] = []
    for seed in spec["seeds"]:
        for scores, scopes in studies(job, inputs, seed):
            rows += evidence_rows(scores, scopes, seed, judge)
            agreeing = [one for one in scores if one.key.arm != judge]
            draws += published_draws(
                agreeing, len(scopes["domain"]), seed=seed, rng_seeds=spec["rng_seeds"], n_chunks=spec["n_chunks"]
            )
    write_csv(outputs["evidence"], COLUMNS, rows)
    write_csv(outputs["draws"], DRAW_COLUMNS, draws)
    write_promise(outputs["manifest"], job.provenance())


def updates(job: Job, inputs: Mapping[str, Any], seed: int) -> Iterator[Scored]:
    """Yield the scores of every arm of an update, a study per round and text, backbone by backbone.

    Agreement is measured on the held backbone alone, against the oracle trained on it.
    """
    spec, head = job.spec, inputs["head"]
    for text in spec["texts"]:
        states = read_states(inputs[f"before_{text}"], "test")
        module, oracle = (module_of_seed(inputs[f"{role}_{text}"], seed, states) for role in ("source", "oracle"))
        arms = {
            "raw-before": None, "before": module, "before-off": with_net(module, None), "oracle-before": oracle,
        }  # fmt: skip
        before = plain(arms, states, read_head(head, states), spec)
        for number in range(1, spec["rounds"] + 1):
            study = f"round{number}-{text}"
            yield (
                [Score(one.scope, Key(study, one.key.arm), one.metric, one.values) for one in before],
                {"domain": states},
            )
            yield held(inputs, seed, module, study, spec)
            free, free_head = updated(inputs, f"/free.{number}/", text, seed)
            arms = {"raw-free": None, "zero-shot-free": module}
            yield plain(arms, free, free_head, spec, study), {"domain": free}


def held(inputs: Mapping[str, Any], seed: int, module: AbiModule, study: str, spec: Mapping[str, Any]) -> Scored:
    """Return the scores of all arms on the backbone whose update held the module's states."""
    stage, text = study.split("-", 1)
    place = f"/held.{stage.removeprefix('round')}/"
    states, head = updated(inputs, place, text, seed)
    oracle = module_of_seed(having(inputs["oracles"], place, text), seed, states)
    untrained = AbiModule(module.config, seed=derive_seed("untrained", seed)).requires_grad_(False)
    fresh = AbiModule(module.config, seed=derive_seed("placebo", "random", seed, 0))
    arms: dict[str, Evaluated | None] = {
        "raw": None, "zero-shot": module, "zero-shot-off": with_net(module, None), "random": untrained,
        "random-off": with_net(untrained, None), "random-net": with_net(module, fresh), "oracle": oracle,
        "oracle-off": with_net(oracle, None),
    }  # fmt: skip
    keys = {Key(study, name): arm for name, arm in arms.items()}
    scopes = {"domain": states}
    return score(keys, oracle, None, scopes, head, windows_per_batch=spec["windows_per_batch"]), scopes


def plain(
    arms: Mapping[str, Evaluated | None], states: States, head: Head, spec: Mapping[str, Any], study: str = ""
) -> list[Score]:
    """Return the losses of some arms on one backbone; no agreement."""
    keys = {Key(study, name): arm for name, arm in arms.items()}
    batch = spec["windows_per_batch"]
    return score(keys, None, None, {"domain": states}, head, windows_per_batch=batch, agree_on=())
