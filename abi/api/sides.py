"""A model and its tokenizer, as a user holds them, made one side of a transfer: backbone, head, window, states."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from abi.api.defaults import SALT, SHARES, whole, window_for
from abi.api.kept import Keep, room
from abi.api.modules import Origin
from abi.api.progress import part, pass_seconds, warn
from abi.api.texts import of_split
from abi.base.errors import DataError
from abi.base.files import sha256_file
from abi.base.job import Job
from abi.base.manifests.backbones import BackboneManifest
from abi.base.manifests.states import BaseFacts, StatesManifest
from abi.base.manifests.texts import Shares
from abi.base.typed import Provenance, Split, Typed
from abi.models.attach import Marks
from abi.models.backbone import Backbone
from abi.models.described import describe_backbone
from abi.models.head import Head
from abi.models.logit_shift import vocabulary_of
from abi.models.portable import Vocabulary
from abi.models.probe import admit, attachment, evaluating, require_lossless
from abi.models.states import States, Window, write_states
from abi.models.tokenizers import beyond, untrimmed
from abi.models.windows import windows_of
from abi.plan.specs.models import WriteStates
from abi.plan.specs.shared import PerSplit
from abi.plan.specs.shared import Window as WindowSection
from abi.text.documents import Document, assignment_sha256

Pair = tuple[Any, Any] | Backbone
"""A model of transformers and its tokenizer, or both as a `Backbone`."""
LEAST_WINDOW = 16
"""Fewest tokens of a window."""
MOST_WINDOWS = PerSplit(train=1400, calibration=240, test=400)
"""Of a text, spread evenly over its documents."""
MOST_GENERAL = PerSplit(train=600, calibration=100, test=160)

MOST_UNNAMED = 0.9
"""Share of a model's rows that its own tokenizer names at least; published ones leave up to a fiftieth as room."""

_TOKENIZERS: "WeakKeyDictionary[nn.Module, tuple[Any, str, Any]]" = WeakKeyDictionary()
"""Model -> its tokenizer, what that said of itself, and the copy of it that abi reads with."""


def backbone_of(model: Any, tokenizer: Any = None) -> Backbone:
    """Return a model as a backbone; a `Backbone` itself. The tokenizer is copied, the model is not.

    Args: tokenizer: None: the one last given with the model, else the one that lies where it was loaded from.
    Raises: DataError: the model is none of transformers, or has adapters of PEFT around it; or there is no tokenizer.
    """
    if isinstance(model, Backbone):
        return model
    model = plain_model(model)
    known, said, own = _TOKENIZERS.get(model, (None, "", None))
    if own is not None and (tokenizer is None or tokenizer is known) and said == _said(known):
        return Backbone(model, own)
    tokenizer = known if tokenizer is None else tokenizer
    if tokenizer is None:
        tokenizer = _tokenizer_beside(model)
    if not hasattr(tokenizer, "get_vocab"):
        raise DataError(
            f"tokenizer: a {type(tokenizer).__name__} is no tokenizer of transformers; load it with AutoTokenizer"
        )
    own = untrimmed(copy.deepcopy(tokenizer))
    rows = Backbone(model, own).embeddings_out.weight.shape[0]
    if beyond(own, rows):
        raise DataError(
            f"tokenizer: it has {len(own)} tokens, the model {rows}; they do not belong together, give the model's own"
        )
    if len(own) < MOST_UNNAMED * rows:
        warn(f"tokenizer: it has {len(own)} tokens and the model {rows} rows; is it the model's own?")
    _TOKENIZERS[model] = tokenizer, _said(tokenizer), own
    return Backbone(model, own)


def plain_model(model: Any) -> nn.Module:
    """Return the model that hooks belong on.

    Raises: DataError: it is none of transformers, or has adapters of PEFT around it.
    """
    model = getattr(model, "_orig_mod", model)  # of `torch.compile`
    if hasattr(model, "peft_config") and hasattr(model, "get_base_model"):
        raise DataError(
            "model: it is wrapped by PEFT, whose `generate` passes by what is attached; give `model.get_base_model()`, "
            "which has the adapter's layers in it"
        )
    if not isinstance(model, nn.Module) or not hasattr(model, "get_output_embeddings"):
        raise DataError(
            f"model: a {type(model).__name__} is no language model of transformers; load it with an Auto class"
        )
    return model


def _said(tokenizer: Any) -> str:
    """Return what a tokenizer says of itself: what decides what it makes of text, without its vocabulary."""
    backend, parts = getattr(tokenizer, "backend_tokenizer", None), ("normalizer", "pre_tokenizer", "post_processor")
    return repr((tokenizer, [getattr(backend, part, None) for part in parts]))


def backbone_in(name: str, pair: Any) -> Backbone:
    """Return the backbone of a (model, tokenizer); `name` is what errors call it.

    Raises: DataError: it is no such pair; and as `backbone_of`.
    """
    if isinstance(pair, Backbone):
        return pair
    if not (isinstance(pair, tuple | list) and len(pair) == 2):
        raise DataError(f"{name}: give it as (model, tokenizer)")
    return backbone_of(*pair)


def _tokenizer_beside(model: Any) -> Any:
    """Return the tokenizer that lies where a model was loaded from. Raises: DataError: there is none."""
    import transformers

    place = str(getattr(model, "name_or_path", "") or "")
    try:
        if not place:
            raise OSError("the model was loaded from nowhere")
        return transformers.AutoTokenizer.from_pretrained(place, local_files_only=True, trust_remote_code=False)
    except Exception:
        raise DataError(f"tokenizer: none is found beside {type(model).__name__}; give it as `tokenizer`") from None


@dataclass
class Side:
    """An admitted backbone with its head and window; `folder` is room for its states.

    Args: kept: states that lie there already are read and not made again.
    Raises: DataError: the model is not admitted, or cannot read such a window.
    """

    backbone: Backbone
    longest: int
    folder: Path
    name: str = "side"
    kept: bool = False

    def __post_init__(self) -> None:
        model = self.backbone.model
        if attachment(model) is not None:
            raise DataError("model: a module is attached to it; detach that first (`abi.detach(model)`)")
        admit(self.backbone)
        self.backbone.require(Window.of(self.window))
        self.manifest: BackboneManifest = describe_backbone(
            self.backbone,
            None,
            self.head_path,
            name=origin_of(model).model,
            revision=origin_of(model).revision,
            provenance=provenance(self.name),
            facts=self.backbone.facts,
        )
        self.head = Head.read(self.head_path)

    @property
    def window(self) -> WindowSection:
        """How it reads text."""
        backbone = self.backbone
        return window_for(self.longest, backbone.most_positions, encoder_decoder=backbone.is_encoder_decoder)

    @property
    def head_size(self) -> tuple[int, int]:
        """Rows and columns of its head, `V, D`."""
        return self.manifest.head_rows, self.manifest.width

    @property
    def base(self) -> BaseFacts:
        """What everything made with this backbone says of it."""
        return self.manifest.base

    @property
    def marks(self) -> Marks:
        """The hashes by which a module knows it."""
        assert self.manifest.identity_sha256 is not None  # only an older manifest lacks it
        return Marks(self.manifest.weights_sha256, self.manifest.identity_sha256)

    @property
    def origin(self) -> Origin:
        """Its model as records name it."""
        return origin_of(self.backbone.model)

    @property
    def head_path(self) -> Path:
        """Where its head lies."""
        return self.folder / f"{self.name}.head.safetensors"

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Its tokens by what they spell."""
        return vocabulary_of(self.backbone)

    def states(
        self,
        documents: Sequence[Document],
        split: Split,
        what: str,
        *,
        taps: Sequence[int] = (),
        least: int = 1,
        most: int | None = None,
    ) -> States:
        """Return the states of the documents of a split, stored in the scratch room and memory-mapped.

        Args: what: `texts`, `general_texts`, ...; taps: beside the final state; least: scored positions of a document;
            most: windows.
        Raises: DataError: no document fills a window, or the tokenizer loses text.
        """
        chosen = of_split(documents, split)
        wanted = _wanted(what, split, most)
        spec = WriteStates(
            window=self.window,
            taps=list(taps),
            max_windows=every_split(wanted),
            max_windows_per_document=every_split(-(-wanted // max(1, len(chosen)))),
            min_scored=least,
            split=SHARES,
            salt=SALT,
        )
        path = self.folder / f"{self.name}.{what}.{split}.safetensors"
        about = path.with_suffix(".states.json")
        if self.kept and about.is_file():
            known = StatesManifest.read(about)
            return States(path, known, known.tensors_sha256)
        with part("states", f"reading {what}, {split} part, with {self.name}", self.reading_seconds(what, split, most)):
            made = self._stored(documents, split, what, spec, path)
        made.manifest.write(about)
        return made

    def reading_seconds(self, what: str, split: Split, most: int | None = None) -> float:
        """Return what storing the states of a split should take."""
        return pass_seconds(self.manifest.n_parameters, _wanted(what, split, most) * self.window.length)

    def _stored(self, documents: Sequence[Document], split: Split, what: str, spec: WriteStates, path: Path) -> States:
        """Write the states of the documents of a split."""
        chosen = of_split(documents, split)
        try:
            windows = windows_of(self.backbone, chosen, split, spec)
        except DataError as error:
            raise DataError(f"{what}, {split} part: {error}") from None
        used = set(windows.names)
        lost = require_lossless(self.backbone, [document.text for document in chosen if document.document in used])
        with evaluating(self.backbone.model):
            head = self.head.to(self.backbone.device)
            stored = write_states(self.backbone, windows, Window.of(self.window), spec.taps, head, path)
        digest = sha256_file(path)
        about = StatesManifest(
            split=split,
            characters_lost=lost,
            **dict(stored),
            **dict(self.base),
            tensors_sha256=digest,
            corpus_sha256=assignment_sha256(documents),
            shares=Shares(**dict(SHARES)),
            salt=SALT,
            provenance=provenance(f"{self.name} {what}"),
        )
        return States(path, about, digest)


def every_split(most: int) -> PerSplit:
    """Return the same number for every split."""
    return PerSplit(train=most, calibration=most, test=most)


def _wanted(what: str, split: Split, most: int | None) -> int:
    """Return how many windows of a text are read at most."""
    of_text: int = getattr(MOST_GENERAL if what == "general_texts" else MOST_WINDOWS, split)
    return of_text if most is None else most


@contextmanager
def sides(window: int, keep: Keep | None = None, **pairs: Any) -> Iterator[list[Side]]:
    """Yield a `Side` per (model, tokenizer), whose states live as long as the block, or as what `keep` keeps.

    Gradients are on in the block, whatever the caller switched off (`torch.no_grad`, `torch.inference_mode`).
    Raises: DataError: as `backbone_in`, and as `room`.
    """
    window = whole("window", window, LEAST_WINDOW)
    backbones = {name: backbone_in(name, pair) for name, pair in pairs.items()}

    def models() -> object:
        marks = {name: [*astuple(Marks.of(one)), one.device.type] for name, one in backbones.items()}
        return [window, torch.get_num_threads(), marks]  # with other threads, or on a card, sums have other bits

    with room(keep, models) as folder, torch.inference_mode(False), torch.enable_grad():
        kept = keep is not None and keep.place is not None
        yield [Side(backbone, window, folder, name, kept) for name, backbone in backbones.items()]


def origin_of(model: Any) -> Origin:
    """Return what a model is called (its hub id, the name of its folder, or its class), its revision and precision."""
    place = str(getattr(model, "name_or_path", "") or "")
    name = (Path(place).name if Path(place).is_dir() else place) or type(model).__name__
    dtype = str(model.get_output_embeddings().weight.dtype).removeprefix("torch.")
    return Origin(model=name, revision=str(getattr(model.config, "_commit_hash", None) or "local"), dtype=dtype)


def provenance(what: str) -> Provenance:
    """Return what made a file of the API: not a rule, so there is no spec and no code digest."""
    return Job(f"abi.api {what}", Typed(), "none", [], 1).provenance()
