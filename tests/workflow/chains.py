"""Damage and forgeries for a finished run of scale smoke: one file of each kind on the way from the texts to a verdict."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from abi.audit.results.chain import Chain, hash_of
from abi.base.typed import seal_of
from abi.judge.evidence_files import COLUMNS, promise_of, read_rows, rows_of, write_csv

RUN = Path("results/smoke")


def flipped(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def edited(path, change=lambda document: document["provenance"].update(threads=7)):
    """Edit a record and leave its seal as it was."""
    document = json.loads(path.read_text(encoding="utf-8"))
    change(document)
    path.write_text(json.dumps(document, indent=1), encoding="utf-8")


def resealed(path, change=lambda document: document["provenance"].update(threads=7)):
    """Edit a record with a seal that fits."""
    edited(path, lambda document: (change(document), document.update(seal=seal_of(document))))


def gone(path):
    path.unlink()


DAMAGED = {
    "text": ("corpus/python.jsonl.gz", flipped, "corpus/python.json"),
    "table of a text": ("corpus/general.csv", gone, "corpus/general.json"),
    "record of a text": ("corpus/python.json", edited, "corpus/python.json"),
    "weights": ("backbones/gpt2_medium/model.safetensors", flipped, "backbones/gpt2_medium.json"),
    "tokenizer": ("backbones/t5_large/tokenizer.json", gone, "backbones/t5_large.json"),
    "head": ("heads/gpt2_medium.safetensors", flipped, "backbones/gpt2_medium.json"),
    "spellings": ("heads/t5_large.tokens.json", flipped, "backbones/t5_large.json"),
    "record of a backbone": ("backbones/gpt2_medium.json", edited, "backbones/gpt2_medium.json"),
    "states": ("states/gpt2_medium/python.train.safetensors", flipped, "states/gpt2_medium/python.train.json"),
    "record of states": ("states/t5_large/python.test.json", edited, "states/t5_large/python.test.json"),
    "module": ("modules/t5_large/python/*/source/1-*/seed1/abi_model.safetensors", flipped, "modules/t5_large/python/*/source/1-*.json"),
    "portable module": ("modules/t5_large/python/portable/portable/1-*/seed1/transferred/abi_model.safetensors", flipped, "modules/t5_large/python/portable/portable/1-*.json"),
    "record of modules": ("modules/gpt2_medium/python/*/oracle/1-*.json", edited, "modules/gpt2_medium/python/*/oracle/1-*.json"),
    "rotations": ("alignments/t5_to_gpt2/1-*.safetensors", flipped, "alignments/t5_to_gpt2/1-*.json"),
    "rates": ("rates/t5_to_gpt2.json", edited, "rates/t5_to_gpt2.json"),
    "arm": ("calibration/t5_to_gpt2/1-*/seed1/kd/random-0/abi_model.safetensors", flipped, "calibration/t5_to_gpt2/1-*.json"),
    "placebo": ("placebos/t5_to_gpt2_zero_text/1-*/seed1/bias-calibrated/abi_model.safetensors", flipped, "placebos/t5_to_gpt2_zero_text/1-*.json"),
    "adapter": ("lora/t5_to_gpt2/1-*/seed1/kd/lora-0/adapter_model.safetensors", flipped, "lora/t5_to_gpt2/1-*.json"),
    "evidence": ("evidence/t5_to_gpt2/1-*[0-9].csv.gz", flipped, "evidence/t5_to_gpt2/1-*.json"),
    "draws": ("evidence/t5_to_gpt2/1-*.draws.csv.gz", gone, "evidence/t5_to_gpt2/1-*.json"),
    "record of evidence": ("evidence/t5_to_gpt2/1-*.json", edited, "evidence/t5_to_gpt2/1-*.json"),
    "record of evidence, resealed": ("evidence/t5_to_gpt2/1-*.json", resealed, "cross_arch_enc_dec_nib_results.json"),
    "record of states, resealed": ("states/gpt2_medium/python.train.json", resealed, "modules/gpt2_medium/python/*/oracle/*.json"),
    "result": ("t5_to_gpt2_zero_text.json", edited, "t5_to_gpt2_zero_text.json"),
    "result, resealed": ("t5_to_gpt2_zero_text.json", resealed, "*.json"),
    "page": ("summary.md", flipped, "summary.json"),
    "figure": ("figures/rules.svg", flipped, "report.json"),
    "table of transfers": ("transfer.csv", flipped, "transfer.json"),
}  # fmt: skip
"""What is damaged -> the file, how, and the record whose promise it breaks first."""


def only(pattern):
    """Return the first file of a pattern."""
    return sorted(RUN.glob(pattern))[0]


# forgeries in which every hash and every seal fits


def fit_together():
    """Write every hash and every seal of the run anew, from the texts to the verdicts, as a careful forger would."""
    for path in Chain.of(RUN).records:

        def promise(document, path=path):
            for told in (document["provenance"]["inputs"], document["provenance"].get("outputs", {})):
                told.update({file: hash_of(file) for file in told})
            if "tensors_sha256" in document:
                document["tensors_sha256"] = hash_of(str(Path(path).with_suffix(".safetensors")))
                text = RUN / "corpus" / f"{Path(path).name.partition('.')[0]}.json"
                document["corpus_sha256"] = json.loads(text.read_text(encoding="utf-8"))["assignment_sha256"]
            if document["format"].startswith("abi/evidence@"):
                document.update({key: part.plain() for key, part in promise_of(path, rows_of(path)).items()})
            if document["format"].startswith("abi/transfers@"):
                document["files"] = {name: hash_of(str(RUN / name)) for name in document["files"]}

        resealed(Path(path), promise)


def other_text():
    """One document is said to be of another split in the record of the text, and nowhere else."""
    resealed(only("corpus/sql.json"), lambda document: document.update(assignment_sha256="0" * 64))


def other_states():
    """Every state of every text of a backbone is a hundredth larger."""
    for path in sorted(RUN.glob("states/gpt2_medium/*.safetensors")):
        tensors = load_file(path)
        save_file({k: v * np.float32(1.01) if k.startswith("tap.") else v for k, v in tensors.items()}, path)


def other_evidence():
    """All arms of a claim whose states nobody touched agree a tenth better with the reference than they do."""
    path = only("evidence/t5_same_backbone/1-*[0-9].csv.gz")
    rows = read_rows(path)
    better = rows["metric"] == "js_nats"
    rows.loc[better, "value"] = (rows.loc[better, "value"].astype(float) * 0.9).map("{:.9g}".format)
    write_csv(path, COLUMNS, rows[list(COLUMNS)].itertuples(index=False))


def other_inputs():
    """A record of evidence names a text among its inputs that its job does not read, so that its spec may be doubted."""
    text = str(only("corpus/sql.json"))
    add = lambda document: document["provenance"]["inputs"].update({text: hash_of(text)})  # noqa: E731
    resealed(only("evidence/t5_to_gpt2/1-*.json"), add)


def other_overlaps():
    """No test document shares anything with train."""
    for path in sorted(RUN.glob("overlaps/*/*.json")):
        none = lambda document: [of.update(in_train=0.0) for of in document["documents"].values()]  # noqa: E731
        resealed(path, none)


def other_table():
    """The table of transfers has a row that no result gives."""
    with open(RUN / "transfer.csv", "a", encoding="utf-8") as handle:
        handle.write("t5_to_gpt2,t5_large,gpt2_medium,oracle-kd,kd,transferred,1,0.9,1.1,1,1,SUPPORTED\n")


FORGED = {
    "texts": (other_text, "corpus/sql.json"),
    "states": (other_states, "states/gpt2_medium/*.safetensors"),
    "evidence": (other_evidence, "evidence/t5_same_backbone/1-*[0-9].csv.gz"),
    "evidence: inputs": (other_inputs, "evidence/t5_to_gpt2/1-*.json"),
    "overlaps": (other_overlaps, "overlaps/*/*.json"),
    "tables": (other_table, "transfer.csv"),
}
"""What is made again -> a forgery of it, and the file that is named."""
