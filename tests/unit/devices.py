"""What test_devices.py runs on a CPU and on a card: every part of the engine that computes, in small."""

from dataclasses import replace

import torch
from made_arms import AS_SCHEDULED, BASE, recipes_of
from scipy.stats import ortho_group

from abi.arms.fitting import Budget, Nets, fit_all
from abi.arms.forms import corrections, load_fitted
from abi.arms.general_lesson import carried_corrections, carried_interface, shift_of
from abi.arms.gradient import Batch, FitData, Lessons, Objective
from abi.arms.lora_fit import train_adapter, write_finals
from abi.arms.metrics import Key, margins, score
from abi.arms.portable_fit import Lesson, Positions, calibrate_placebos, coarser, fit_portable
from abi.arms.rates import tried_rates
from abi.base import compute
from abi.models.attach import generate
from abi.models.attach_any import AttachedAny, attach_any
from abi.models.head import Head
from abi.models.logit_shift import vocabulary_of
from abi.models.loop import Phase, Schedule
from abi.models.lora import adapt, lora_shape
from abi.models.module import AbiModule, ModuleConfig, derive_seed
from abi.models.portable import Placed, PortableConfig, PortableModule, Vocabulary, placebo_of
from abi.models.states import Window
from abi.models.tokenizers import pack
from abi.models.update import UpdateRecipe, general_loss, update

TARGET, SOURCE = ModuleConfig(8, (0, 2), 6, tap_norms=True), ModuleConfig(16, (2,), 6)
SCHEDULE = Schedule([Phase(3, 1e-2)])
IDS = torch.arange(24).reshape(2, 12) + 3


class Bench:
    """Makes states, heads and modules on the device of now, with the numbers that they have on any other."""

    def __init__(self, make_states, make_backbone, texts, folder):
        self.make_states, self.make_backbone, self.texts, self.folder = make_states, make_backbone, texts, folder
        self.device = compute.device()

    def states(self, **made):
        states = self.make_states(**{"name": f"states{len(made)}{made.get('seed', 0)}", **made})
        states.device = self.device
        return states

    def head(self, vocabulary=11, width=8, seed=1):
        rng = torch.Generator().manual_seed(seed)
        weight, bias = torch.randn(vocabulary, width, generator=rng), torch.randn(vocabulary, generator=rng)
        return Head(weight, 0.5, bias).to(self.device)

    def module(self, config, seed):
        module, rng = AbiModule(config, seed), torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter += 0.3 * torch.randn(parameter.shape, generator=rng)
        return module.requires_grad_(False).to(self.device)

    def backbone(self, family, seed=0):
        backbone = self.make_backbone(family, seed=seed)
        backbone.model.to(self.device)
        return backbone

    def nets(self):
        turned = dict(enumerate(("aligned", "own", "other", "home"), start=1))
        rotations = {n: torch.from_numpy(ortho_group.rvs(6, random_state=i)).float() for i, n in turned.items()}
        target = {name: self.module(TARGET, seed) for name, seed in (("home", 3), ("oracle", 2), ("before", 5))}
        return Nets(source=self.module(SOURCE, 1), wrong=self.module(SOURCE, 8), rotations=rotations, **target)

    def lesson(self, net, head):
        """What a source module teaches on positions that both sides have read."""
        rows = torch.arange(60)
        target = self.states().positions(rows)
        source = self.states(width=16, vocabulary=13, seed=4, name="source").positions(rows)
        shift = shift_of(net, source, self.head(13, 16), (torch.arange(9), torch.arange(9) + 2), 11)
        carried = carried_interface(net, source, target, TARGET, 1e-3)
        return FitData(target, head, shift=shift, carried={"source": carried, "other": carried})


def arms(bench, regime, kind, **given):
    """Every arm of a regime, fitted, read back and scored: its losses and metrics."""
    nets, head, states = bench.nets(), bench.head(), bench.states()
    data = FitData(states, head, corrections(nets.oracle, states))
    if regime == "general-only":
        data = bench.lesson(nets.source, head)
        data = replace(data, teacher=carried_corrections(data, 1e-3), held_out=data.select(list(range(20))))
    if regime == "few-shot":
        lesson = bench.lesson(nets.source, head)
        row = torch.arange(72).view(12, 6) % 60
        row[:, 0] = -1
        lessons = Lessons(dict.fromkeys(("source", "wrong", "permuted"), lesson.shift), row)
        data = FitData(states, head, lessons=lessons, carried=lesson.carried)
    budget = Budget(SCHEDULE, Batch(4), Objective(kind, 1.0, 0.5), 1e-3, rates=AS_SCHEDULED, **given)
    folder = bench.folder / regime
    named = {"seed": 1, "folder": folder, "base": BASE, "text": "t", "checkpoints": folder / "checkpoints"}
    entries = fit_all(recipes_of(regime), TARGET, nets, data, budget, **named)
    models = {Key(e.fit, e.arm, e.draw): load_fitted(folder / e.folder).to(bench.device) for e in entries}
    scores = score(models | {Key("", "raw"): None}, nets.oracle, nets.home, {"domain": bench.states(seed=9)}, head)
    found = {f"{one.key} {one.metric}": one.values for one in scores}
    found["losses"] = torch.tensor([entry.final_loss or 0.0 for entry in entries])
    found["margins"] = margins(nets.oracle, states, head)
    return found


def rates(bench):
    """The trials of the rates of a fit by correction."""
    nets, states = bench.nets(), bench.states()
    data = FitData(states, bench.head(), corrections(nets.before, states))
    budget = Budget(SCHEDULE, Batch(5, "positions"), Objective("correction-mse"), 1e-3)
    given = recipes_of("reconstruction"), TARGET, nets, data, data, budget, [1e-2, 1e-1]
    return {name: torch.tensor(values) for name, values in tried_rates(*given, seed=1).items()}


def portable(bench):
    """Portable modules and placebos, trained and scored."""
    vocabulary = Vocabulary([None, "a", "b", "ab", "c", "d", "e", "f", "g", "h", "i"])
    domain, general, head = bench.states(n=40), bench.states(n=40, seed=1, name="general"), bench.head()
    lesson = Lesson(head, Positions(domain, vocabulary, 4), Positions(general, vocabulary, 4),
                    coarser(vocabulary.strings, vocabulary, 3, 0), harm=1.0)  # fmt: skip
    config = PortableConfig(vocabulary.strings, 8, context=4, byte_width=4)
    of = {"transferred": config, "bias": replace(config, domain_net=False)}
    made = {name: PortableModule(shape, 1).to(bench.device) for name, shape in of.items()}
    trained = fit_portable(made, lesson, SCHEDULE, batch=16, seed=1)
    moved = made["transferred"]
    placebos = {arm: placebo_of(moved, arm, 5) for arm in ("random", "permuted")} | {"bias": made["bias"]}
    anchors = vocabulary.longest(moved.config.anchors)
    again = calibrate_placebos(placebos, moved, lesson.general, head, anchors, SCHEDULE, batch=16, seed=1)
    placed = {Key("", name): Placed(module, vocabulary, head.scale) for name, module in (made | placebos).items()}
    scores = score(placed, None, None, {"general": general}, head, agree_on=())
    losses = {name: torch.tensor(course.losses) for name, course in (trained | again).items()}
    return losses | {f"{one.key}": one.values for one in scores}


def lora(bench):
    """An adapter trained by KD, and what it says."""
    backbone, states = bench.backbone("gpt2"), bench.states(width=16, vocabulary=300)
    adapted, window = adapt(backbone, lora_shape(backbone, 400), 1), Window(7, 0, 1)
    oracle = bench.module(ModuleConfig(16, (2,), 6), 3)
    data = FitData(states, backbone.head(), corrections(oracle, states))
    trained = train_adapter(adapted, data, window, Objective("kd"), SCHEDULE, batch=4, seed=1)
    write_finals(adapted.backbone, window, {"domain": states}, bench.folder / "final.safetensors")
    return {"losses": torch.tensor(trained.losses)}


def updated(bench):
    """An update that holds the states of a module."""
    backbone, anchor, window = bench.backbone("gpt2"), bench.backbone("gpt2"), Window(12, 0, 1)
    recipe = UpdateRecipe(Schedule([Phase(4, 5e-3, 2)]), 4, "all", 1.0, 3)
    windows = pack(backbone.tokenizer, bench.texts, window.length)
    done = update(backbone, anchor, windows, window, recipe, modules=[bench.module(ModuleConfig(16, (1, 2), 6), 1)])
    return {"losses": torch.tensor([done.loss_nats, done.stability_mse, general_loss(backbone, windows, window)])}


@torch.no_grad()
def live(bench, family):
    """Modules of both kinds on a live backbone, alone and mixed; ids come from the CPU and go back there."""
    backbone = bench.backbone(family)
    window = Window(12, 5 if backbone.is_encoder_decoder else 0, 1)
    found = {"plain": backbone.logits(IDS, window)}
    module = AbiModule(ModuleConfig(16, (0, 2), 8), 1).requires_grad_(False)  # on the CPU: attaching moves it
    spelled = vocabulary_of(backbone).strings
    placed = PortableModule(PortableConfig(spelled[:40], 8, context=4, byte_width=4), derive_seed("p"))
    with torch.no_grad():
        placed.proj_out.weight.normal_(generator=torch.Generator().manual_seed(0))
    for name, one in (("module", module), ("portable", placed)):
        with attach_any(backbone, one):
            found[name] = backbone.logits(IDS, window)
            found[f"{name} text"] = generate(backbone, IDS, 4)
            found[f"{name} drawn"] = generate(backbone, IDS, 4, temperature=1.5, seed=3)
            assert found[f"{name} drawn"].device == IDS.device
    with AttachedAny(backbone, [(module, 0.5), (placed, 0.5)]):
        found["mixture"] = backbone.logits(IDS, window)
    for name, one in (("module", module), ("portable", placed)):  # as a pipeline of transformers moves it
        late = bench.make_backbone(family)
        with attach_any(late, one.cpu()):
            late.model.to(bench.device)
            found[f"{name} before a move"] = late.logits(IDS, window)
    return {name: value.cpu().float() for name, value in found.items()}


PATHS = {
    "oracle-kd": lambda bench: arms(bench, "oracle-kd", "kd"),
    "reconstruction": lambda bench: arms(bench, "reconstruction", "correction-mse"),
    "general-only": lambda bench: arms(bench, "general-only", "matched"),
    "few-shot": lambda bench: arms(bench, "few-shot", "ce", windows=(4, 8)),
    "rates": rates,
    "portable": portable,
    "lora": lora,
    "update": updated,
    "live gpt2": lambda bench: live(bench, "gpt2"),
    "live qwen2": lambda bench: live(bench, "qwen2"),
    "live t5": lambda bench: live(bench, "t5"),
}
