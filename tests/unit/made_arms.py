"""What tests of texts, states and fits share: specs, recipes of a regime, manifests of made-up states, facts of a backbone."""

from collections import defaultdict

from pydantic import TypeAdapter

from abi.base import catalogue
from abi.base.catalogue import ARMS
from abi.base.job import Job
from abi.base.manifests.states import BaseFacts, StatesManifest, StoredWindows
from abi.plan.specs.text import BuildText, Source

PROVENANCE = Job("r", {}, "c", [], 1).provenance()
BASE = BaseFacts(base_model="b", base_revision="built", base_sha256="a" * 64, head_sha256="b" * 64, vocabulary="c")
AS_SCHEDULED = defaultdict(lambda: 1.0)
"""Rates at which every arm is fitted with the rates of its schedule."""
SHARES, SALT = {"train": 0.5, "calibration": 0.2, "test": 0.3}, "salt"


def recipes_of(regime, lora=False, only=ARMS):
    """Arm -> recipe of a regime; `lora`, which runs a backbone and has a job and tests of its own, if asked for."""
    return {
        name: recipe for name, recipe in catalogue.recipes_of(only, regime).items() if lora or recipe.form != "lora"
    }


def states_manifest(stored, **changes):
    """The manifest of states that were stored for a test."""
    facts = dict(stored) if isinstance(stored, StoredWindows) else stored
    about = {"split": "train", "tensors_sha256": "d" * 64, "corpus_sha256": "e" * 64, "shares": SHARES, "salt": SALT}
    return StatesManifest.model_validate({**about, **dict(BASE), "provenance": PROVENANCE, **facts, **changes})


def edited(manifest, **changes):
    """A manifest with some values changed, unchecked."""
    return manifest.model_copy(update=changes)


def source_of(given):
    """A source of text as the config has it."""
    return TypeAdapter(Source).validate_python(given)


def text_spec(source, **changes):
    """The spec of a text of code from one source, without a cap that is ever hit."""
    given = {"extract": "code", "sources": [source], "max_bytes": 10**9, "max_bytes_per_document": 10**6,
             "min_bytes_per_document": 1, "max_documents_per_group": 100, "max_copied_share": 0.5, "split": SHARES,
             "salt": "s", "min_test_groups": 2}  # fmt: skip
    return edited(BuildText.model_validate(given), **changes)
