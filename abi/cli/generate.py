"""The command `abi generate`: text of a built backbone, with a trained module attached or without."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from abi.base.errors import ConfigError, DataError
from abi.base.manifests.backbones import BackboneManifest
from abi.cli.options import AsJson, Scale
from abi.plan import DEFAULT
from abi.plan.config import load
from abi.plan.faults import closest
from abi.plan.workflow import Workflow

if TYPE_CHECKING:
    from abi.models.backbone import Backbone


def generate(
    backbone: Annotated[str, Option(metavar="NAME", help="a backbone of the scale that was built")],
    prompt: Annotated[str, Option(metavar="TEXT", help="the text to continue")],
    scale: Scale = DEFAULT,
    module: Annotated[
        Path | None, Option(metavar="DIR", help="folder of a trained module", show_default="none attached")
    ] = None,
    tokens: Annotated[int, Option(metavar="N", help="most tokens to add")] = 64,
    temperature: Annotated[float, Option(metavar="X", help="0 is greedy")] = 0.0,
    seed: Annotated[int, Option(help="of the draws at a temperature above 0")] = 0,
    as_json: AsJson = False,
) -> int:
    """Print the prompt and its continuation.

    Raises: ConfigError: an unknown backbone; DataError: it or the module is not there, or they do not belong together.
    """
    import torch

    from abi.base.manifests.modules import ModuleManifest
    from abi.models import attach
    from abi.models.load import load_module
    from abi.models.tokenizers import continuation, prompt_ids

    model, base = read_backbone(scale, backbone)
    ids = torch.tensor([prompt_ids(model.tokenizer, prompt)])
    loaded, facts = (None, None) if module is None else load_module(module)
    if isinstance(facts, ModuleManifest) and facts.base_sha256 != base.weights_sha256:
        raise DataError(
            f"{module}: belongs to other weights (of {facts.base_model}) than backbone {backbone} of scale {scale}; "
            "give it the backbone it was trained or calibrated on"
        )
    attached = None if loaded is None else attach.attach(model, loaded)
    made = attach.generate(model, ids, tokens, temperature=temperature, seed=seed)[0].tolist()
    if attached is not None:
        attached.detach()
    before = [] if model.is_encoder_decoder else ids[0].tolist()
    text = continuation(model.tokenizer, before, made)
    sha256 = None if facts is None else facts.sha256
    about = {"scale": scale, "backbone": backbone, "module": sha256, "prompt": prompt, "text": text, "ids": made}
    print(json.dumps(about, indent=1) if as_json else prompt + text)
    return 0


def read_backbone(scale: str, name: str) -> "tuple[Backbone, BackboneManifest]":
    """Return a built backbone of a scale and its manifest.

    Raises: ConfigError: the scale has none of that name; DataError: it was not built; TamperError: its weights changed.
    """
    from abi.models.backbone import load_checked

    study = Workflow(load(scale))
    known = study.scale.backbones
    if name not in known:
        valid = f"(valid: {', '.join(known)})"
        raise ConfigError(f"{name!r} is not a backbone of scale {scale}{closest(name, known)} {valid}")
    folder = study.backbone_folder(name)
    manifest = f"{folder}.json"
    if not Path(manifest).exists():
        raise DataError(f"{folder}: is not built; run `snakemake --config scale={scale} -- {manifest}`")
    base = BackboneManifest.read(manifest)
    return load_checked(folder, base), base
