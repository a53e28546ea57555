"""The longest gram and the share of the mixture of the n-gram models that stand beside portable modules.

python benchmarks/ngrams.py [--scale tiny]   (where the zero-text transfers of the scale were built)

Both numbers are registered in the scale (`portable.ngram`). They were chosen by what this prints: nats per position on
the calibration text of every source itself, domain and general, which is what a portable module is trained for. Held-out
text is not read. Rows go to ngrams.csv; the last ones are the means over sources.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import torch

from abi.base.files import write_text
from abi.base.manifests.backbones import TokensManifest
from abi.models.ngrams import Foretold, Ngrams, mixed_losses, texts_of
from abi.models.portable import Vocabulary
from abi.models.saved import read_head, read_states
from abi.models.states import States
from abi.plan.config import load
from abi.plan.workflow import Workflow

ORDERS, SHARES, WINDOWS = (4, 8, 12, 16), (0.1, 0.2, 0.3, 0.5), 40


def losses(workflow: Workflow, source: str, text: str) -> Iterator[dict[str, object]]:
    """Yield a row per order and share: the loss on domain and on general calibration text of a source."""

    def states(of: str, split: str) -> States:
        found = read_states(workflow.states(source, of, split), split)
        return found if split == "train" else found.select(range(0, len(found), max(1, len(found) // WINDOWS)))

    checked = [states(of, "calibration") for of in (text, workflow.general)]
    vocabulary = Vocabulary(TokensManifest.read(workflow.tokens(source)).spellings)
    head, counted = read_head(workflow.head(source), checked[0]), texts_of(vocabulary, states(text, "train"))
    for order in ORDERS:
        foretold = Foretold(Ngrams(counted, order), vocabulary)
        for share in SHARES:
            domain, general = (float(mixed_losses(foretold, some, head, share).mean()) for some in checked)
            row = {"source": source, "text": text, "order": order, "share": share}
            yield row | {"domain": domain, "general": general, "sum": domain + general}


def main() -> None:
    """Print and write the rows of every source of a zero-text transfer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", default="tiny")
    workflow = Workflow(load(parser.parse_args().scale))
    torch.set_num_threads(1)
    claims = [claim for claim in workflow.config.claims.values() if getattr(claim, "regime", "") == "zero-text"]
    rows = pd.DataFrame(row for pair in sorted({(c.source, c.text) for c in claims}) for row in losses(workflow, *pair))
    means = rows.groupby(["text", "order", "share"], as_index=False)[["domain", "general", "sum"]].mean()
    table = pd.concat([rows, means.assign(source="mean")]).round(4)
    print(table.to_string(index=False))
    write_text(Path(__file__).with_suffix(".csv"), table.to_csv(index=False, lineterminator="\n"))


if __name__ == "__main__":
    main()
