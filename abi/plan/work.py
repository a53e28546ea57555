"""The work of a job in FLOP, and what it leaves on disk, from the configuration alone.

Factors of the work that all jobs of a rule share are left out: they cancel where a measured speed of the same rule is
applied.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from abi.base.hub import Sizes
from abi.base.names import LORA
from abi.plan.kinds.base import seeds_of
from abi.plan.specs.arms import FitSection
from abi.plan.specs.models import Build
from abi.plan.specs.shared import PerSplit
from abi.plan.workflow import Workflow

NUMBER = 4
"""Bytes of a number in fp32."""


def built_sizes(build: Build) -> Sizes:
    """Return about the sizes of a backbone that is built: its embedding, and twelve squares of the width per block."""
    keys = ("n_layer", "num_hidden_layers", "num_layers", "num_decoder_layers")
    layers, width = sum(int(build.config.get(key) or 0) for key in keys), build.width or 1
    rows = build.tokenizer.vocab_size
    return Sizes(parameters=rows * width + 12 * max(layers, 1) * width**2, rows=rows, width=width)


@dataclass(frozen=True)
class Work:
    """What the jobs of one configuration cost."""

    workflow: Workflow

    def flop(self, rule: str, wildcards: str) -> float | None:
        """Return the work of a job that grows with the models, None of any other job or of a model of unknown size."""
        return self._counted(RULES.get(rule), wildcards)

    def stored(self, rule: str, wildcards: str) -> float | None:
        """Return the bytes of states and weights that a job leaves on disk, None where nothing tells."""
        return self._counted(STORED.get(rule), wildcards)

    def _counted(self, count: Callable[..., float] | None, wildcards: str) -> float | None:
        """Return what a job comes to, None of a rule that is not counted, or where a size is not known."""
        words = wildcards.split(".")
        if count is None or len(words) != len(inspect.signature(count).parameters) - 1:
            return None  # or a job that is called otherwise now
        try:
            return float(count(self, *words))
        except (KeyError, ValueError):  # a model whose sizes were never pinned; seeds that are called otherwise now
            return None

    def sizes(self, backbone: str) -> Sizes:
        """Return the sizes of a backbone, or of the one an update starts from. Raises: KeyError: they are unknown."""
        made = self.workflow.base_of(backbone)
        found = made.hub.sizes if made.hub else built_sizes(made.build) if made.build else made.sizes
        if found is None:
            raise KeyError(backbone)
        return found

    def states(self, backbone: str, windows: int, taps: int = 1) -> int:
        """Return the bytes of the states of a backbone in some windows. Args: taps: how many of each position."""
        return windows * self.positions(backbone) * self.sizes(backbone).width * taps * NUMBER

    def taps(self, backbone: str) -> int:
        """Return how many states of a position are stored: those of its blocks, and the final one."""
        return len(self.workflow.base_of(backbone).taps) + 1

    def windows(self, text: str, *splits: str) -> int:
        """Return the windows of a text, of some splits or of all."""
        most = self.workflow.scale.texts[text].max_windows
        return sum(getattr(most, split) for split in splits or PerSplit.model_fields)

    def positions(self, backbone: str) -> int:
        """Return the predicted positions of a window."""
        window = self.workflow.base_of(backbone).window
        return window.length - (window.prefix or 1)

    def tokens(self, backbone: str, text: str, *splits: str) -> int:
        """Return the tokens of a text's windows."""
        return self.windows(text, *splits) * self.workflow.base_of(backbone).window.length

    def numbers(self, backbone: str, shape: str) -> int:
        """Return how many numbers the matrices of a module hold."""
        made = self.workflow.scale.modules[shape]
        interface = made.d_abi * self.sizes(backbone).width * (len(made.taps) + 1)
        return interface + 2 * made.expansion * made.d_abi**2

    def module(self, backbone: str, shape: str) -> float:
        """Return the work of a module on one position: forward, and twice that backward."""
        return 6.0 * self.numbers(backbone, shape)

    def head(self, backbone: str) -> float:
        """Return the work of a head on one position, once forward."""
        sizes = self.sizes(backbone)
        return 2.0 * sizes.rows * sizes.width

    def seen(self, backbone: str, training: Any, steps: int | None = None) -> int:
        """Return the positions that a training run or a fit reads."""
        steps = sum(phase.steps for phase in training.phases) if steps is None else steps
        read = 1 if training.batch_of == "positions" else self.positions(backbone)
        return int(steps * training.batch * read)

    def trained(self, backbone: str, shape: str, batch: str) -> float:
        """Return the work of native modules of a batch of seeds."""
        a_position = self.module(backbone, shape) + 2 * self.head(backbone)
        return len(seeds_of(batch)) * self.seen(backbone, self.workflow.scale.modules[shape].training) * a_position

    def fit(self, claim_id: str) -> FitSection:
        """Return the budget of a claim's arms. Raises: KeyError: they are placed as they are."""
        fits = cast(Mapping[str, FitSection], self.workflow.scale.calibration)
        return fits[self.workflow.config.claims[claim_id].fit]

    def fitted(self, claim_id: str, *, steps: int | None = None) -> float:
        """Return the work of fitting one arm of a claim once: student and teacher go through the head."""
        claim = self.workflow.config.claims[claim_id]
        fit = self.fit(claim_id)
        heads = 0.0 if claim.fit == "correction-mse" else 3 * self.head(claim.target)
        runs = len(fit.windows or [0])
        return runs * self.seen(claim.target, fit, steps) * (self.module(claim.target, claim.module) + heads)

    def by_gradient(self, claim_id: str, batch: str) -> int:
        """Return how many seeds of a batch have more than the closed form, whose work is small; at least one."""
        return max(1, sum(seed <= self.workflow.config.seeds(claim_id) for seed in seeds_of(batch)))


def _states(work: Work, backbone: str, text: str) -> float:
    return 2.0 * work.sizes(backbone).parameters * work.tokens(backbone, text)


def _splits(way: str) -> Sequence[str]:
    """Return the splits whose states an updated backbone has: modules are trained on the held one alone."""
    return ("train", "test") if way == "held" else ("test",)


def _updated_states(work: Work, update: str, way: str, _: str, text: str, batch: str) -> float:
    return 2.0 * work.sizes(update).parameters * work.tokens(update, text, *_splits(way)) * len(seeds_of(batch))


def _modules(work: Work, backbone: str, text: str, shape: str, role: str, batch: str) -> float:
    return work.trained(backbone, shape, batch)


def _updated_modules(work: Work, update: str, way: str, _: str, text: str, role: str, batch: str) -> float:
    return work.trained(update, work.workflow.scale.updates[update].module, batch)


def _update(work: Work, update: str, way: str, _: str, batch: str) -> float:
    made = work.workflow.scale.updates[update]
    tokens = (
        sum(p.steps for p in made.training.phases) * made.training.batch * work.workflow.base_of(update).window.length
    )
    return (8.0 if way == "held" else 6.0) * work.sizes(update).parameters * tokens * len(seeds_of(batch))


def _alignment(work: Work, claim_id: str, batch: str) -> float:
    claim, scale = work.workflow.config.claims[claim_id], work.workflow.scale
    width = work.sizes(claim.source).width + work.sizes(claim.target).width
    return 2.0 * scale.alignment.max_rows * width * scale.modules[claim.module].d_abi * len(seeds_of(batch))


def _rates(work: Work, claim_id: str) -> float:
    claim = work.workflow.config.claims[claim_id]
    rates = work.fit(claim_id).rates
    adapters = _adapters(work, claim_id, "0-0") if LORA in claim.arms else 0.0
    return len(rates) * (len(claim.arms) * work.fitted(claim_id) + adapters)


def _arms(work: Work, claim_id: str, batch: str) -> float:
    claim = work.workflow.config.claims[claim_id]
    variants = [work.fit(claim_id).variants[name] for name in claim.variants]
    one = work.fitted(claim_id) + sum(work.fitted(claim_id, steps=variant.steps) for variant in variants)
    return work.by_gradient(claim_id, batch) * len(claim.arms) * one


def _adapters(work: Work, claim_id: str, batch: str) -> float:
    claim = work.workflow.config.claims[claim_id]
    fit = work.fit(claim_id)
    seen = len(fit.windows or [0]) * work.seen(claim.target, fit)
    return 6.0 * work.sizes(claim.target).parameters * seen * len(seeds_of(batch))


def _evaluated(work: Work, claim_id: str) -> int:
    """Return the windows that arms are evaluated on: held out of the domain and of general text, and trained on."""
    both = (work.workflow.config.claims[claim_id].text, work.workflow.general)
    return sum(work.windows(text, "test") for text in both) + work.workflow.scale.evaluation.training_windows


def _evidence(work: Work, claim_id: str, batch: str) -> float:
    claim = work.workflow.config.claims[claim_id]
    windows, arms = _evaluated(work, claim_id), len(claim.arms) * (1 + len(claim.variants))
    return work.by_gradient(claim_id, batch) * arms * windows * work.positions(claim.target) * work.head(claim.target)


def _lesson(work: Work, claim_id: str, batch: str) -> float:
    claim, windows = work.workflow.config.claims[claim_id], _written(work, claim_id, batch)
    both: Sequence[str] = (claim.source, claim.source, claim.target)  # the source writes and reads it
    lengths = {name: work.workflow.base_of(name).window.length for name in both}
    return sum(2.0 * work.sizes(name).parameters * windows * lengths[name] for name in both)


def _written(work: Work, claim_id: str, batch: str) -> int:
    """Return the windows of text that a source writes for a batch of seeds."""
    made = work.fit(claim_id).written
    if made is None:  # a job of a run before the configuration was edited
        raise KeyError(f"{claim_id}: its source writes no text")
    return (made.documents.train + made.documents.calibration) * made.sequences * len(seeds_of(batch))


def _portable(work: Work, backbone: str, text: str, batch: str) -> float:
    made = work.workflow.scale.portable  # whose steps read positions
    return len(seeds_of(batch)) * sum(phase.steps for phase in made.phases) * made.batch * 2 * work.head(backbone)


def _placebos(work: Work, claim_id: str, batch: str) -> float:
    target = work.workflow.config.claims[claim_id].target
    return len(seeds_of(batch)) * work.seen(target, work.workflow.scale.portable.placebos) * 2 * work.head(target)


RULES: Mapping[str, Callable[..., float]] = {
    "write_states": _states,
    "write_updated_states": _updated_states,
    "train_modules": _modules,
    "train_updated_modules": _updated_modules,
    "update_backbone": _update,
    "fit_alignment": _alignment,
    "choose_rates": _rates,
    "calibrate_arms": _arms,
    "train_lora": _adapters,
    "evaluate_arms": _evidence,
    "write_lesson_text": _lesson,
    "train_portable": _portable,
    "calibrate_placebos": _placebos,
}
"""Rule -> work of a job, by the words of its benchmark's name."""


def _left_states(work: Work, backbone: str, text: str) -> float:
    return work.states(backbone, work.windows(text), work.taps(backbone))


def _left_updated_states(work: Work, update: str, way: str, _: str, text: str, batch: str) -> float:
    windows = work.windows(text, *_splits(way)) * len(seeds_of(batch))
    return work.states(update, windows, work.taps(update))


def _left_update(work: Work, update: str, way: str, _: str, batch: str) -> float:
    sizes = work.sizes(update)
    return len(seeds_of(batch)) * NUMBER * (sizes.parameters + sizes.rows * sizes.width)  # its head is kept apart, too


def _left_modules(work: Work, backbone: str, text: str, shape: str, role: str, batch: str) -> float:
    return len(seeds_of(batch)) * NUMBER * work.numbers(backbone, shape)


def _left_updated_modules(work: Work, update: str, way: str, _: str, text: str, role: str, batch: str) -> float:
    return _left_modules(work, update, text, work.workflow.scale.updates[update].module, role, batch)


def _left_arms(work: Work, claim_id: str, batch: str) -> float:
    claim = work.workflow.config.claims[claim_id]
    fits = len(work.fit(claim_id).windows or []) or 2 + len(claim.variants)  # by gradient, and in closed form
    return len(claim.arms) * fits * _left_modules(work, claim.target, claim.text, claim.module, "arm", batch)


def _left_adapters(work: Work, claim_id: str, batch: str) -> float:
    claim = work.workflow.config.claims[claim_id]
    fits = len(work.fit(claim_id).windows or []) or 1 + len(claim.variants)
    return work.states(claim.target, _evaluated(work, claim_id) * fits * len(seeds_of(batch)))


def _left_lesson(work: Work, claim_id: str, batch: str) -> float:
    claim, windows = work.workflow.config.claims[claim_id], _written(work, claim_id, batch)
    return sum(work.states(name, windows, work.taps(name)) for name in (claim.source, claim.target))


def _left_backbone(work: Work, backbone: str) -> float:
    """One of the hub is copied as it is, one of wheels converted to fp32."""
    hub = work.workflow.config.scale.backbones[backbone].hub
    if hub is not None and hub.files:
        return sum(file.bytes for file in hub.files.values())
    return NUMBER * work.sizes(backbone).parameters


STORED: Mapping[str, Callable[..., float]] = {
    "build_backbone": _left_backbone,
    "write_states": _left_states,
    "write_updated_states": _left_updated_states,
    "update_backbone": _left_update,
    "train_modules": _left_modules,
    "train_updated_modules": _left_updated_modules,
    "calibrate_arms": _left_arms,
    "train_lora": _left_adapters,
    "write_lesson_text": _left_lesson,
}
"""Rule -> bytes of what a job leaves, by the words of its benchmark's name; what is small is not counted."""
