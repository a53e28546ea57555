"""Scores of an atlas: one shared module, one chart per domain solved in closed form, every chart on every domain.

A chart is the `proj_out` that brings the shared module's corrections closest to the domain's native oracle (ridge on
that domain's train text): the least-squares chart of `docs/experiments.md`, T2.
"""

from collections.abc import Iterator
from dataclasses import replace

from abi.arms.closed_form import narrowed, solve
from abi.arms.forms import ArmForm, Corrector, LinearMap, Mixture, corrections
from abi.arms.gradient import FitData
from abi.arms.metrics import Key, Score, score
from abi.base.job import InputFiles
from abi.base.names import (
    CHART,
    CHART_OF,
    LINEAR,
    LINEAR_NARROW,
    MIXED,
    ORACLE,
    PERMUTED,
    RANDOM,
    RANDOM_OF,
    RAW,
    REFERENCE,
    SHARED,
)
from abi.models.module import AbiModule, derive_seed, permuted, with_net
from abi.models.saved import module_of_seed, read_head, read_states
from abi.models.states import States
from abi.plan.specs.studies import AtlasEvidence

PLACEBOS, DRAWS = (RANDOM, PERMUTED), 3
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)


def studies(spec: AtlasEvidence, inputs: InputFiles, seed: int) -> Iterator[tuple[list[Score], dict[str, States]]]:
    """Yield the scores of every arm per domain: the study is the domain's text."""
    first = read_states(inputs[f"train_{spec.texts[0]}"], "train")
    shared = module_of_seed(inputs["shared"], seed, first)
    charts = charts_of(spec, inputs, seed, shared)
    for text in spec.texts:
        states = read_states(inputs[f"test_{text}"], "test")
        reference, oracle = (module_of_seed(inputs[f"{role}_{text}"], seed, states) for role in (REFERENCE, ORACLE))
        own = charts[text]
        arms: dict[str, ArmForm | None] = {RAW: None, REFERENCE: reference, ORACLE: oracle}
        arms |= {SHARED: shared, CHART: own[CHART, 0]}
        arms |= {name: own[name, 0] for name in (LINEAR, LINEAR_NARROW)}
        for other in (other for other in spec.texts if other != text):
            arms[f"{CHART_OF}{other}"] = charts[other][CHART, 0]
            arms[f"{RANDOM_OF}{other}"] = charts[other][RANDOM, 0]
        if text in spec.mixture:
            arms |= mixtures(*(charts[name][CHART, 0] for name in spec.mixture))
        keys = {Key(text, name): arm for name, arm in arms.items()}
        keys |= {Key(text, name, draw): own[name, draw] for name in PLACEBOS for draw in range(DRAWS)}
        head, scopes = read_head(inputs["head"], states), {"domain": states}
        yield score(keys, reference, None, scopes, head, windows_per_batch=spec.windows_per_batch), scopes


def charts_of(
    spec: AtlasEvidence, inputs: InputFiles, seed: int, shared: AbiModule
) -> dict[str, dict[tuple[str, int], Corrector]]:
    """Return domain -> (arm, draw) -> what is solved on it: `chart`, the placebos (charts around another net, all with
    the interface of the shared module), `linear`, and the same cut to the rank that a chart's map has.
    """
    nets = {(name, draw): placebo(shared, name, seed, draw) for name in PLACEBOS for draw in range(DRAWS)}
    made = {}
    for text in spec.texts:
        states = read_states(inputs[f"train_{text}"], "train")
        oracle = module_of_seed(inputs[f"{ORACLE}_{text}"], seed, states)
        data = FitData(states, read_head(inputs["head"], states)).at_most(spec.closed_form_rows)
        data = replace(data, teacher=corrections(oracle, data.states))
        linear = LinearMap(oracle.config.taps, oracle.config.width).to(oracle.device)
        linear.standardise(data.states)
        own: dict[tuple[str, int], Corrector] = {(CHART, 0): with_net(shared, shared), (LINEAR, 0): linear}
        own |= {key: with_net(shared, net) for key, net in nets.items()}
        for arm in own.values():
            arm.requires_grad_(False)
            solve(arm, data, spec.ridge_penalty)
        own[LINEAR_NARROW, 0] = narrowed(linear, data, shared.config.d_abi)
        made[text] = own
    return made


def placebo(shared: AbiModule, name: str, seed: int, draw: int) -> AbiModule:
    """Return a module that holds a placebo's net: a fresh one, or the shared module's permuted."""
    if name == RANDOM:
        return AbiModule(shared.config, seed=derive_seed("placebo", name, seed, draw))
    return permuted(shared, seed, draw)


def mixtures(one: Corrector, other: Corrector) -> dict[str, ArmForm]:
    """Return the mixtures of two charts, `mix-<weight of the first in percent>`."""
    return {f"{MIXED}{round(100 * w)}": Mixture([(w, one), (1 - w, other)]) for w in WEIGHTS}
