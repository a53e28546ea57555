"""Which classes of models transformers has."""

from abi.base.errors import DataError


def require_class(where: str, model_type: str | None) -> None:
    """Raise DataError for a model that transformers has no class for: it would run code of its own."""
    from transformers import CONFIG_MAPPING

    if model_type is not None and model_type not in CONFIG_MAPPING:
        raise DataError(
            f"{where}: transformers has no class for its model_type {model_type!r}, and abi runs no code of a "
            "repository; choose another model"
        )
