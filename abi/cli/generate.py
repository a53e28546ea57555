"""The command `abi generate`: text of a model, with a trained module attached or without."""

import json
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from abi.base.errors import ConfigError, DataError
from abi.base.manifests.backbones import BackboneManifest
from abi.cli.options import AsJson, Scale
from abi.plan import DEFAULT
from abi.plan.config import load
from abi.plan.faults import unknown
from abi.plan.workflow import Workflow

if TYPE_CHECKING:
    from abi.models.backbone import Backbone

OF_MODULE = "folder of a saved module; beside --model also its id on the hub"
Modules = Annotated[
    list[str] | None, Option("--module", metavar="MODULE", help=OF_MODULE, show_default="none attached")
]


def generate(
    prompt: Annotated[str, Option(metavar="TEXT", help="the text to continue")],
    model: Annotated[
        str | None, Option(metavar="MODEL", help="folder of a model, or its id on the hub", show_default="none")
    ] = None,
    revision: Annotated[
        str | None, Option(metavar="REV", help="branch, tag or commit of --model", show_default="the newest")
    ] = None,
    backbone: Annotated[
        str | None, Option(metavar="NAME", help="or a built backbone of the scale", show_default="none")
    ] = None,
    scale: Scale = DEFAULT,
    modules: Modules = None,
    tokens: Annotated[int, Option(metavar="N", help="most tokens to add")] = 64,
    temperature: Annotated[float, Option(metavar="X", help="0 is greedy")] = 0.0,
    top_k: Annotated[int, Option(metavar="N", help="draw of the N likeliest tokens alone; 0 for all")] = 0,
    top_p: Annotated[float, Option(metavar="X", help="draw of the likeliest tokens of so much probability")] = 1.0,
    seed: Annotated[int, Option(help="seed of the draws at a temperature above 0")] = 0,
    least: Annotated[int, Option(metavar="N", help="tokens before which the text does not end")] = 0,
    cache: Annotated[bool, Option(help="keep keys and values of the text so far; slower without")] = True,
    as_json: AsJson = False,
) -> int:
    """Print the prompt and its continuation.

    Raises: ConfigError: an unknown backbone, or not one of a model and a backbone; DataError: it or the module is not
        there, or they do not belong together.
    """
    import torch

    import abi
    from abi.models.attach_any import attach_any
    from abi.models.tokenizers import continuation, prompt_ids

    if (model is None) == (backbone is None):
        raise ConfigError("generate: give one of --model (a folder or hub id) and --backbone (of a scale)")
    if backbone and revision:
        raise ConfigError("generate: a backbone of a scale has its own revision; leave out --revision")
    try:
        prompt.encode()
    except UnicodeEncodeError:
        raise DataError("generate: the prompt is not valid UTF-8; give text") from None
    if len(modules or ()) > 1:
        raise ConfigError("generate: --module is given twice; give one, or mix them by `abi.attach` (docs/library.md)")
    module = modules[0] if modules else None
    if tokens < 1:
        raise ConfigError(f"generate: --tokens is {tokens}; ask for 1 or more")
    live, about = _of_scale(scale, backbone, module) if backbone else _of_user(str(model), revision, module)
    ids = torch.tensor([prompt_ids(live.tokenizer, prompt)])
    if not ids.numel():
        raise DataError("generate: the prompt is empty, and the model puts nothing before it; give some text")
    drawn: Any = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed}
    with attach_any(live, *about) if about else nullcontext():
        [row] = abi.generate(live, ids, tokens, least=least, cache=cache, **drawn)
    made = row.tolist()
    text = continuation(live.tokenizer, [] if live.is_encoder_decoder else ids[0].tolist(), made)
    sha256 = about[1].sha256 if about and about[1] else None
    named = {"scale": scale, "backbone": backbone} if backbone else {"model": model}
    told = {**named, "module": sha256, "prompt": prompt, "text": text, "ids": made}
    print(json.dumps(told, indent=1) if as_json else prompt + text)
    return 0


def _of_user(place: str, revision: str | None, module: str | None) -> "tuple[Backbone, tuple[Any, Any] | None]":
    """Return a model of a folder or the hub, and a module with its manifest."""
    from abi.api.loading import load_backbone
    from abi.api.modules import Module

    if module is None:
        return load_backbone(place, revision), None
    found = Module.from_pretrained(module)
    return load_backbone(place, revision, found.dtype), (found.net, found.about)


def _of_scale(scale: str, name: str, module: str | None) -> "tuple[Backbone, tuple[Any, Any] | None]":
    """Return a built backbone, and a module; its manifest says of which weights it must be."""
    from abi.api.modules import require_module
    from abi.base.manifests.modules import ModuleManifest
    from abi.models.load import load_module

    live, base = read_backbone(scale, name)
    if module is None:
        return live, None
    if Path(module).is_dir():
        require_module(Path(module), module)
    loaded, facts = load_module(module)
    if isinstance(facts, ModuleManifest) and facts.base_sha256 != base.weights_sha256:
        raise DataError(
            f"{module}: belongs to other weights (of {facts.base_model}) than backbone {name} of scale {scale}; "
            "give it the backbone it was trained or calibrated on"
        )
    return live, (loaded, facts)


def read_backbone(scale: str, name: str) -> "tuple[Backbone, BackboneManifest]":
    """Return a built backbone of a scale and its manifest.

    Raises: ConfigError: the scale has none of that name; DataError: it was not built; TamperError: its weights changed.
    """
    from abi.models.backbone import load_checked

    workflow = Workflow(load(scale))
    known = workflow.scale.backbones
    if name not in known:
        raise ConfigError(unknown(name, known, f"backbone of scale {scale}"))
    folder = workflow.backbone_folder(name)
    manifest = f"{folder}.json"
    if not Path(manifest).exists():
        raise DataError(f"{folder}: is not built; run `snakemake --config scale={scale} -- {manifest}`")
    base = BackboneManifest.read(manifest)
    return load_checked(folder, base), base
