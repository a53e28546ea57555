"""A LoRA adapter of PEFT, of a folder or on a live model: read, told apart from others, compared with its base."""

import copy
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from abi.api.loading import downloaded
from abi.api.modules import Adapter
from abi.api.progress import part, pass_seconds
from abi.api.sides import Side, origin_of
from abi.arms.forms import StoredStates, load_stored
from abi.arms.lora_fit import write_finals
from abi.base.errors import DataError, first_line
from abi.base.files import read_tensors, sha256_file, sha256_tensors
from abi.models.attach import Marks
from abi.models.backbone import Backbone
from abi.models.probe import evaluating
from abi.models.states import States, Window

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
LORA = "LORA"
CLASSIFYING = {"SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS"}
"""Tasks of PEFT whose adapters belong to models with no head over tokens."""
COMMIT = re.compile("[0-9a-f]{40}")
BELOW = "base_model.model."
"""What PEFT puts before the names of a model's tensors."""
ONLY = "default"
"""How PEFT calls the adapter of a folder."""
SCOPE = "text"
"""What the file of final states calls the windows that it is of."""


@dataclass(frozen=True)
class Adapted:
    """A model with the one LoRA adapter that acts on it, and that adapter's name and hash."""

    backbone: Backbone
    about: Adapter

    def arm(self, side: Side, states: States, what: str) -> StoredStates:
        """Return its final states on the windows of some states of its base, stored in the room of the side.

        Args: what: names the file.
        Raises: DataError: the adapter changes what the model's head does, too.
        """
        window, path = Window.of(side.window), side.folder / f"{side.name}.{what}.adapted.safetensors"
        seconds = pass_seconds(side.manifest.n_parameters, len(states) * window.length)
        with part("states", f"reading {what} with the adapter", seconds), evaluating(self.backbone.model):
            self._check_head(side, states.tokens(slice(4)), window)
            write_finals(self.backbone, window, {SCOPE: states}, path)
        return load_stored(path, sha256_file(path), {SCOPE: states}, side.base.base_sha256)

    @torch.no_grad()
    def _check_head(self, side: Side, tokens: Tensor, window: Window) -> None:
        """Raise DataError where the plain head gives other logits of the adapted final state than the adapted model."""
        own = self.backbone.logits(tokens, window).float()
        head = side.head.to(self.backbone.device)
        through = head.logits(self.backbone.hidden_states(tokens, window)[-1].float())
        error = float((through - own).abs().max() / own.abs().max().clamp_min(1e-9))
        if not error <= side.backbone.tolerance:
            raise DataError(
                f"adapter: {self.about.name} changes the head of the model (by {error:.1e} of its logits); "
                "abi reads adapters of the layers below it, so train one that leaves the head alone"
            )


def adapted(base: Backbone, adapter: Any) -> Adapted:
    """Return a model with a LoRA adapter on it: a copy where the adapter is read from a folder, else the live one.

    Args: base: the plain model; adapter: a folder that PEFT wrote, the id of one on the hub, or a `PeftModel`.
    Raises: DataError: it is neither, is no LoRA, belongs to another model, does not act as it is, or cannot be told
        from another one that acts with it.
    """
    from peft import PeftModel
    from peft.tuners.tuners_utils import BaseTunerLayer

    if any(isinstance(module, BaseTunerLayer) for module in base.model.modules()):
        raise DataError("model: an adapter has been put on it; load the plain model once more and give that one")
    if isinstance(adapter, PeftModel):
        name = _acting(adapter)
        if Marks.of(Backbone(_copied(adapter).unload(), base.tokenizer)) != Marks.of(base):
            raise DataError(
                f"adapter: the model below {name!r} is not the model given: their weights, config or precision differ; "
                "give the one that the adapter was trained on, or, if the adapter has biases or whole layers of its "
                "own, its folder"
            )
        return _found(adapter, base, name, name)
    if not isinstance(adapter, str | Path):
        raise DataError(
            f"adapter: a {type(adapter).__name__} is neither a folder nor a PeftModel; give what PEFT saved or loaded"
        )
    folder = _folder(str(adapter))
    return _found(_read(folder, base), base, ONLY, folder.name if Path(adapter).is_dir() else str(adapter))


def _found(live: Any, base: Backbone, name: str, shown: str) -> Adapted:
    """Return an adapter on its model. Args: name: as PEFT calls it; shown: as records call it."""
    about = Adapter(name=shown, sha256=sha256_tensors(_tensors(live, name)))
    return Adapted(Backbone(live.get_base_model(), base.tokenizer), about)


def _require_lora(*configs: Any) -> None:
    """Raise DataError where some adapter is of another kind, or of a model that writes no text."""
    if (kinds := {str(config.peft_type.value) for config in configs}) != {LORA}:
        raise DataError(f"adapter: it is of kind {', '.join(sorted(kinds))}; abi distils LoRA adapters")
    if tasks := CLASSIFYING & {str(config.task_type) for config in configs}:
        raise DataError(f"adapter: its task is {', '.join(sorted(tasks))}; abi distils adapters of language models")


def _copied(live: Any) -> Any:
    """Return a copy of a live model. Raises: DataError: LoRA that is tied to other tensors, which torch cannot copy."""
    try:
        return copy.deepcopy(live)
    except RuntimeError:
        raise DataError("adapter: it ties tensors, so it cannot be copied; save it and give its folder") from None


def _acting(live: Any) -> str:
    """Return the name of the LoRA adapter that acts on a live model. Raises: DataError: none does, or more than one."""
    _require_lora(*live.peft_config.values())
    status = live.get_model_status()
    if status.merged_adapters:
        raise DataError("adapter: it is merged into the weights; take it out again with `unmerge_adapter()`")
    if status.enabled is False:
        raise DataError("adapter: it is disabled; switch it on with `enable_adapter_layers()`")
    acting = status.active_adapters
    if status.enabled is not True or isinstance(acting, str) or len(acting) != 1:
        raise DataError(
            f"adapter: of {', '.join(map(repr, status.available_adapters))} not one alone acts on every layer; "
            "choose one with `set_adapter(name)`"
        )
    [name] = acting
    return str(name)


def _folder(place: str) -> Path:
    """Return the folder of an adapter, downloaded where it is the id of one on the hub.

    Raises: DataError: there is none, or its weights are no safetensors.
    """
    folder = Path(place) if Path(place).is_dir() else downloaded(place, "adapter", (CONFIG, WEIGHTS))
    if not (folder / CONFIG).is_file():
        below = sorted(path.parent.name for path in folder.glob(f"*/{CONFIG}"))
        hint = f"it has several, {', '.join(below)}; give the folder of one" if below else "give one that PEFT saved"
        raise DataError(f"{place}: holds no {CONFIG}, so it is no adapter; {hint}")
    if not (folder / WEIGHTS).is_file():
        raise DataError(f"{place}: holds no {WEIGHTS}, and abi unpickles nothing; save the adapter again with PEFT")
    return folder


def _read(folder: Path, base: Backbone) -> Any:
    """Return a `PeftModel` of the adapter in a folder on a copy of a model.

    A folder names its base and holds no hash of it, so that name, revision and layers are what can be compared.
    Raises: DataError: no LoRA, or one of another model.
    """
    from peft import PeftConfig, PeftModel

    stored, own = read_tensors(folder / WEIGHTS)[0], origin_of(base.model)
    try:
        config = PeftConfig.from_pretrained(str(folder))
    except Exception as error:
        raise DataError(f"{folder}: its {CONFIG} cannot be read ({first_line(error)}); save it again") from None
    _require_lora(config)
    of = str(config.base_model_name_or_path or "")
    if of and getattr(base.model, "name_or_path", "") and Path(of).name != Path(own.model).name:
        raise DataError(
            f"{folder}: is an adapter of {of!r}, and the model given is {own.model!r}; give that model, or correct "
            f"`base_model_name_or_path` in {CONFIG} if it is the same"
        )
    at = str(config.revision or "")
    if at != own.revision and all(COMMIT.fullmatch(revision) for revision in (at, own.revision)):
        raise DataError(
            f"{folder}: is an adapter of revision {at} of {of!r}, and the model given is of {own.revision}; give that "
            f"revision, or correct `revision` in {CONFIG} if nothing has changed"
        )
    _require_shapes(stored, base, folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what PEFT's are about is checked, and refused in one sentence
        try:
            live = PeftModel.from_pretrained(
                copy.deepcopy(base.model), str(folder), config=config, torch_device=str(base.device)
            )
        except Exception as error:
            raise DataError(f"{folder}: does not fit {base.name} ({first_line(error)}); give its own model") from None
    _require_whole(stored, _tensors(live, ONLY), base, folder)
    return live


def _require_shapes(stored: Mapping[str, Tensor], base: Backbone, folder: Path) -> None:
    """Raise DataError where an adapter brings a tensor of the model itself in another shape."""
    own = base.model.state_dict()
    for key, tensor in stored.items():
        name = _below(key)
        if name in own and own[name].shape != tensor.shape:
            raise DataError(
                f"{folder}: its {name} is of shape {[*tensor.shape]}, that of {base.name} {[*own[name].shape]}; give "
                "its own model, and if its vocabulary was changed, one that has been resized to it with that tokenizer"
            )


def _require_whole(stored: Mapping[str, Tensor], live: Mapping[str, Tensor], base: Backbone, folder: Path) -> None:
    """Raise DataError where what is stored is not what acts.

    PEFT also stores embeddings and head as they are where an adapter acts on them or the vocabulary is a new one.
    """
    own = base.model.state_dict()
    for key in sorted({*stored} ^ {*live}):
        name = _below(key)
        if key not in stored or name not in own:
            raise DataError(f"{folder}: does not fit {base.name}: {key} is on one side only; give its own model")
        if not torch.equal(own[name].to(stored[key]), stored[key]):
            raise DataError(
                f"{folder}: brings a {name} that is not the one of {base.name}; load it into that model first, which "
                "then is the plain one"
            )


def _below(key: str) -> str:
    """Return the name that a tensor of a model has without PEFT."""
    return key.removeprefix(BELOW).replace(".base_layer.", ".")


def _tensors(live: Any, name: str) -> dict[str, Tensor]:
    """Return the tensors of an adapter by the names that PEFT saves them under. Args: name: as PEFT calls it."""
    from peft import get_peft_model_state_dict

    found: dict[str, Tensor] = get_peft_model_state_dict(live, adapter_name=name, save_embedding_layers=False)
    return found
