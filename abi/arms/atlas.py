"""Scores of an atlas: one shared module, one chart per domain solved in closed form, every chart on every domain.

A chart is the `proj_out` that brings the shared module's corrections closest to the domain's native oracle (ridge on that
domain's train text). Source: EXPERIMENTS T2 (least-squares chart).
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch

from abi.arms.closed_form import solve
from abi.arms.data import FitData
from abi.arms.forms import Evaluated, Fitted, LinearMap, Mixture, corrections
from abi.arms.scores import Key, Score, score
from abi.base.job import Job
from abi.base.seeds import derive_seed
from abi.models.module import AbiModule, permute_domain_net, with_net
from abi.models.saved import module_of_seed, read_head, read_states
from abi.models.states import States

PLACEBOS, DRAWS = ("random", "permuted"), 3
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)


def studies(job: Job, inputs: Mapping[str, Any], seed: int) -> Iterator[tuple[list[Score], Mapping[str, States]]]:
    """Yield the scores of every arm per domain: the study is the domain's text."""
    spec = job.spec
    charts = charts_of(inputs, seed, spec)
    for text in spec["texts"]:
        states = read_states(inputs[f"test_{text}"], "test")
        reference, oracle = (module_of_seed(inputs[f"{role}_{text}"], seed, states) for role in ("reference", "oracle"))
        arms: dict[str, Evaluated | None] = {"raw": None, "reference": reference, "oracle": oracle}
        arms |= {"shared": charts["shared"], "chart": charts[f"chart-{text}"], "linear": charts[f"linear-{text}"]}
        for other in (other for other in spec["texts"] if other != text):
            arms[f"chart-of-{other}"] = charts[f"chart-{other}"]
            arms[f"random-of-{other}"] = charts[f"random-{other}", 0]
        if text in spec.get("mixture", ()):
            arms |= mixtures(charts, spec["mixture"])
        scopes = {"domain": states}
        keys = {Key(text, name): arm for name, arm in arms.items()}
        for name in PLACEBOS:
            keys |= {Key(text, name, draw): charts[f"{name}-{text}", draw] for draw in range(DRAWS)}
        head = read_head(inputs["head"], states)
        yield score(keys, reference, None, scopes, head, windows_per_batch=spec["windows_per_batch"]), scopes


def charts_of(inputs: Mapping[str, Any], seed: int, spec: Mapping[str, Any]) -> dict[Any, Any]:
    """Return `shared`, and per domain `chart-<text>`, `linear-<text>`, and of every placebo (`random-<text>`, draw).

    All charts share the interface of the shared module; a placebo has a fresh net or the shared one's permuted.
    """
    first = read_states(inputs[f"train_{spec['texts'][0]}"], "train")
    shared = module_of_seed(inputs["shared"], seed, first)
    nets = {(name, draw): placebo(shared, name, seed, draw) for name in PLACEBOS for draw in range(DRAWS)}
    made: dict[Any, Any] = {"shared": shared}
    for text in spec["texts"]:
        states = read_states(inputs[f"train_{text}"], "train")
        oracle = module_of_seed(inputs[f"oracle_{text}"], seed, states)
        data = FitData(states, read_head(inputs["head"], states)).at_most(spec["closed_form_rows"])
        data = replace(data, teacher=corrections(oracle, data.states))
        linear = LinearMap(oracle.config.taps, oracle.config.width)
        linear.standardise(data.states)
        arms: dict[Any, Fitted] = {f"chart-{text}": with_net(shared, shared), f"linear-{text}": linear}
        arms |= {(f"{name}-{text}", draw): with_net(shared, net) for (name, draw), net in nets.items()}
        for arm in arms.values():
            arm.requires_grad_(False)
            solve(arm, data, spec["ridge_penalty"])
        made |= arms
    return made


def placebo(shared: AbiModule, name: str, seed: int, draw: int) -> AbiModule:
    """Return a module that holds a placebo's net: a fresh one, or the shared module's permuted."""
    if name == "random":
        return AbiModule(shared.config, seed=derive_seed("placebo", name, seed, draw))
    permuted = with_net(shared, shared)
    permute_domain_net(permuted, torch.Generator().manual_seed(derive_seed("permutation", seed, draw)))
    return permuted


def mixtures(charts: Mapping[str, Any], texts: tuple[str, str]) -> dict[str, Evaluated]:
    """Return the mixtures of two charts, `mix-<weight of the first in percent>`."""
    one, other = (charts[f"chart-{text}"] for text in texts)
    return {f"mix-{round(100 * w)}": Mixture([(w, one), (1 - w, other)]) for w in WEIGHTS}
