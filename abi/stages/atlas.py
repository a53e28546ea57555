"""Scores of an atlas: one shared module, one chart per domain solved in closed form, every chart on every domain.

A chart is the `proj_out` that brings the shared module's corrections closest to the domain's native oracle (ridge on that
domain's train text). Source: EXPERIMENTS T2 (least-squares chart).
"""

from collections.abc import Iterator, Mapping
from typing import Any

from abi.evaluation import Key, Score, score
from abi.fitting import Evaluated, FitData, Fitted, LinearMap, Mixture, corrections, derive_seed, solve
from abi.module import AbiModule, with_net
from abi.provenance import Job
from abi.stages.store import module_of_seed, read_head, read_states
from abi.states import States

WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)


def studies(job: Job, inputs: Mapping[str, Any], seed: int) -> Iterator[tuple[list[Score], Mapping[str, States]]]:
    """Yield the scores of every arm per domain: the study is the domain's text."""
    spec = job.spec
    charts = charts_of(inputs, seed, spec)
    for text in spec["texts"]:
        states = read_states(inputs[f"test_{text}"], "test")
        reference, oracle = (module_of_seed(inputs[f"{role}_{text}"], seed, states) for role in ("reference", "oracle"))
        arms: dict[str, Evaluated | None] = {"raw": None, "reference": reference, "oracle": oracle}
        arms |= {"shared": charts["shared"], "chart": charts[f"chart-{text}"], "random": charts[f"random-{text}"]}
        arms["linear"] = charts[f"linear-{text}"]
        for other in (other for other in spec["texts"] if other != text):
            arms[f"chart-of-{other}"] = charts[f"chart-{other}"]
            arms[f"random-of-{other}"] = charts[f"random-{other}"]
        if text in spec.get("mixture", ()):
            arms |= mixtures(charts, spec["mixture"])
        scopes = {"domain": states}
        keys = {Key(text, name): arm for name, arm in arms.items()}
        head = read_head(inputs["head"], states)
        yield score(keys, reference, None, scopes, head, windows_per_batch=spec["windows_per_batch"]), scopes


def charts_of(inputs: Mapping[str, Any], seed: int, spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return `shared`, and per domain `chart-<text>`, `random-<text>` (the shared interface, a fresh net), `linear-<text>`."""
    first = read_states(inputs[f"train_{spec['texts'][0]}"], "train")
    made: dict[str, Any] = {"shared": module_of_seed(inputs["shared"], seed, first)}
    fresh = AbiModule(made["shared"].config, seed=derive_seed("placebo", "random", seed, 0))
    for text in spec["texts"]:
        states = read_states(inputs[f"train_{text}"], "train")
        oracle = module_of_seed(inputs[f"oracle_{text}"], seed, states)
        data = FitData(states, read_head(inputs["head"], states), corrections(oracle, states))
        linear = LinearMap(oracle.config.taps, oracle.config.width)
        linear.standardise(states)
        arms: dict[str, Fitted] = {
            "chart": with_net(made["shared"], made["shared"]), "random": with_net(made["shared"], fresh), "linear": linear,
        }  # fmt: skip
        for name, arm in arms.items():
            arm.requires_grad_(False)
            solve(arm, data, spec["ridge_penalty"])
            made[f"{name}-{text}"] = arm
    return made


def mixtures(charts: Mapping[str, Any], texts: tuple[str, str]) -> dict[str, Evaluated]:
    """Return the mixtures of two charts, `mix-<weight of the first in percent>`."""
    one, other = (charts[f"chart-{text}"] for text in texts)
    return {f"mix-{round(100 * w)}": Mixture([(w, one), (1 - w, other)]) for w in WEIGHTS}
