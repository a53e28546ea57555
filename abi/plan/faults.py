"""What a configuration whose files are valid one by one must hold besides: names that exist, budgets that are equal.

Per fault one sentence with file, key, remedy and the closest valid name.
"""

import functools
import json
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from abi.base.files import ROOT, read_regular
from abi.base.regimes import possible_in, required_in
from abi.base.typed import Regime
from abi.base.wording import closest
from abi.plan.scale import GrowingKey, Scale
from abi.plan.specs.arms import FitSection
from abi.plan.specs.judge import ArmsClaim, ClaimSaid
from abi.plan.specs.models import PLACES, BackboneSection, Pretraining
from abi.plan.specs.shared import Phase, Shares

Section = Literal["backbones", "texts", "modules", "updates", "sources", "calibration"]
"""What of a scale has names."""
RULE = r"^(?:use rule step as |rule )(\w+)(?: with)?:"
"""The first line of a rule in `workflow/rules`."""
STORING = ("write_states", "write_updated_states", "write_lesson_text")
"""The rules that run frozen backbones and store their states."""
LAYERS = ("num_decoder_layers", "decoder_layers", "n_layer", "num_hidden_layers", "num_layers")
"""Keys of a model's config that may say how many layers predict, the surest first."""
MOST_CONFIG = 1_000_000
"""Bytes of a model's config.json."""


def unknown(name: str, valid: Collection[str], what: str) -> str:
    """Return that a name is not among the valid ones, in words: `'x' is not a text of scale tiny ...`."""
    article = "an" if what[0] in "aeiou" else "a"
    if not valid:
        return f"{name!r} is not {article} {what}, which has none"
    return f"{name!r} is not {article} {what}{closest(name, valid)} (valid: {', '.join(valid)})"


class Faults:
    """The faults found so far in a configuration.

    Args: scale: of the configuration; fitted, studied: the claims of this scale that others may be about; pending:
        those of other scales; ladders: those about others.
    """

    def __init__(
        self,
        scale: Scale,
        fitted: Mapping[str, ArmsClaim],
        studied: Mapping[str, ClaimSaid],
        pending: Collection[str],
        ladders: Mapping[str, ClaimSaid] | None = None,
    ) -> None:
        self.scale, self.fitted, self.studied, self.pending = scale, fitted, studied, pending
        self.ladders = {} if ladders is None else ladders
        self.sentences: list[str] = []

    def tell(self, sentence: str) -> None:
        """Keep a fault, once."""
        if sentence not in self.sentences:
            self.sentences.append(sentence)

    def known(self, name: str, valid: Iterable[str], where: str, what: str) -> bool:
        """Return whether a name is among the valid ones; tell the closest of them otherwise."""
        names = list(valid)
        if name not in names:
            self.tell(f"{where}: {unknown(name, names, what)}")
        return name in names

    def once(self, values: Sequence[object], where: str) -> None:
        """Tell what stands twice in a list."""
        for value in dict.fromkeys(value for i, value in enumerate(values) if value in values[:i]):
            self.tell(f"{where}: {value} stands there twice; take it out once")

    def of_scale(self, section: Section, name: str, where: str) -> bool:
        """Return as `known` whether a section of the scale has an entry of a name."""
        what = f"{section.removesuffix('s')} of scale {self.scale.scale}"
        return self.known(name, getattr(self.scale, section), where, what)

    def arms(self, arms: list[str], regime: Regime, where: str) -> None:
        """Tell which arms a regime cannot fit, and which it needs and lacks."""
        for arm in arms:
            self.known(arm, possible_in(regime), where, f"arm of {regime}")
        for arm in (arm for arm in required_in(regime) if arm not in arms):
            self.tell(f"{where}: lacks the control arm {arm!r}, without which there is no verdict; add it")

    def module(self, name: str, backbone: str, where: str) -> None:
        """Tell where a module shape is unknown, or does not fit a backbone."""
        made = self.scale.backbones.get(backbone)
        if not self.of_scale("modules", name, where) or made is None:
            return
        module, stored = self.scale.modules[name], {*made.taps, "final"}
        missing = [tap for tap in module.taps if tap not in stored]
        if missing:
            self.tell(
                f"{where}: module {name!r} reads tap {missing[0]}, which {backbone} does not store; "
                f"add it to backbones.{backbone}.taps"
            )
        width, taps = width_of(made), len(module.taps)
        if width is not None and module.d_abi > width * taps:
            self.tell(
                f"config/scales/{self.scale.scale}.yaml: modules.{name}.d_abi: {module.d_abi} is too large for "
                f"{backbone}: {width} wide states of {taps} taps give at most {width * taps}; lower it, or add a "
                "narrower shape under `modules` for the claim"
            )


def width_of(backbone: BackboneSection) -> int | None:
    """Return the width of a backbone, as it is built or declared; None where that is known once it is there."""
    return backbone.width or (backbone.build.width if backbone.build else None)


def check_scale(faults: Faults, where: str) -> None:
    """Tell what a scale names and does not define, and what of it cannot be used together."""
    scale = faults.scale
    if f"{scale.scale}.yaml" != where.rpartition("/")[2]:
        faults.tell(f"{where}: scale: is {scale.scale!r}; write the name of the file")
    if "default" not in scale.jobs.resources:
        faults.tell(f"{where}: jobs: resources needs `default`; add it")
    sized = rules_with_resources()
    for rule, amounts in scale.jobs.resources.items():
        faults.known(rule, ["default", *sorted(sized)], f"{where}: jobs.resources", "rule whose resources a scale sets")
        if amounts.gpu and rule in sized - rules_on_devices():
            faults.tell(f"{where}: jobs.resources.{rule}.gpu: its jobs compute on a CPU; write 0")
        for key in get_args(GrowingKey):
            asked, most = getattr(amounts, key), getattr(scale.jobs.ceiling, key)
            if most is not None and asked > most:
                at = f"{where}: jobs.resources.{rule}.{key}"
                faults.tell(f"{at}: {asked} is above {most}, the ceiling; lower it, or raise `jobs.ceiling.{key}`")
    for rule, own in scale.compute.rules.items():
        at = f"{where}: compute.rules"
        faults.known(rule, sorted(rules_on_devices()), at, "rule that computes on a device")
        if own.given("precision") and rule not in STORING:
            faults.tell(f"{at}.{rule}.precision: no backbone's states are stored there; take it out")
    seeds = scale.evaluation.rng_seeds
    if min(seeds, default=-1) < 0 or len(set(seeds)) < len(seeds) or len(seeds) * scale.evaluation.n_chunks < 2:
        at = f"{where}: evaluation.rng_seeds"
        faults.tell(f"{at}: {seeds} are not two or more draws of different seeds from 0; correct them")
    _check_shares(scale.split, f"{where}: split", faults)
    for name, text in scale.texts.items():
        if text.split is not None:
            _check_shares(text.split, f"{where}: texts.{name}.split", faults)
        faults.of_scale("sources", text.sources, f"{where}: texts.{name}.sources")
        least, most = text.min_bytes_per_document, text.max_bytes_per_document
        if least > most:
            words = f"`min_bytes_per_document` {least} is above `max_bytes_per_document` {most}"
            faults.tell(f"{where}: texts.{name}: {words}; lower it")
    faults.of_scale("texts", scale.alignment.text, f"{where}: alignment.text")
    for name, backbone in scale.backbones.items():
        if sum(getattr(backbone, place) is not None for place in PLACES) != 1:
            faults.tell(f"{where}: backbones.{name}: needs one of {', '.join(f'`{place}`' for place in PLACES)}")
        _check_model(backbone, f"{where}: backbones.{name}", faults)
        if backbone.build is not None:
            faults.of_scale("texts", backbone.build.text, f"{where}: backbones.{name}.build.text")
    for name, module in scale.modules.items():
        faults.once(module.taps, f"{where}: modules.{name}.taps")
    _check_updates(where, faults)
    for name, fit in scale.calibration.items():
        _check_fit(name, fit, f"{where}: calibration.{name}", faults)
    for place, part in _warmed(scale):
        if part.warmup > part.steps:
            words = f"{part.warmup} steps of warm-up are more than its {part.steps} steps"
            faults.tell(f"{where}: {place}: {words}; lower `warmup`")


def _check_updates(where: str, faults: Faults) -> None:
    scale = faults.scale
    for name, update in scale.updates.items():
        at = f"{where}: updates.{name}"
        faults.of_scale("backbones", update.backbone, f"{at}.backbone")
        faults.of_scale("texts", update.text, f"{at}.text")
        for held in update.holds:
            faults.of_scale("texts", held, f"{at}.holds")
        faults.module(update.module, update.backbone, f"{at}.module")
        if name in scale.backbones:
            faults.tell(f"{at}: is the name of a backbone too, and either may be a target; rename the update")


def _warmed(scale: Scale) -> Iterator[tuple[str, Phase | Pretraining]]:
    """Yield place and settings of every part of a training that begins with a warm-up."""
    phases: dict[str, Sequence[Phase]] = {
        **{f"modules.{name}.training": module.training.phases for name, module in scale.modules.items()},
        "portable": scale.portable.phases,
        "portable.placebos": scale.portable.placebos.phases,
        **{f"updates.{name}.training": update.training.phases for name, update in scale.updates.items()},
        **{f"calibration.{name}": fit.phases for name, fit in scale.calibration.items()},
    }
    for place, parts in phases.items():
        yield from ((f"{place}.phases.{i}", part) for i, part in enumerate(parts))
    for name, backbone in scale.backbones.items():
        if backbone.build is not None:
            yield f"backbones.{name}.build.pretraining", backbone.build.pretraining


def _check_shares(shares: Shares, where: str, faults: Faults) -> None:
    total = sum(dict(shares).values())
    if abs(total - 1) > 1e-9:
        faults.tell(f"{where}: the shares sum to {total}, not to 1; correct them")


def _declared(backbone: BackboneSection) -> dict[str, Any]:
    """Return what the config of a model says that is built or lies in a folder; nothing where it cannot be read."""
    if backbone.build is not None:
        return {"model_type": backbone.build.model_type, **backbone.build.config}
    try:
        folder = Path(os.path.expanduser(backbone.folder.path)) if backbone.folder else None
        given = json.loads(read_regular(folder / "config.json", MOST_CONFIG)) if folder else {}
    except (OSError, ValueError, RecursionError):
        return {}
    inner = given.get("text_config") if isinstance(given, dict) else None
    return {**given, **(inner if isinstance(inner, dict) else {})} if isinstance(given, dict) else {}


def scored(backbone: BackboneSection) -> int:
    """Return the scored positions of a window of a backbone."""
    return backbone.window.length - (backbone.window.prefix or 1) - backbone.window.skip


def _check_model(backbone: BackboneSection, where: str, faults: Faults) -> None:
    window, config = backbone.window, _declared(backbone)
    if scored(backbone) <= 0:
        left = window.length - (window.prefix or 1)
        faults.tell(f"{where}.window: skip {window.skip} leaves none of {left} positions; lower it")
    faults.once(backbone.taps, f"{where}.taps")
    layers = next((config[key] for key in LAYERS if isinstance(config.get(key), int)), None)
    for tap in (tap for tap in backbone.taps if layers is not None and tap > layers):
        faults.tell(f"{where}.taps: {tap} is beyond the {layers} layers of the model; lower it")
    limit = config.get("n_positions", config.get("max_position_embeddings"))
    longest = max(window.prefix, window.length - window.prefix)
    relative = "t5" in str(config.get("model_type"))
    if isinstance(limit, int) and longest > limit and not relative:
        faults.tell(
            f"{where}.window: {longest} tokens are more than the {limit} positions of the model; lower `length`"
        )


def _check_fit(name: str, fit: FitSection, where: str, faults: Faults) -> None:
    if name == "ce" and fit.windows is None:
        faults.tell(f"{where}: few-shot needs `windows`, or it sees the whole text; add them")
    if fit.windows is not None and fit.windows != sorted(fit.windows):
        faults.tell(f"{where}.windows: {fit.windows} do not ascend; sort them")
    if max(phase.lr for phase in fit.phases) < 1:
        faults.tell(f"{where}.phases: no phase has the arm's own learning rate; give the fastest `lr: 1.0`")
    if fit.rates != sorted(fit.rates):
        faults.tell(f"{where}.rates: {fit.rates} do not ascend; sort them")
    looked = fit.budgets.steps if fit.budgets else []
    if looked != sorted(looked):
        faults.tell(f"{where}.budgets.steps: {looked} do not ascend; sort them")
    elif looked and looked[0] > 0:
        faults.tell(f"{where}.budgets.steps: {looked} lack 0, which every curve begins with; add it")
    for name in (name for name, variant in fit.variants.items() if not variant.model_fields_set):
        faults.tell(f"{where}.variants.{name}: changes nothing; give it `steps`, `share` or `text`")


@functools.cache
def rule_names() -> frozenset[str]:
    """Return the names of the workflow's rules."""
    return _named_in_rules(RULE)


@functools.cache
def rules_with_resources() -> frozenset[str]:
    """Return the rules whose jobs ask for what the scale says."""
    return _named_in_rules(r'resources_of\(\s*"(\w+)"')


@functools.cache
def rules_on_devices() -> frozenset[str]:
    """Return the rules whose jobs may ask for a GPU."""
    return _named_in_rules(r'resources_of\(\s*"(\w+)",[^)]*"gpu"')


def _named_in_rules(pattern: str) -> frozenset[str]:
    files = [ROOT / "workflow" / "Snakefile", *sorted((ROOT / "workflow" / "rules").glob("*.smk"))]
    return frozenset(
        name for file in files for name in re.findall(pattern, file.read_text(encoding="utf-8"), re.MULTILINE)
    )
