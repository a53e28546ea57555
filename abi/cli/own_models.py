"""Models of a user as backbones of a scale: read far enough to say what is wrong before anything is built."""

from pathlib import Path

from abi.api.defaults import window_for
from abi.base.errors import DataError, first_line
from abi.cli.options import home_path
from abi.plan.scale import UNPINNED
from abi.plan.specs.models import BackboneSection, Hub, LocalModel

TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")
"""Files of which a tokenizer leaves one at least."""
LENGTH = 128
"""Tokens of a window, at most."""


def backbone_of(place: str, folder: Path) -> BackboneSection:
    """Return the entry of a model, with a window that it can read. Raises: DataError: it is none."""
    import transformers

    local = folder.is_dir()
    try:
        config = transformers.AutoConfig.from_pretrained(folder if local else place, trust_remote_code=False)
    except Exception as error:
        raise DataError(f"{place}: gives no config of a model of transformers ({first_line(error, 120)})") from None
    text = config.get_text_config(decoder=True)
    most = getattr(config, "max_position_embeddings", None) or getattr(text, "max_position_embeddings", None)
    window = window_for(LENGTH, most or None, encoder_decoder=config.is_encoder_decoder)
    if local:
        _require_whole(folder, text.vocab_size)
    made = BackboneSection(window=window, taps=[], width=text.hidden_size)
    taken = {"folder": LocalModel(path=home_path(folder))} if local else {"hub": Hub(id=place, revision=UNPINNED)}
    return made.model_copy(update=taken)


def _require_whole(folder: Path, tokens: int) -> None:
    """Raise DataError for a folder whose weights cannot be read, or without the tokenizer of its model.

    Args: tokens: of the model's vocabulary, as its config says.
    """
    import safetensors
    import transformers

    from abi.models.tokenizers import beyond

    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safetensors.safe_open(file, "numpy") as weights:
                weights.keys()
        except (OSError, safetensors.SafetensorError) as error:
            raise DataError(
                f"{file}: cannot be read as safetensors ({first_line(error, 120)}); copy it again"
            ) from None
    if not any((folder / name).is_file() for name in TOKENIZERS):
        raise DataError(f"{folder}: holds no tokenizer ({', '.join(TOKENIZERS)}); save that of the model there")
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:
        why = first_line(error, 120)
        raise DataError(f"{folder}: its tokenizer cannot be read ({why}); save that of the model there") from None
    if beyond(tokenizer, tokens):
        raise DataError(
            f"{folder}: the tokenizer has {len(tokenizer)} tokens, the model {tokens}; they do not belong together"
        )
