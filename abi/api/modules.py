"""`Module`: a trained module with what it belongs to and what made it; saved, loaded and shared as a folder."""

import copy
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Literal, Self, TypeVar

import torch

from abi.api.comparison import Comparison
from abi.api.loading import downloaded
from abi.api.texts import Documents, key_of
from abi.base.errors import DataError
from abi.base.files import unwritable, write_text
from abi.base.hub import Repository
from abi.base.hub_errors import reason, status_of
from abi.base.manifests.modules import ModuleFacts
from abi.base.manifests.portable import PortableFacts
from abi.base.typed import Count, Document, Regime, Sha256, Typed
from abi.models.attach import Marks
from abi.models.attach_any import AnyManifest, AnyModule, check_any
from abi.models.backbone import Backbone
from abi.models.load import load_module
from abi.models.module import CARD, CONFIG, WEIGHTS, save_module
from abi.models.ngram_module import NgramModule, save_ngrams
from abi.models.portable import PortableModule, save_portable
from abi.models.states import States
from abi.text.documents import Document as Text

RECORD = "abi_record.json"
OURS = "library_name: abi"
"""A line of every card of a module."""
NOT_YOURS = "it is not yours to write to; log in as who may (`hf auth login`)"
Net = TypeVar("Net", bound=AnyModule)
Kind = Literal["module", "portable", "ngram"]
"""What a module is: of one model; of any, trained; of any, counted."""


class TextRead(Typed):
    """A text that making a module read."""

    what: str
    """`texts`, `domain_texts` or `general_texts`."""
    documents: Count
    bytes: Count
    positions: Count
    """Predicted tokens that the fit could read."""


class Origin(Typed):
    """The model that a module was trained beside, and in which precision that was."""

    model: str
    revision: str
    dtype: str = "float32"


class Adapter(Typed):
    """The LoRA adapter that a module was distilled from."""

    name: str
    """Of its folder or on the hub; of a live one, as PEFT calls it."""
    sha256: Sha256
    """Of its tensors."""


class Record(Document):
    """What made a module: `abi_record.json` of its folder. A module of the DAG has none."""

    kind: ClassVar[str] = "module-record"
    made_by: Literal["train", "distill", "transfer"]
    trained_beside: Origin
    adapter: Adapter | None = None
    """That taught it, on the model it was trained beside."""
    moved_to: Origin | None = None
    regime: Regime | None = None
    """Of the transfer: what its target side saw."""
    texts: list[TextRead]
    seen: list[str]
    """Hashes of the documents that anything of it was fitted or chosen on; `evaluate` leaves them out."""
    rate: float | None
    """Learning rate, the one of the grid with the lowest loss on calibration text."""
    steps: Count
    loss: float | None
    """Mean of the last 50 steps, nats per position."""
    cosine: float | None = None
    """Of the aligned interfaces on held-out positions, where there is a rotation."""
    seconds: float
    verdict: str | None = None
    """What `compare` said of it, in Markdown."""


def module_of(value: Any, what: str = "module") -> "Module":
    """Return a `Module` as it is. Raises: DataError: it is something else."""
    if not isinstance(value, Module):
        raise DataError(
            f"{what} is a {type(value).__name__}; give a `Module`, as `abi.train` or `abi.Module.from_pretrained` "
            "returns it"
        )
    return value


def on_device(net: Net, device: torch.device) -> Net:
    """Return a net on a device: itself where it is there, else a copy, since others may hold it."""
    if not isinstance(net, NgramModule) and net.device != device:
        net = copy.deepcopy(net)
        net.to(device)
    return net


def read_of(what: str, documents: Iterable[Text], states: States) -> TextRead:
    """Return what a record says of a text whose states were read."""
    read = set(states.manifest.documents)
    n_bytes = sum(document.n_bytes for document in documents if document.document in read)
    return TextRead(what=what, documents=len(read), bytes=n_bytes, positions=len(states) * states.manifest.positions)


def seen_of(*texts: Iterable[Text], splits: Collection[str] = ("train", "calibration")) -> list[str]:
    """Return the hashes of the documents that a fit may read, or be chosen on, and of the copies of these."""
    seen: set[str] = set()
    for documents in texts:
        own = {key_of(document) for document in documents if document.split in splits}
        copies = documents.copies if isinstance(documents, Documents) else {}
        seen |= own | {copy for copy, original in copies.items() if original in own}
    return sorted(seen)


@dataclass(frozen=True, eq=False)
class Module:
    """A trained module: `net` (tensors), `about` (what it belongs to), `record` (what made it).

    A module of kind `module` reads hidden states and works on one model, the one whose hashes `about` holds. One of
    kind `portable` reads the text and works on every model whose tokens spell text; so does one of kind `ngram`, which
    is no net but counts of a text.

    >>> module = abi.train(model, tokenizer, texts, steps=20)
    >>> module.save_pretrained("my-module")
    >>> abi.Module.from_pretrained("my-module").sha256 == module.sha256
    True
    """

    net: AnyModule
    about: AnyManifest
    record: Record | None = None

    @property
    def kind(self) -> Kind:
        """`module`, `portable` or `ngram`."""
        if isinstance(self.net, NgramModule):
            return "ngram"
        return "portable" if isinstance(self.net, PortableModule) else "module"

    @property
    def anywhere(self) -> bool:
        """Whether it works on every model whose tokens spell text."""
        return self.kind != "module"

    @property
    def dtype(self) -> str:
        """The precision of the model that it belongs to; fp32 where it works on every model, or nothing says it."""
        return "float32" if self.record is None or self.anywhere else self.place.dtype

    @property
    def sha256(self) -> str:
        """The hash of its tensors."""
        return self.about.sha256

    @property
    def place(self) -> Origin:
        """The model that it belongs to: the one it was moved to, or was trained beside."""
        moved_to = None if self.record is None else self.record.moved_to
        return moved_to or self.origin

    @property
    def origin(self) -> Origin:
        """The model that it was trained beside."""
        if self.record is not None:
            return self.record.trained_beside
        return Origin(model=self.about.base_model, revision=self.about.base_revision)

    @property
    def seen(self) -> frozenset[str]:
        """The hashes of the documents that it was trained, calibrated or chosen on, as its record keeps them."""
        return frozenset(self.record.seen if self.record is not None else ())

    @property
    def learned(self) -> frozenset[str]:
        """Of those the ones of the domain, as far as it is known: of a module that was moved since it is not."""
        return self.seen if self.record is not None and self.record.made_by == "train" else frozenset()

    @property
    def n_parameters(self) -> int:
        """How many numbers it holds that were fitted."""
        return sum(parameter.numel() for parameter in self.net.parameters())

    def __repr__(self) -> str:
        where = "any model" if self.anywhere else self.about.base_model
        size = f"{len(self.net.text)} bytes" if isinstance(self.net, NgramModule) else f"{self.n_parameters} parameters"
        return f"Module({self.kind} {self.about.name!r} for {where}, {size})"

    def check(self, backbone: Backbone, marks: Marks | None = None) -> None:
        """Raise DataError where it cannot belong to a backbone, by size, weights, config or tokenizer.

        Args: marks: the hashes of the backbone, where they are known; else they are made.
        """
        check_any(backbone, self.net, self.about, marks)

    def recorded(self, **changes: Any) -> Self:
        """Return the module with a record that is changed in some keys."""
        return replace(self, record=self.record and self.record.model_copy(update=changes))

    def with_verdict(self, comparison: Comparison) -> Self:
        """Return the module with what `compare` said of its move; its card then shows it.

        >>> module = abi.train(model, tokenizer, texts, steps=20)
        >>> pairs = (model, tokenizer), (other, other_tokenizer)
        >>> told = abi.compare(module, *pairs, texts, general_texts, seeds=1, steps=5, lora=False)
        >>> abi.transfer(module, *pairs, general_texts=general_texts, steps=5).with_verdict(told).record.verdict
        '...Verdict: INCONCLUSIVE...'

        Raises: DataError: nothing is recorded of the module, so that there is no card to write it on.
        """
        if self.record is None:
            raise DataError("module: it has no record; train or transfer it with abi, or keep the comparison beside it")
        return self.recorded(verdict=comparison.markdown())

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the folder that `from_pretrained` and the command `abi generate --module` read.

        It holds `abi_config.json` (shape, hashes), `abi_model.safetensors`, `README.md` (the card) and, where it is
        known, `abi_record.json`.

        >>> module = abi.train(model, tokenizer, texts, steps=20)
        >>> module.save_pretrained("my-module")

        Raises: DataError: the disk is full, the folder cannot be written, or holds a README.md that is no such card.
        """
        self._save(Path(folder), card(self))

    def _save(self, folder: Path, text: str) -> None:
        """Write the folder. Args: text: of its card."""
        if (folder / CARD).is_file() and OURS not in (folder / CARD).read_text(encoding="utf-8", errors="replace"):
            raise DataError(f"{folder / CARD}: is no card of a module and would be replaced; save into another folder")
        try:
            (folder / RECORD).unlink(missing_ok=True)  # of another module that lay there: none, rather than a wrong one
        except OSError as error:
            raise unwritable(folder, error) from None
        save(self.net, folder, self.about)
        if self.record is not None:
            self.record.write(folder / RECORD)
        write_text(folder / CARD, text)

    @classmethod
    def from_pretrained(cls, place: str | Path, revision: str | None = None) -> Self:
        """Return the module of a folder, or of a repository of the hub (`user/name`); nothing is unpickled.

        >>> module = abi.train(model, tokenizer, texts, steps=20)
        >>> module.save_pretrained("my-module")
        >>> abi.Module.from_pretrained("my-module").kind
        'module'

        Args: revision: branch, tag or commit of the hub.
        Raises: DataError: no such folder or repository, files are missing or damaged, or a hash differs; TamperError:
            a file was changed after it was written.
        """
        folder = Path(place)
        if folder.is_file():
            raise DataError(f"{place}: is a file; give the folder of a module")
        if folder.is_dir() and revision is not None:
            raise DataError(f"{place}: is a folder, which has no revisions; leave out {revision!r}")
        if not folder.is_dir():
            folder = downloaded(str(place), "module", (CONFIG, WEIGHTS, CARD, RECORD), revision)
        require_module(folder, place)
        net, about = load_module(folder)
        assert about is not None
        record = Record.read(folder / RECORD) if (folder / RECORD).is_file() else None
        return cls(net.requires_grad_(False), about, record)

    def push_to_hub(self, repository: str, *, private: bool = False, message: str = "Upload module") -> str:
        """Upload the folder of `save_pretrained` to a repository of the hub, made if needed; return its address.

        The token is the one that `huggingface_hub` finds (`hf auth login`, `HF_TOKEN`).

        >>> module = abi.train(model, tokenizer, texts, steps=20)
        >>> module.push_to_hub("me/my-module")  # doctest: +SKIP

        Args: repository: `user/name`; private: one that is there and public is refused.
        Raises: DataError: the hub refuses, or does not answer.
        """
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HFValidationError

        api = HfApi()
        with TemporaryDirectory() as folder:
            self._save(Path(folder), card(self, repository))
            try:
                address = api.create_repo(repository, private=private, exist_ok=True)
                public = private and not api.repo_info(repository).private  # it was there before
                if not public:
                    api.upload_folder(
                        repo_id=repository,
                        folder_path=folder,
                        commit_message=message,
                        delete_patterns=[RECORD],  # that of another upload, where this one has none
                    )
            except Exception as error:
                if isinstance(error, HFValidationError):
                    raise DataError(f"{repository}: is no name on the hub; give `user/name`") from None
                forbidden = status_of(error) in (401, 403)
                why = NOT_YOURS if forbidden else reason(error, Repository(repository, "model").page)
                raise DataError(f"{repository}: cannot be uploaded: {why}") from None
        if public:
            raise DataError(f"{repository}: is public, so nothing was uploaded; make it private, or name another")
        return str(address)


def require_module(folder: Path, place: str | Path) -> None:
    """Raise DataError where a folder is no module; one that holds some says which. Args: place: what was asked for."""
    if not (folder / CONFIG).is_file():
        inside = sorted(path.parent.relative_to(folder).as_posix() for path in folder.glob(f"**/{CONFIG}"))
        advice = f"give one of the {len(inside)} in it, such as {inside[0]}" if inside else "give the folder of one"
        raise DataError(f"{place}: holds no {CONFIG}, so it is no module; {advice}")


def save(net: AnyModule, folder: Path, facts: ModuleFacts | PortableFacts) -> None:
    """Write `abi_config.json` and the tensors of a module of any kind."""
    kind = PortableFacts if isinstance(net, PortableModule | NgramModule) else ModuleFacts
    own: Any = kind(**{key: getattr(facts, key) for key in kind.model_fields})
    if isinstance(net, NgramModule):
        save_ngrams(net, folder, own)
    elif isinstance(net, PortableModule):
        save_portable(net, folder, own)
    else:
        save_module(net, folder, own)


def made(net: AnyModule, facts: ModuleFacts | PortableFacts, record: Record) -> Module:
    """Return a module of what was fitted, read back from a folder as every other reader would."""
    with TemporaryDirectory() as folder:
        save(net, Path(folder), facts)
        return replace(Module.from_pretrained(folder), record=record)


def card(module: Module, place: str = ".") -> str:
    """Return the model card of a module: what it belongs to, what it was made of, how to use it, from a place."""
    about, record, portable = module.about, module.record, module.anywhere
    on_hub = "/" in about.base_model
    front = [OURS, *([f"base_model: {about.base_model}"] if on_hub else [])]
    front += ["base_model_relation: adapter"] if on_hub and not portable else []
    tags = ["abi", "domain-module", *([module.kind] if portable else [])]
    use = "model of any family" if portable else about.base_model
    lines = ["---", *front, f"tags: [{', '.join(tags)}]", "---", "", f"# ABI {module.kind} `{about.name}`", ""]
    if isinstance(module.net, NgramModule):
        size = f"{len(module.net.text)} bytes"
        lines += [
            f"It counts a text of {size}, which this folder holds word for word: share it where you may share that."
        ]
        lines += ["It is mixed with the model's own distribution, on every model whose tokens spell text."]
    elif portable:
        lines += [f"Trained beside `{about.base_model}`; it works on every model whose tokens spell text."]
    else:
        lines += [
            f"It works on `{about.base_model}` alone: revision `{about.base_revision}`, weights "
            f"`{about.base_sha256[:12]}`, vocabulary `{about.vocabulary[:12]}`. Any other model is refused."
        ]
    lines += ["", "```python", "import abi", "", f"# model, tokenizer: {use}"]
    lines += [f'module = abi.Module.from_pretrained("{place}")']
    lines += ["with abi.attach(model, module, tokenizer=tokenizer):", "    ...  # model.generate(...) as always", "```"]
    lines += ["", *(_made_words(record, module.kind) if record else ["What made it is not recorded."]), ""]
    return "\n".join(lines)


NOT_COMPARED = "`abi.compare` has an n-gram model of the same text beside every module. `abi.evaluate` asks this one."


def _made_words(record: Record, kind: Kind) -> list[str]:
    """Return what a card says of a record."""
    beside = f"`{record.trained_beside.model}` ({record.trained_beside.revision})"
    lines = [
        "## What made it",
        "",
        "- Counted; no model was read." if kind == "ngram" else f"- Trained beside {beside}.",
    ]
    if record.adapter is not None:
        lines += [f"- Distilled from the LoRA adapter `{record.adapter.name}` (`{record.adapter.sha256[:12]}`)."]
    if record.moved_to is not None:
        lines += [f"- Moved to `{record.moved_to.model}` ({record.moved_to.revision}), regime `{record.regime}`."]
    lines += [f"- `{t.what}`: {t.documents} documents, {t.bytes} bytes, {t.positions} positions." for t in record.texts]
    rate = "" if record.rate is None else f" at a learning rate of {record.rate:g}"
    took = f"{record.seconds:.1f} s"
    loss = "" if record.loss is None else f", last loss {record.loss:.4f} nats"
    lines += [f"- {record.steps} steps{rate}{loss}; {took}." if record.steps else "- Nothing was fitted there."]
    worth = record.verdict or (NOT_COMPARED if kind == "ngram" else "Nobody has asked `abi.compare` yet.")
    return [*lines, "", "## What it is worth", "", worth]
