"""How much of the test text that is scored stands in train: of each document the beginning alone, not all of it.

python -m benchmarks.overlap [--scale tiny]   -> CSV on stdout

The texts and states of the scale must be there. A backbone scores the first windows of a document; its record
(`corpus/<text>.json`) tells of the whole document. `groups` are those without documents above the limit of a verdict's
robustness, counted by either.
"""

import argparse
import csv
import sys
from pathlib import Path

from abi.base.manifests.texts import TextManifest
from abi.judge.left_out import CLOSE_TEXT
from abi.models.saved import read_states
from abi.plan.config import load
from abi.plan.workflow import Workflow
from abi.text.copies import passages, share_in
from abi.text.documents import read_assigned

COLUMNS = "text backbone documents bytes scored groups whole close groups_left scored_share scored_close scored_left"


def overlap(study: Workflow, text: str, backbone: str) -> list[object]:
    """Return a row: what a backbone scores of a text, and its shares in train by whole and by scored documents."""
    files = study.text_files(text)
    documents = read_assigned(files["documents"], files["record"])
    train = {passage for one in documents if one.split == "train" for passage in passages(one.text)}
    states, told = (
        read_states(study.states(backbone, text, "test"), "test"),
        TextManifest.read(files["record"]).held_out,
    )
    known = {one.document: one for one in documents}
    group_of = dict(zip(states.manifest.documents, states.manifest.groups, strict=True))
    ends = dict.fromkeys(group_of, 0)
    for window, place in enumerate(states.document.tolist()):
        name = states.manifest.documents[place]
        ends[name] = max(ends[name], int(states.char_end[window].max()))
    whole = {name: told[name].in_train for name in ends}
    scored = {name: share_in(train, known[name].text[:end]) for name, end in ends.items()}
    n_bytes = [sum(len(known[name].text[:end].encode()) for name, end in limits) for limits in (
        [(name, None) for name in ends], ends.items())]  # fmt: skip
    row: list[object] = [text, backbone, len(ends), *n_bytes, len(set(group_of.values()))]
    for shares in (whole, scored):
        close = {name for name, share in shares.items() if share > CLOSE_TEXT}
        left = {group for name, group in group_of.items() if name not in close}
        row += [f"{sum(shares.values()) / len(shares):.3f}", len(close), len(left)]
    return row


def main() -> None:
    """Write a row per text and backbone whose test states are there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", default="tiny")
    study = Workflow(load(parser.parse_args().scale))
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(COLUMNS.split())
    for text in study.scale.texts:
        for backbone in study.scale.backbones:
            if Path(study.states(backbone, text, "test")).is_file():
                out.writerow(overlap(study, text, backbone))


if __name__ == "__main__":
    main()
