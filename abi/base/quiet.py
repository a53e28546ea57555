"""Commands and jobs keep transformers quiet; a program that uses the library decides for itself."""

import os

QUIET = {"TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
"""What transformers and the hub read when they are imported."""


def quiet() -> None:
    """Ask them to say errors alone, unless the environment asks for something else."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
