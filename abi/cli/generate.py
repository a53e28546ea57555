"""The command `abi generate`: text of a built backbone, with a trained module attached or without."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abi.base.errors import ConfigError, DataError
from abi.base.files import read_json
from abi.cli.config import scale_options
from abi.plan.config import load
from abi.plan.transfers import Study
from abi.plan.yaml_files import closest

if TYPE_CHECKING:
    from abi.models.backbone import Backbone


def generate_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `abi generate`."""
    scale_options(parser)
    parser.add_argument("--backbone", required=True, metavar="NAME", help="a backbone of the scale that was built")
    parser.add_argument(
        "--module", type=Path, metavar="DIR", help="folder of a trained module (default: none attached)"
    )
    parser.add_argument("--prompt", required=True, metavar="TEXT", help="the text to continue")
    parser.add_argument("--tokens", type=int, default=64, metavar="N", help="most tokens to add (default: 64)")
    parser.add_argument("--temperature", type=float, default=0.0, metavar="X", help="0 is greedy (default: 0)")
    parser.add_argument("--seed", type=int, default=0, help="of the draws at a temperature above 0 (default: 0)")
    parser.add_argument("--json", action="store_true", help="one JSON document for machines instead of text")


def generate(options: argparse.Namespace) -> int:
    """Print the prompt and its continuation.

    Raises: ConfigError: an unknown backbone; DataError: it or the module is not there, or they do not belong together.
    """
    import torch

    from abi.models import attach
    from abi.models.module import load_module
    from abi.models.tokenizers import encode

    backbone, base = read_backbone(options.scale, options.backbone)
    ids = torch.from_numpy(encode(backbone.tokenizer, options.prompt)[0]).unsqueeze(0)
    module, facts = (None, None) if options.module is None else load_module(options.module)
    if facts is not None and facts["base_sha256"] != base["weights_sha256"]:
        raise DataError(
            f"{options.module}: belongs to other weights (of {facts['base_model']}) than backbone {options.backbone} of scale "
            f"{options.scale}; give it the backbone it was trained or calibrated on"
        )
    attached = None if module is None else attach.attach(backbone, module)
    made = attach.generate(
        backbone, ids, options.tokens, temperature=options.temperature, seed=options.seed
    )[0].tolist()  # fmt: skip
    if attached is not None:
        attached.detach()
    text = backbone.tokenizer.decode(made, skip_special_tokens=True)
    about: dict[str, Any] = {
        "scale": options.scale, "backbone": options.backbone, "module": None if facts is None else facts["sha256"],
        "prompt": options.prompt, "text": text, "ids": made,
    }  # fmt: skip
    print(json.dumps(about, indent=1) if options.json else options.prompt + text)
    return 0


def read_backbone(scale: str, name: str) -> "tuple[Backbone, dict[str, Any]]":
    """Return a built backbone of a scale and its manifest.

    Raises: ConfigError: the scale has none of that name; DataError: it was not built; TamperError: its weights changed.
    """
    from abi.models.backbone import load_checked

    study = Study(load(scale))
    known = study.scale["backbones"]
    if name not in known:
        raise ConfigError(
            f"{name!r} is not a backbone of scale {scale}{closest(name, known)} (valid: {', '.join(known)})"
        )
    folder = study.backbone_folder(name)
    manifest = f"{folder}.json"
    if not Path(manifest).exists():
        raise DataError(f"{folder}: is not built; run `snakemake --config scale={scale} -- {manifest}`")
    base = read_json(manifest, "backbone")
    return load_checked(folder, base), base
