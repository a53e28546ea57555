"""Job: evidence rows and published draws of a claim for a batch of seeds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from abi.arms.forms import FINALS, Evaluated, load_fitted, load_stored
from abi.arms.recipes import redrawn
from abi.arms.scores import Key, evidence_rows, published_draws, score
from abi.base.errors import DataError
from abi.base.files import read_json
from abi.base.job import Job
from abi.base.names import UNFITTED
from abi.judge.evidence_files import COLUMNS, DRAW_COLUMNS, write_csv, write_promise
from abi.models.module import AbiModule, without_domain_net
from abi.models.saved import check_same_text, entries, module_of_seed, read_head, read_states, spread
from abi.models.states import States


def run(job: Job, inputs: Mapping[str, Any], outputs: Mapping[str, str]) -> None:
    """Write `evidence` and `draws` (csv.gz), and `manifest`, which says what is in them."""
    spec: dict[str, Any] = dict(job.spec)
    domain, general = (read_states(inputs[name], "test") for name in ("domain", "general"))
    scopes = {"domain": domain, "general": general}
    if "train" in inputs.keys():
        train = read_states(inputs["train"], "train")
        check_same_text(domain, train)
        scopes["on_training_text"] = train.select(spread(train, spec["training_windows"]))
    head = read_head(inputs["head"], domain)
    rows: list[tuple[Any, ...]] = []
    draws: list[tuple[Any, ...]] = []
    for seed in spec["seeds"]:
        reference = module_of_seed(inputs["reference"], seed, domain)
        arms = arms_of_seed(inputs, seed, reference, domain)
        if spec["regime"] == "oracle-kd":
            arms[Key(UNFITTED, "untrained")] = untrained(arms[Key(UNFITTED, "oracle")], seed)
        if seed not in spec["closed_only"]:
            arms |= lora_of_seed(inputs, seed, scopes)
        teachers = {"oracle-kd": arms[Key(UNFITTED, "oracle")], "reconstruction": reference}
        teacher = teachers.get(spec["regime"])
        scores = score(arms, reference, teacher, scopes, head, windows_per_batch=spec["windows_per_batch"])
        rows += evidence_rows(scores, scopes, seed)
        draws += published_draws(scores, len(domain), seed=seed, rng_seeds=spec["rng_seeds"], n_chunks=spec["n_chunks"])
    write_csv(outputs["evidence"], COLUMNS, rows)
    write_csv(outputs["draws"], DRAW_COLUMNS, draws)
    write_promise(outputs["manifest"], job.provenance())


def arms_of_seed(
    inputs: Mapping[str, Any], seed: int, reference: Evaluated, states: States
) -> dict[Key, Evaluated | None]:
    """Return every arm of a seed: raw, reference, oracle (`before` too in a reconstruction) and the fitted ones.

    Raises: DataError: an arm or module belongs to another backbone than the states it is to be evaluated on.
    """
    arms: dict[Key, Evaluated | None] = {Key(UNFITTED, "raw"): None, Key(UNFITTED, "reference"): reference}
    for name in ("oracle", "before") if "before" in inputs.keys() else ("oracle",):
        arms[Key(UNFITTED, name)] = module_of_seed(inputs[name], seed, states)
    for folder, entry in entries(inputs["calibration"], "calibration", "arms", seed):
        arm = load_fitted(folder / entry["folder"], states.manifest["base_sha256"])
        arms[Key(entry["fit"], entry["arm"], entry["draw"])] = arm
    return arms


def untrained(oracle: Any, seed: int) -> AbiModule:
    """Return the interface of a seed before any fit, without a net: what the original's E4 starts from (EXPERIMENTS section 0)."""
    return redrawn(without_domain_net(oracle.config), seed).requires_grad_(False)


def lora_of_seed(inputs: Mapping[str, Any], seed: int, scopes: Mapping[str, States]) -> dict[Key, Evaluated | None]:
    """Return a seed's `lora` arms, whose adapted final states were stored; none where the claim has no such arm.

    Raises: DataError: they are of another backbone or of other windows than the states.
    """
    if "lora" not in inputs.keys():
        return {}
    found: dict[Key, Evaluated | None] = {}
    for path in inputs["lora"]:
        manifest = read_json(path, "lora")
        for entry in (entry for entry in manifest["arms"] if entry["seed"] == seed):
            file = Path(path).with_suffix("") / entry["folder"] / FINALS
            arm = load_stored(file, entry["finals_sha256"], scopes, manifest["base_sha256"])
            found[Key(entry["fit"], entry["arm"], entry["draw"])] = arm
    if not found:
        raise DataError(f"lora: none of {list(inputs['lora'])} holds seed {seed}; ask Snakemake for them")
    return found
