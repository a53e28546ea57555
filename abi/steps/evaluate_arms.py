"""Step evaluate_arms: evidence rows and published draws of a claim for a batch of seeds."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from abi.arms.forms import FINALS, ArmForm, load_entry, load_stored
from abi.arms.metrics import DrawRow, EvidenceRow, Key, Score, evidence_rows, ngram_scores, published_draws, score
from abi.base.errors import DataError, TamperError
from abi.base.job import InputFiles, Job
from abi.base.manifests.arms import CalibrationManifest, LoraManifest
from abi.base.manifests.backbones import TokensManifest
from abi.base.names import (
    BEFORE,
    BIAS,
    CALIBRATED,
    CALIBRATED_TOO,
    NO_DOMAIN,
    ORACLE,
    PORTABLE,
    RAW,
    REFERENCE,
    SOURCE_ALONE,
    TRANSFERRED,
    UNFITTED,
    UNTRAINED,
    WRONG_DOMAIN,
)
from abi.base.regimes import REGIMES
from abi.judge.evidence_files import write_evidence
from abi.models.head import Head
from abi.models.module import redrawn, without_domain_net
from abi.models.portable import Placed, Vocabulary, placebos_of, portable_of_seed
from abi.models.saved import check_same_text, module_of_seed, read_head, read_states, spread
from abi.models.states import States
from abi.plan.specs.arms import EvaluateArms

Spec = EvaluateArms
Arms = dict[Key, ArmForm | None]


def run(job: Job[EvaluateArms], inputs: InputFiles, outputs: Mapping[str, str]) -> None:
    """Write `evidence` and `draws` (csv.gz), and `manifest`, which says what is in them."""
    spec, regime = job.spec, REGIMES[job.spec.regime]
    domain, general = (read_states(inputs[name], "test") for name in ("domain", "general"))
    scopes = {"domain": domain, "general": general}
    if "train" in inputs.keys():
        train = read_states(inputs["train"], "train")
        check_same_text(domain, train)
        scopes["on_training_text"] = train.select(spread(train, spec.training_windows))
    head = read_head(inputs["head"], domain)
    of_source = [scope for scope in scopes if f"source_{scope}" in inputs.keys()]
    source = {scope: read_states(inputs[f"source_{scope}"], "test") for scope in of_source}
    beside = counted_beside(inputs, spec, scopes, head)
    rows: list[EvidenceRow] = []
    draws: list[DrawRow] = []
    for seed in spec.seeds:
        oracle = module_of_seed(inputs["oracle"], seed, domain)
        trained = {REFERENCE: module_of_seed(inputs["reference"], seed, domain), ORACLE: oracle}
        if "before" in inputs.keys():
            trained[BEFORE] = module_of_seed(inputs["before"], seed, domain)
        arms: Arms = {Key(UNFITTED, RAW): None}
        arms |= {Key(UNFITTED, name): module for name, module in trained.items()}
        if "portable" in inputs.keys():
            arms |= placed_of_seed(inputs, spec.placebos, seed, head)
        else:
            arms |= fitted_of_seed(inputs["calibration"], seed, domain, head)
        if regime.taught_by == ORACLE:
            # the interface of a seed before any fit, without a net: what the original's E4 starts from
            arms[Key(UNFITTED, UNTRAINED)] = (
                redrawn(without_domain_net(oracle.config), seed).requires_grad_(False).to(oracle.device)
            )
        if seed not in spec.closed_only and "lora" in inputs.keys():
            arms |= lora_of_seed(inputs["lora"], seed, scopes)
        teacher = None if regime.taught_by is None else trained[regime.taught_by]
        scores = score(arms, trained[REFERENCE], teacher, scopes, head, windows_per_batch=spec.windows_per_batch)
        rows += evidence_rows([*scores, *beside], scopes, seed)
        if source:
            rows += source_alone(inputs, seed, source, spec.windows_per_batch)
        draws += published_draws(scores, len(domain), seed=seed, rng_seeds=spec.rng_seeds, n_chunks=spec.n_chunks)
    write_evidence(outputs, rows, draws, lambda: job.provenance(outputs))


def counted_beside(inputs: InputFiles, spec: EvaluateArms, scopes: Mapping[str, States], head: Head) -> list[Score]:
    """Return the losses of an n-gram model of what the portable module was trained on, the same in every seed."""
    if spec.ngram is None:
        return []
    counted = read_states(inputs["counted"], "train")
    own, target = (Vocabulary(TokensManifest.read(inputs[name]).spellings) for name in ("source_tokens", "tokens"))
    return ngram_scores(counted, own, target, scopes, head, spec.ngram)


def source_alone(
    inputs: InputFiles, seed: int, scopes: Mapping[str, States], windows_per_batch: int
) -> Iterator[EvidenceRow]:
    """Yield the losses of the source backbone with its own module on the same texts: no agreement, other tokens."""
    head = read_head(inputs["source_head"], scopes["domain"])
    if "portable" in inputs.keys():
        vocabulary = Vocabulary(TokensManifest.read(inputs["source_tokens"]).spellings)
        own: ArmForm = Placed(portable_of_seed(inputs["portable"], seed, TRANSFERRED), vocabulary, head.scale)
    else:
        own = module_of_seed(inputs["source"], seed, scopes["domain"])
    arms = {Key(UNFITTED, SOURCE_ALONE): own}
    scores = score(arms, None, None, scopes, head, windows_per_batch=windows_per_batch, agree_on=())
    yield from evidence_rows(scores, scopes, seed)


def fitted_of_seed(manifests: list[str], seed: int, states: States, head: Head) -> Arms:
    """Return the fitted arms of a seed.

    Raises: DataError: there are none, or an arm belongs to another backbone than the states it is to be evaluated on;
        TamperError: an arm is not the one recorded.
    """
    found: Arms = {}
    for path in manifests:
        for entry in (entry for entry in CalibrationManifest.read(path).arms if entry.seed == seed):
            found[Key(entry.fit, entry.arm, entry.draw)] = load_entry(path, entry, states, head)
    if not found:
        raise DataError(f"calibration: none of {list(manifests)} holds seed {seed}; ask Snakemake for them")
    return found


def placed_of_seed(inputs: InputFiles, draws: Mapping[str, int], seed: int, head: Head) -> Arms:
    """Return the portable modules of a seed as they are on the target, their placebos and their controls.

    A placebo keeps the moved module's reader and writer around another net.
    Args: draws: placebo -> how many.
    Raises: as `portable_of_seed`.
    """
    vocabulary = Vocabulary(TokensManifest.read(inputs["tokens"]).spellings)
    trained = (TRANSFERRED, NO_DOMAIN, BIAS)
    found = {Key(PORTABLE, arm): portable_of_seed(inputs["portable"], seed, arm) for arm in trained}
    moved = found[Key(PORTABLE, TRANSFERRED)]
    found[Key(PORTABLE, WRONG_DOMAIN)] = portable_of_seed(inputs["portable_wrong"], seed, TRANSFERRED)
    found |= {Key(PORTABLE, *drawn): placebo for drawn, placebo in placebos_of(moved, draws, seed).items()}
    calibrated = [f"{arm}{CALIBRATED}" for arm in CALIBRATED_TOO]
    found |= {Key(PORTABLE, arm): portable_of_seed(inputs["placebos"], seed, arm) for arm in calibrated}
    return {key: Placed(module, vocabulary, head.scale) for key, module in found.items()}


def lora_of_seed(manifests: list[str], seed: int, scopes: Mapping[str, States]) -> Arms:
    """Return a seed's `lora` arms, whose adapted final states were stored.

    Raises: DataError: there are none, or they are of another backbone or of other windows than the states.
    """
    found: Arms = {}
    for path in manifests:
        about = LoraManifest.read(path)
        for entry in (entry for entry in about.arms if entry.seed == seed):
            if entry.folder != entry.place:
                raise TamperError(f"{path}: {entry.place} is not in the folder of its name; rebuild the arm `lora`")
            file = Path(path).with_suffix("") / entry.folder / FINALS
            arm = load_stored(file, entry.finals_sha256, scopes, about.base_sha256)
            found[Key(entry.fit, entry.arm, entry.draw)] = arm
    if not found:
        raise DataError(f"lora: none of {list(manifests)} holds seed {seed}; ask Snakemake for them")
    return found
