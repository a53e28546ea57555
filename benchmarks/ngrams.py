"""An n-gram model in place of a portable module: what a user would do instead of moving one.

python benchmarks/ngrams.py [--scale tiny] [--choose] [CLAIM ...]   (where the claims were built)

An n-gram model of bytes (`abi/models/ngrams.py`) counts the domain windows on which the source's portable module was
trained, moves as it is, and is mixed with the target by how well both foretold the text so far. It is measured on the
held-out text of every zero-text transfer, beside the claim's own evidence. Rows go to ngrams.csv: the share of the
oracle's gain that n-grams and module close; by how many bits per byte general text gets worse with each; by how many
the module is ahead of the n-grams on domain text, with its interval over groups of documents and seeds.

`--choose` prints what order and share of the mixture were chosen by: nats per position on the sources' own calibration
text, domain and general. Held-out text is not read for it.
"""

import argparse
from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch

from abi.arms.metrics import Key, Score, evidence_rows
from abi.base.files import csv_rows, csv_text, write_text
from abi.base.manifests.backbones import TokensManifest
from abi.base.names import ORACLE, RAW, TRANSFERRED
from abi.judge.contrasts import Measure
from abi.judge.evidence_files import COLUMNS
from abi.judge.intervals import components
from abi.judge.protocol import BPB, GENERAL
from abi.judge.tables import fit_tables, read_promised
from abi.models.ngrams import NGRAM, ORDER, SHARE, Foretold, Ngrams, mixed_losses, texts_of
from abi.models.portable import Vocabulary
from abi.models.saved import read_head, read_states
from abi.models.states import States
from abi.plan.config import load
from abi.plan.workflow import Workflow
from abi.report.ngrams import COLUMNS as NAMES
from abi.report.ngrams import MEASURED

ORDERS, SHARES, WINDOWS = (4, 8, 12, 16), (0.1, 0.2, 0.3, 0.5), 40


def states_of(study: Workflow, backbone: str, text: str, split: str) -> States:
    """Return the states of a backbone on a split of a text."""
    return read_states(study.states(backbone, text, split), split)


def vocabulary(study: Workflow, backbone: str) -> Vocabulary:
    """Return the vocabulary of a backbone."""
    return Vocabulary(TokensManifest.read(study.tokens(backbone)).spellings)


def counted(study: Workflow, backbone: str, text: str, order: int = ORDER) -> Ngrams:
    """Return the n-gram model of the windows on which a backbone's modules of a text are trained."""
    return Ngrams(texts_of(vocabulary(study, backbone), states_of(study, backbone, text, "train")), order)


def choices(study: Workflow, source: str, text: str) -> Iterator[tuple[int, float, float, float]]:
    """Yield order, share, and the loss on domain and general calibration text of a source, in nats per position."""
    checked = [states_of(study, source, of, "calibration") for of in (text, study.general)]
    checked = [some.select(range(0, len(some), max(1, len(some) // WINDOWS))) for some in checked]
    head, own = read_head(study.head(source), checked[0]), vocabulary(study, source)
    for order in ORDERS:
        foretold = Foretold(counted(study, source, text, order), own)
        for share in SHARES:
            domain, general = (float(mixed_losses(foretold, states, head, share).mean()) for states in checked)
            yield order, share, domain, general


def tables_of(study: Workflow, name: str) -> dict[Measure, dict[str, np.ndarray]]:
    """Return the tables `[groups, seeds]` of a claim's evidence with the n-gram model as one more arm; less is better."""
    claim, planned = study.claim(name), study.of(name)
    frame, _ = read_promised(planned.verdict_input()["manifests"])
    judged = fit_tables(frame, fit=claim.fit, criteria=study.config.protocol.criteria)
    foretold = Foretold(counted(study, claim.source, claim.text), vocabulary(study, claim.target))
    found: dict[Measure, dict[str, np.ndarray]] = {}
    for scope, path in planned.scopes(claim.target).items():
        states = read_states(path, "test")
        losses = mixed_losses(foretold, states, read_head(study.head(claim.target), states), SHARE)
        score = Score(scope, Key(claim.fit, NGRAM), "loss_nats", losses)
        rows = pd.DataFrame(evidence_rows([score], {scope: states}, 0), columns=COLUMNS)
        measure = Measure("bits_per_byte", scope)
        kept = rows[(rows["metric"] == measure.metric) & rows["document"].isin(judged.documents[scope])]
        groups = kept.groupby("group")["value"].mean().to_numpy()
        own = judged.tables[measure]
        found[measure] = {**own, NGRAM: np.broadcast_to(groups[:, None], own[ORACLE].shape)}
    return found


def compared(study: Workflow, scale: str, name: str) -> list[str]:
    """Return the row of a claim."""
    tables = tables_of(study, name)
    domain, general = ({arm: table.mean() for arm, table in tables[measure].items()} for measure in (BPB, GENERAL))
    gap = domain[RAW] - domain[ORACLE]
    closures = [(domain[RAW] - domain[arm]) / gap for arm in (NGRAM, TRANSFERRED)]
    harms = [general[arm] - general[RAW] for arm in (NGRAM, TRANSFERRED)]
    ahead = components(tables[BPB][NGRAM] - tables[BPB][TRANSFERRED])
    mean, half = float(ahead.mean), float(ahead.half(study.config.protocol.criteria.level))
    figures = [*closures, *harms, mean, mean - half, mean + half]
    return [scale, name, *(f"{figure:.3f}" for figure in figures)]


def main() -> None:
    """Print a row per zero-text transfer, and put it among the others in the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", default="tiny")
    parser.add_argument("--choose", action="store_true")
    parser.add_argument("claims", nargs="*")
    options = parser.parse_args()
    torch.set_num_threads(1)
    study = Workflow(load(options.scale))
    known = {name: claim for name, claim in study.config.claims.items() if getattr(claim, "regime", "") == "zero-text"}
    asked = {name: known[name] for name in options.claims or known}
    if options.choose:
        for source, text in sorted({(claim.source, claim.text) for claim in asked.values()}):
            for order, share, domain, general in choices(study, source, text):
                print(f"{source},{text},{order},{share},{domain:.4f},{general:.4f},{domain + general:.4f}", flush=True)
        return
    for name in asked:
        row = compared(study, options.scale, name)
        print(",".join(row), flush=True)
        rows = csv_rows(MEASURED.read_text(encoding="utf-8"), NAMES) if MEASURED.exists() else []
        kept = [there for there in rows if there[:2] != row[:2]]
        write_text(MEASURED, csv_text(NAMES, sorted([*kept, row])))


if __name__ == "__main__":
    main()
