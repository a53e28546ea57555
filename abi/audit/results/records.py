"""The record of a job: the JSON file that it writes last, which names what the job read and what else it wrote."""

import re
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import NamedTuple, get_args

from abi.base import manifests
from abi.base.errors import AbiError, DataError
from abi.base.files import parse_file
from abi.base.typed import Document, Provenance, Split, of_format
from abi.judge.results import KINDS

SPLIT = re.compile(rf"(/states/.*)\.(?:{'|'.join(get_args(Split))})\.json$")
"""The records of states, of which one job writes three."""
MODELS: dict[str, type[Document]] = {
    **KINDS,
    **{
        model.format_name(): model
        for found in iter_modules(manifests.__path__)
        for model in vars(import_module(f"{manifests.__name__}.{found.name}")).values()
        if isinstance(model, type) and issubclass(model, Document) and model is not Document
    },
}
"""`format` -> model of every file that names what made it."""


EVALUATE = {"judge_claim": {"evaluate_arms"}, "judge_study": {"evaluate_studies", "evaluate_experiment"}}
"""Rule of a verdict -> the rules whose evidence it judges."""
WRITERS = {
    "alignment": {"fit_alignment"},
    "backbone": {"build_backbone", "admit_update", "update_backbone"},
    "batch": {"update_backbone", "write_lesson_text", "write_updated_states"},
    "calibration": {"calibrate_arms"},
    "evidence": set().union(*EVALUATE.values()),
    "fits": {"evaluate_experiment"},
    "generation": {"generate_text"},
    "ladder": {"judge_ladder"},
    "lora": {"train_lora"},
    "modules": {"train_modules", "train_updated_modules"},
    "overlap": {"measure_overlap"},
    "portable-modules": {"calibrate_placebos", "train_portable"},
    "rates": {"choose_rates"},
    "report": {"write_report"},
    "result": {"judge_claim"},
    "states": {"write_lesson_text", "write_states", "write_updated_states"},
    "study": {"judge_study"},
    "summary": {"summarise"},
    "text": {"build_text"},
    "transfers": {"tabulate_transfers"},
}
"""Kind of a record -> the rules whose jobs write one."""


class Record(NamedTuple):
    """A record, and what made it."""

    document: Document
    made: Provenance

    def others(self, path: str) -> dict[str, str]:
        """Return path -> hash of what its job wrote beside the record, which cannot hold its own hash."""
        return {file: sha256 for file, sha256 in self.made.outputs.items() if file != path}


def read_record(path: str) -> Record:
    """Return the record of a file. Raises: DataError, TamperError: missing, damaged, or no record of abi."""
    content = parse_file(path)
    model = of_format(content, MODELS)
    if model is None:
        raise DataError(f"{path}: is no record of abi")
    found = model.of(content, path)
    made: Provenance | None = getattr(found, "provenance", None)
    if made is None:
        raise DataError(f"{path}: names nothing that it was made from, so it is another file than the one written here")
    return Record(found, made)


def fault_of(path: str, error: AbiError) -> str:
    """Return in few words what is wrong with a record that cannot be read."""
    return str(error).removeprefix(f"{path}: ").partition("; ")[0]


def is_record(file: str, results: str) -> bool:
    """Return whether a job of a run writes a file last. Args: results: folder of the run."""
    return file.startswith(f"{results}/") and file.endswith(".json") and not file.endswith(".tokens.json")


def job_of(path: str) -> str:
    """Return what the job of a record is called: the record itself, or what its records of states share."""
    return SPLIT.sub(r"\1.json", path)


def made_by(path: str | Path) -> Provenance:
    """Return what made a file, whatever else it says. Raises: DataError: it does not say."""
    try:
        return Provenance.model_validate(parse_file(path)["provenance"])
    except (KeyError, TypeError, ValueError) as error:
        kind = type(error).__name__
        raise DataError(f"{path}: does not say what made it ({kind}); delete it and rebuild it") from None
