"""Reading what earlier jobs wrote: states, modules and arms, each checked against its manifest."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from abi.base import compute
from abi.base.errors import DataError, TamperError
from abi.base.files import sha256_once, sha256_tensors
from abi.base.job import InputFiles
from abi.base.manifests.backbones import BackboneManifest
from abi.base.manifests.batches import BatchManifest
from abi.base.manifests.modules import ModulesManifest
from abi.base.manifests.states import StatesManifest
from abi.models.head import Head
from abi.models.module import AbiModule, ModuleConfig, read_module
from abi.models.states import States
from abi.plan.specs.models import Shape
from abi.text.documents import split_of


def read_states(manifest: str | Path, split: str) -> States:
    """Return the states of a split, beside their manifest.

    Raises: DataError: missing, damaged, not what the manifest says, of another split, or a document's group belongs to
        another split by its hash; TamperError: not the file that the manifest promises.
    """
    path = Path(manifest)
    about = StatesManifest.read(path)
    if about.split != split:
        raise DataError(f"{path}: holds states of {about.split} documents where {split} is wanted; rebuild the states")
    shares = dict(about.shares)
    for document, group in zip(about.documents, about.groups, strict=False):
        real = split_of(group, shares, about.salt)
        if real != split:
            raise DataError(f"{path}: document {document!r} is a {real} document, not {split}; rebuild text and states")
    return States(path.with_suffix(".safetensors"), about, about.tensors_sha256, compute.device())


def check_backbone(states: States, base_sha256: str, what: str) -> None:
    """Raise DataError where states are not of the backbone with these weights, which `what` says in words."""
    if states.manifest.base_sha256 != base_sha256:
        raise DataError(f"{states.path}: are of another backbone than {what}; rebuild the states")


def check_same_text(one: States, other: States) -> None:
    """Raise DataError where two states were made from different versions of a text."""
    if one.manifest.corpus_sha256 != other.manifest.corpus_sha256:
        raise DataError(f"{one.path}: was made from other documents or splits than {other.path}; rebuild both")


def read_head(path: str | Path, states: States) -> Head:
    """Return the head of the backbone that made some states.

    Raises: DataError: missing or damaged, another backbone's, or one without a token that the states name.
    """
    if sha256_once(path) != states.manifest.head_sha256:
        raise DataError(
            f"{path}: is not the head of the backbone whose states are in {states.path}; rebuild the states"
        )
    head = Head.read(path).to(states.device)
    states.check_vocabulary(head)
    return head


def shape(module: Shape, states: States) -> ModuleConfig:
    """Return a module shape of the config for the backbone that made some states; `final` is its last tap."""
    taps = tuple(states.final_tap if tap == "final" else tap for tap in module.taps)
    return ModuleConfig(states.manifest.width, taps, module.d_abi, module.expansion, module.tap_norms)


def module_of_seed(
    manifests: Sequence[str], seed: int, states: States | None = None, base: BackboneManifest | None = None
) -> AbiModule:
    """Return the trained module of a seed, frozen.

    Args: states, base: of the backbone it must belong to: its states, or its manifest.
    Raises: DataError: no manifest holds the seed, or the module belongs to another backbone; TamperError: the weights
        are not those the manifest recorded.
    """
    wanted = [] if states is None else [(states.manifest.base_sha256, str(states.path))]
    wanted += [] if base is None else [(base.weights_sha256, base.name)]
    entries = ((path, entry) for path in manifests for entry in ModulesManifest.read(path).modules)
    for path, entry in entries:
        if entry.seed != seed:
            continue
        folder = Path(path).with_suffix("") / entry.folder
        module, about = read_module(folder)
        if (about.sha256, about.seed) != (entry.sha256, seed):
            raise TamperError(f"{path}: module of seed {seed} is not the one recorded; rebuild it")
        if sha256_tensors(module.domain_parameters()) != entry.domain_sha256:
            raise TamperError(f"{path}: the domain net of seed {seed} is not the one recorded; rebuild it")
        for base_sha256, where in wanted:
            if about.base_sha256 != base_sha256:
                raise DataError(
                    f"{path}: module of seed {seed} belongs to another backbone than {where}; "
                    "rebuild the states or the module"
                )
        if states is not None:
            states.check_taps(module.config.taps, module.config.width, str(folder))
        return module.requires_grad_(False).to(compute.device())
    raise DataError(f"modules: none of {list(manifests)} holds seed {seed}; ask Snakemake for them")


def member(manifests: Iterable[str | Path], seed: int, name: str) -> Path:
    """Return the path of a seed's file beside a batch manifest.

    Raises: DataError: no manifest holds it; TamperError: it is not the file that was recorded.
    """
    for path in manifests:
        for entry in BatchManifest.read(path).members:
            if entry.seed == seed and name in entry.files:
                found = Path(path).with_suffix("") / name
                if not found.is_file() or sha256_once(found) != entry.files[name]:
                    raise TamperError(f"{found}: is not the file that {path} promises; delete both and rebuild them")
                return found
    raise DataError(f"batch: none of {[str(path) for path in manifests]} holds {name}; ask Snakemake for it")


@dataclass(frozen=True)
class UpdatedBackbone:
    """Where a seed's updated backbone lies: its manifest, beside it the folder of the model and its head."""

    manifest: Path

    @classmethod
    def of(cls, manifests: Iterable[str | Path], seed: int) -> "UpdatedBackbone":
        """Return that of a seed in some batches. Raises: as `member`."""
        return cls(member(manifests, seed, f"seed{seed}.json"))

    @property
    def folder(self) -> Path:
        """What holds model and head."""
        return self.manifest.with_suffix("")

    @property
    def model(self) -> Path:
        """The folder of the model, in the Hugging Face layout."""
        return self.folder / "model"

    @property
    def head(self) -> Path:
        """The file of the head."""
        return self.folder / "head.safetensors"

    def about(self) -> BackboneManifest:
        """Return its manifest, that of any backbone."""
        return BackboneManifest.read(self.manifest)


def having(paths: Iterable[str], place: str, text: str) -> list[str]:
    """Return the manifests of a stage of updates and a text: `<...><place><text>/<batch>.json`."""
    return [path for path in paths if f"{place}{text}/" in path]


def updated(inputs: InputFiles, place: str, text: str, seed: int, split: str = "test") -> tuple[States, Head]:
    """Return the states of a seed's updated backbone on a split of a text, and its head.

    Args: inputs: `states` and `updates` of a claim of several studies; place: `/<update>/<stage>/`, or its end.
    Raises: DataError: the states are another backbone's (which may have the same head); TamperError: as `member`.
    """
    states = read_states(member(having(inputs["states"], place, text), seed, f"seed{seed}.{split}.json"), split)
    backbone = UpdatedBackbone.of([path for path in inputs["updates"] if place in path], seed)
    check_backbone(states, backbone.about().weights_sha256, str(backbone.manifest))
    return states, read_head(backbone.head, states)


def spread(states: States, wanted: int, per_document: int = 2) -> list[int]:
    """Return about `wanted` windows, the first two of documents spread evenly over the store.

    An interval is over documents: few windows of many documents say more than many of a few.
    """
    first: dict[int, list[int]] = {}
    for window, document in enumerate(states.document.tolist()):
        first.setdefault(document, []).append(window)
    step = max(1, len(first) * per_document // wanted)
    return [window for document in sorted(first)[::step] for window in first[document][:per_document]]
