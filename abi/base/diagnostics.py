"""Metrics that experiments alone ask for, and every metric there is."""

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

METRICS: dict[str, Metric] = {**COMMON, **DIAGNOSTICS}
