"""Metrics that experiments alone ask for, and every metric there is."""

from dataclasses import dataclass

from abi.base.regimes import METRICS as COMMON
from abi.base.regimes import Metric

DIAGNOSTICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("js_easy_nats", True, "nats"),
        Metric("near_identical", False),
        Metric("same_five", False),
        Metric("in_ten", False),
        Metric("spearman_distance", True),
        Metric("kendall_distance", True),
        Metric("head_gain", True),
        Metric("five_kept", False),
    )
}
"""JS on the half of a document's positions where the reference is surest; share of positions with JS below .001; share
with the same five likeliest tokens; share of the reference's five among the ten; 1 - Spearman's rho over the
reference's 100 likeliest tokens; 1 - Kendall's tau over its 20; how much more the head makes of the error of the
correction than of an error in any direction; overlap of the five likeliest tokens with those of the plain backbone."""


@dataclass(frozen=True)
class Way:
    """How code is generated: greedy at temperature 0, else drawn; `varied`: every prompt in another wording."""

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    varied: bool = False


WAYS = {
    "greedy": Way(),
    "t0.3": Way(0.3),
    "t0.7-k50": Way(0.7, top_k=50),
    "varied": Way(varied=True),
    "t0.8-p0.92": Way(0.8, top_p=0.92),
    "t1.2-p0.92": Way(1.2, top_p=0.92),
    "t1.2-p0.97": Way(1.2, top_p=0.97),
}
"""The decodings of the original (docs/experiments.md, X5 and X9) but for the two with a penalty of repetition."""
CODE: dict[str, Metric] = {
    f"{figure}.{way}": Metric(f"{figure}.{way}", lower)
    for figure, lower in (
        ("parses", False),
        ("passed", False),
        ("keywords", False),
        ("diversity", False),
        ("fails_alike", False),
        ("passes_alike", False),
        ("cross_ratio", True),
    )
    for way in WAYS
}
"""Figures of generated code per task: whether it parses; whether it passes the task; the share of keywords of Python
among its words; that of different words; whether it fails, or passes, where the reference does
(`arms/generated_code.alike`); how much likelier each of two texts is to the module that wrote it than to the other."""

METRICS: dict[str, Metric] = {**COMMON, **DIAGNOSTICS, **CODE}
