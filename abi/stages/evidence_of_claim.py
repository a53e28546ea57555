"""Job: evidence rows and published draws of a claim for a batch of seeds."""

from collections.abc import Mapping
from typing import Any

from abi.evaluation import Key, evidence_rows, published_draws
from abi.fitting import Fitted, load_fitted
from abi.provenance import Job
from abi.rows import COLUMNS, DRAW_COLUMNS, write_csv, write_promise
from abi.stages.store import check_same_text, entries, module_of_seed, read_head, read_states
from abi.states import States
from abi.vocabulary import UNFITTED


def run(job: Job, inputs: Mapping[str, Any], outputs: Mapping[str, str]) -> None:
    """Write `evidence` and `draws` (csv.gz), and `manifest`, which says what is in them."""
    spec: dict[str, Any] = dict(job.spec)
    domain, general = (read_states(inputs[name], "test") for name in ("domain", "general"))
    train = read_states(inputs["train"], "train")
    check_same_text(domain, train)
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
        arms = arms_of_seed(spec["kind"], inputs, seed, reference, domain)
        teacher = reference if spec["kind"] == "reconstruction" else arms[Key(UNFITTED, "oracle")]
        rows += evidence_rows(arms, reference, teacher, scopes, head, seed, spec["windows_per_batch"])
        draws += published_draws(
            arms, reference, domain, head, seed=seed, rng_seeds=spec["rng_seeds"], n_chunks=spec["n_chunks"]
        )
    write_csv(outputs["evidence"], COLUMNS, rows)
    write_csv(outputs["draws"], DRAW_COLUMNS, draws)
    write_promise(outputs["manifest"], job.provenance())


def arms_of_seed(
    kind: str, inputs: Mapping[str, Any], seed: int, reference: Fitted, states: States
) -> dict[Key, Fitted | None]:
    """Return every arm of a seed: raw, reference, oracle (`before` too in a reconstruction) and the fitted ones.

    Raises: DataError: an arm or module belongs to another backbone than the states it is to be evaluated on.
    """
    arms: dict[Key, Fitted | None] = {Key(UNFITTED, "raw"): None, Key(UNFITTED, "reference"): reference}
    for name in ("oracle", "before") if kind == "reconstruction" else ("oracle",):
        arms[Key(UNFITTED, name)] = module_of_seed(inputs[name], seed, states)
    for folder, entry in entries(inputs["calibration"], "calibration", "arms", seed):
        arm = load_fitted(folder / entry["folder"], states.manifest["base_sha256"])
        arms[Key(entry["fit"], entry["arm"], entry["draw"])] = arm
    return arms


def spread(states: States, wanted: int, per_document: int = 2) -> list[int]:
    """Return about `wanted` windows, the first two of documents spread evenly over the store."""
    first: dict[int, list[int]] = {}
    for window, document in enumerate(states.document.tolist()):
        first.setdefault(document, []).append(window)
    step = max(1, len(first) * per_document // wanted)
    return [window for document in sorted(first)[::step] for window in first[document][:per_document]]
