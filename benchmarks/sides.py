"""Both sides of a fit on the same windows: the engine on stored states, and the original's loop on the live model."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from unittest import mock

import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from abi.arms.forms import corrections
from abi.arms.gradient import Batch, FitData, Objective, fit_gradients
from abi.base.manifests.states import StatesManifest
from abi.models.head import Head
from abi.models.loop import BatchOrder, Member, Phase, Schedule, Trained
from abi.models.module import AbiModule, ModuleConfig
from abi.models.states import States
from benchmarks import reference, timing

SEED = 3


@dataclass(frozen=True)
class Shape:
    """What is fitted on what. Args: layers: of each half of a T5, whose encoder reads `prefix` tokens; positions: per
    window; batch: windows of a step, in `micro` equal parts for the original's loop; teacher_abi: width of the teacher,
    the student's if None.
    """

    kind: str
    vocabulary: int
    width: int = 256
    layers: int = 6
    positions: int = 128
    prefix: int = 0
    taps: tuple[int, ...] = (6,)
    d_abi: int = 64
    teacher_abi: int | None = None
    tap_norms: bool = False
    batch: int = 4
    micro: int = 1
    weight_decay: float = 0.01
    rate: float = 1e-4

    def model(self) -> reference.Model:
        """Return a frozen random model, the same at every call."""
        heads = max(1, self.width // 64)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            if self.prefix:
                sizes = {"d_model": self.width, "d_kv": self.width // heads, "d_ff": 4 * self.width, "num_heads": heads}
                sizes |= {"num_layers": self.layers, "num_decoder_layers": self.layers, "vocab_size": self.vocabulary}
                config = transformers.T5Config(**sizes, decoder_start_token_id=0, tie_word_embeddings=True)
                model = transformers.T5ForConditionalGeneration(config)
            else:
                sizes = {"n_embd": self.width, "n_layer": self.layers, "n_head": heads, "vocab_size": self.vocabulary}
                sizes |= {"bos_token_id": 0, "eos_token_id": 0}
                model = transformers.GPT2LMHeadModel(
                    transformers.GPT2Config(**sizes, n_positions=max(256, self.positions))
                )
        return reference.Model(model.eval().requires_grad_(False), self.prefix)

    def modules(self) -> tuple[AbiModule, AbiModule | None]:
        """Return a student and a frozen teacher, which a `ce` has not."""
        student = AbiModule(ModuleConfig(self.width, self.taps, self.d_abi, tap_norms=self.tap_norms), 1)
        if self.kind == "ce":
            return student, None
        teacher = AbiModule(ModuleConfig(self.width, self.taps[-1:], self.teacher_abi or self.d_abi), 2)
        return student, teacher.requires_grad_(False)

    def windows(self, n: int) -> Tensor:
        """Return random windows `[n, length]`."""
        length = self.prefix + self.positions + (not self.prefix)
        return torch.randint(1, self.vocabulary, (n, length), generator=torch.Generator().manual_seed(4))


def copied(module: AbiModule) -> reference.Module:
    """Return the reference's module with the numbers of an engine's."""
    shape = module.config
    found = reference.Module(shape.width, shape.taps, shape.d_abi, tap_norms=shape.tap_norms)
    found.load_state_dict({name: value for name, value in module.state_dict().items() if name != "rotation"})
    return found.requires_grad_(module.proj_in.weight.requires_grad)


@torch.no_grad()
def stored(model: reference.Model, tokens: Tensor, taps: Sequence[int], path: Path, batch: int = 16) -> States:
    """Return the states of a model on windows, from one pass."""
    passes = [model.hidden(part) for part in tokens.split(batch)]
    final = len(passes[0]) - 1
    tensors = {f"tap.{tap}": torch.cat([hidden[tap] for hidden in passes]) for tap in {*taps, final}}
    n, positions, width = tensors[f"tap.{final}"].shape
    tensors |= {"tokens": tokens.int(), "targets": model.targets(tokens).int().contiguous()}
    tensors |= {name: torch.ones(n, positions, dtype=torch.int32) for name in ("target_bytes", "char_end")}
    save_file(tensors | {"document": torch.zeros(n, dtype=torch.int32)}, path)
    manifest = StatesManifest.model_construct(
        n_windows=n,
        length=tokens.shape[1],
        positions=positions,
        width=width,
        taps=sorted(taps),
        final_tap=final,
        skip=0,
        documents=["d"],
        groups=["g"],
    )
    return States(path, manifest)


@dataclass
class Turns:
    """CPU seconds of every step: of the engine and, where asked for, of the original's loop and a matrix product."""

    engine: list[float] = field(default_factory=list)
    reference: list[float] = field(default_factory=list)
    without_dropout: list[float] = field(default_factory=list)
    product: list[float] = field(default_factory=list)
    flop: int = 0
    """Of the matrix products of one step of the engine."""

    @property
    def middle(self) -> dict[str, float]:
        """The median seconds of everything that took turns."""
        return timing.medians({name: spent for name, spent in vars(self).items() if name != "flop" and spent})


@dataclass
class Sides:
    """A shape with its model, its windows and the states of these."""

    shape: Shape
    model: reference.Model
    states: States

    @classmethod
    def of(cls, shape: Shape, n: int, folder: Path) -> "Sides":
        """Return both sides on n windows. Args: folder: of the states."""
        model = shape.model()
        return cls(
            shape, model, stored(model, shape.windows(n), shape.taps, folder / f"{shape.kind}.{shape.vocabulary}")
        )

    @property
    def data(self) -> FitData:
        """What the engine reads."""
        _, teacher = self.shape.modules()
        head = Head(self.model.model.lm_head.weight.detach(), self.model.scale)
        return FitData(self.states, head, None if teacher is None else corrections(teacher, self.states))

    def members(self, steps: int, arms: int = 1) -> tuple[list[AbiModule], list[Member]]:
        """Return students with what of them trains: everything."""
        schedule = Schedule([Phase(steps, self.shape.rate)], self.shape.weight_decay, reference.CLIP)
        students = [self.shape.modules()[0] for _ in range(arms)]
        return students, [Member(f"arm {i}", dict(s.named_parameters()), schedule) for i, s in enumerate(students)]

    def fit(
        self, steps: int, *, arms: int = 1, data: FitData | None = None, **options
    ) -> tuple[list[AbiModule], list[Trained]]:
        """Return students fitted by the engine, and their losses."""
        students, members = self.members(steps, arms)
        batch, objective = (
            Batch(self.shape.batch),
            Objective(self.shape.kind, reference.TEMPERATURE, reference.KD_WEIGHT),
        )
        given = data or self.data
        return students, fit_gradients(students, members, given, objective, batch=batch, seed=SEED, **options)

    def training(self, *, dropout: bool) -> reference.Training:
        """Return the original's loop of the same student."""
        student, teacher = self.shape.modules()
        taught, shape = None if teacher is None else copied(teacher), self.shape
        return reference.Training(
            self.model,
            copied(student),
            taught,
            shape.kind,
            rate=shape.rate,
            weight_decay=shape.weight_decay,
            dropout=dropout,
        )

    def micro_batches(self, step: int) -> Sequence[Tensor]:
        """Return the windows of a step of the engine, in the parts of the original's loop."""
        order = BatchOrder(len(self.states), self.shape.batch, SEED)
        return self.states.tokens(order[step]).long().chunk(self.shape.micro)

    def turns(self, rounds: int, *, arms: int = 1, against: bool = True) -> Turns:
        """Time steps of the engine; between any two of them, those of the original's loop and a product.

        Args: against: whether the original's loop takes turns, too. The first step of everything is not counted.
        """
        found, product, data, began = Turns(), timing.product(), self.data, 0.0
        loops = [self.training(dropout=dropout) for dropout in (True, False)] if against else []

        def between(done: int) -> None:
            nonlocal began
            if done:
                found.engine.append(time.process_time() - began)
            if done <= rounds:
                found.product.append(timing.seconds_of(product))
                for loop, spent in zip(loops, (found.reference, found.without_dropout), strict=False):
                    parts = self.micro_batches(done)
                    spent.append(timing.seconds_of(lambda loop=loop, parts=parts: loop.step(parts)))
            began = time.process_time()

        self.fit(rounds + 1, arms=arms, data=data, before_step=between)
        # The counter knows products of torch alone, and not those of oneDNN.
        by_torch = mock.patch("abi.models.products._product", None)
        with by_torch, FlopCounterMode(display=False) as counter:
            self.fit(1, arms=arms, data=data)
        counted = [found.engine, found.reference, found.without_dropout, found.product]
        return replace(Turns(*(spent[1:] for spent in counted)), flop=counter.get_total_flops())
