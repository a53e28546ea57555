"""Made-up evidence whose truth is known: arms get a level from 0 (raw) to 1 (oracle) and noise around it."""

from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from abi.judge.evidence_files import COLUMNS
from abi.plan.specs.judge import Protocol

ROOT = Path(__file__).parents[2]
PROTOCOL = yaml.safe_load((ROOT / "config/protocol.yaml").read_text(encoding="utf-8"))
NUMBERS = Protocol.model_validate(PROTOCOL)
CRITERIA, THRESHOLDS = NUMBERS.criteria, dict(NUMBERS.published_criteria)

# metric, scope -> figure at level 0 and at level 1
SCALES = {
    ("js_nats", "domain"): (0.30, 0.06),
    ("top1", "domain"): (0.40, 0.75),
    ("top5", "domain"): (0.50, 0.90),
    ("entropy_diff_nats", "domain"): (0.60, 0.20),
    ("bits_per_byte", "domain"): (2.60, 2.30),
    ("bits_per_byte", "general"): (2.20, 2.30),
    ("js_nats", "on_training_text"): (0.25, 0.03),
}
TRANSFER = {
    "raw": 0.0,
    "oracle": 1.0,
    "reference": 1.0,
    "home": 0.97,
    "transferred": 0.95,
    "random": 0.5,
    "permuted": 0.45,
    "linear": 0.4,
    "bias": 0.2,
    "no-domain": 0.3,
    "home-identity": 0.45,
    "native": 0.9,
}
RECONSTRUCTION = {"raw": 0.0, "oracle": 0.8, "candidate": 0.95, "random": 0.5, "linear": 0.4, "before": 0.1}


def rows(
    levels=TRANSFER, *, shifts=None, n_groups=32, n_seeds=5, per_group=2, noise=0.02, draws=None, fit="kd", seed=0
):
    """Return evidence rows; `shifts` maps (arm, metric, scope) to a level of its own."""
    rng = np.random.default_rng(seed)
    shape, keys, values = (n_groups, per_group, n_seeds), [], []
    for (metric, scope), (low, high) in SCALES.items():
        for arm, level in levels.items():
            if arm == "reference" and metric != "bits_per_byte":
                continue
            level = (shifts or {}).get((arm, metric, scope), level)
            for draw in range((draws or {}).get(arm, 1)):
                group = rng.normal(0, noise, (n_groups, 1, 1)) + rng.normal(0, noise / 2, (1, 1, n_seeds))
                table = level + group + rng.normal(0, noise, shape)
                keys.append(
                    ("-" if arm in ("raw", "oracle", "reference", "untrained") else fit, arm, draw, scope, metric)
                )
                values.append(
                    np.clip((low + (high - low) * table).reshape(-1), 0, 1 if metric in ("top1", "top5") else None)
                )
    return _frame(keys, values, shape)


def source_alone(frame, *, without=(), n_positions=80):
    """Return rows of the source with its own module on the documents of `frame`: bits per byte, other windows.

    Args: without: documents that are too short for a window there.
    """
    plain = frame[
        (frame["arm"] == "raw") & (frame["metric"] == "bits_per_byte") & (frame["scope"] != "on_training_text")
    ]
    kept = plain[~plain["document"].isin(without)]
    return kept.assign(arm="source-alone", n_positions=n_positions, value=0.9 * kept["value"])


def _frame(keys, values, shape):
    """Return the rows of tables `[groups, documents of a group, seeds]` that lie flat in `values`, one per key."""
    group, document, seed = np.indices(shape).reshape(3, -1)
    groups = np.array([f"g{i:03d}" for i in range(shape[0])], dtype=object)[group]
    scopes = {key[3] for key in keys}
    names = {
        s: np.array([f"{s}{i:03d}.{j}" for i, j in zip(group, document, strict=True)], dtype=object) for s in scopes
    }
    n = len(group)
    columns = {
        "draw": np.repeat(np.array([key[2] for key in keys], dtype=np.int64), n),
        "seed": np.tile(seed, len(keys)),
        "group": np.tile(groups, len(keys)),
        "document": np.concatenate([names[key[3]] for key in keys]),
        "n_positions": 100,
        "value": np.concatenate(values),
    }
    for i, name in ((0, "fit"), (1, "arm"), (3, "scope"), (4, "metric")):
        columns[name] = np.repeat(np.array([key[i] for key in keys], dtype=object), n)
    return pd.DataFrame(columns)[list(COLUMNS)]
