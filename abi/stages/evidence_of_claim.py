"""Job: evidence rows and published draws of a claim for a batch of seeds."""

import csv
import gzip
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from abi.evaluation import COLUMNS, DRAW_COLUMNS, UNFITTED, Key, evidence_rows, published_draws
from abi.fitting import Fitted, load_fitted
from abi.provenance import Job, atomic_path
from abi.stages.store import entries, module_of_seed, read_head, read_states
from abi.states import States


def run(job: Job, inputs: Mapping[str, Any], outputs: Mapping[str, str]) -> None:
    """Write `evidence` and `draws` (csv.gz)."""
    spec: dict[str, Any] = dict(job.spec)
    domain, general, train = (read_states(inputs[name]) for name in ("domain", "general", "train"))
    head = read_head(inputs["head"], domain)
    scopes = {
        "domain": domain,
        "general": general,
        "on_training_text": train.select(spread(train, spec["training_windows"])),
    }
    rows: list[tuple[Any, ...]] = []
    draws: list[tuple[Any, ...]] = []
    for seed in spec["seeds"]:
        reference = module_of_seed(inputs["reference"], seed, domain)
        arms = arms_of_seed(spec["kind"], inputs, seed, reference)
        teacher = reference if spec["kind"] == "reconstruction" else arms[Key(UNFITTED, "oracle")]
        rows += evidence_rows(arms, reference, teacher, scopes, head, seed, spec["windows_per_batch"])
        draws += published_draws(
            arms, reference, domain, head, seed=seed, rng_seeds=spec["rng_seeds"], n_chunks=spec["n_chunks"]
        )
    write_csv(outputs["evidence"], COLUMNS, rows)
    write_csv(outputs["draws"], DRAW_COLUMNS, draws)


def arms_of_seed(kind: str, inputs: Mapping[str, Any], seed: int, reference: Fitted) -> dict[Key, Fitted | None]:
    """Return every arm of a seed: raw, reference, oracle (`before` too in a reconstruction) and the fitted ones."""
    arms: dict[Key, Fitted | None] = {Key(UNFITTED, "raw"): None, Key(UNFITTED, "reference"): reference}
    for name in ("oracle", "before") if kind == "reconstruction" else ("oracle",):
        arms[Key(UNFITTED, name)] = module_of_seed(inputs[name], seed)
    for folder, entry in entries(inputs["calibration"], "calibration", "arms", seed):
        arms[Key(entry["fit"], entry["arm"], entry["draw"])] = load_fitted(folder / entry["folder"])
    return arms


def spread(states: States, wanted: int, per_document: int = 2) -> list[int]:
    """Return about `wanted` windows, the first two of documents spread evenly over the store."""
    first: dict[int, list[int]] = {}
    for window, document in enumerate(states.document.tolist()):
        first.setdefault(document, []).append(window)
    step = max(1, len(first) * per_document // wanted)
    return [window for document in sorted(first)[::step] for window in first[document][:per_document]]


def write_csv(path: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write rows as csv.gz, atomically, byte-identical for identical rows; numbers keep 9 significant digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([f"{v:.9g}" if isinstance(v, float) else v for v in row] for row in rows)
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as handle:
        handle.write(text.getvalue().encode())
    with atomic_path(path) as temporary:
        temporary.write_bytes(packed.getvalue())
