"""The item collector: each method judges one relation between the figures of a published result file."""

import copy
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator

from abi.audit.record.arithmetic import agrees, follows, lookup, matching, show, whole_count, worded
from abi.audit.record.data import INCONSISTENT, MATCH, Item, is_number, leaves
from abi.base.errors import DataError
from abi.base.files import Json
from abi.judge.published import RESTORE

POSITIONS = 2460  # the decoder-only evaluation: 5 chunks of 512 tokens, the first 20 of each not scored
THRESHOLDS = {"js": 0.10, "top1": 0.68, "top5": 0.86, "entropy": 0.35}
BELOW = {"js", "entropy"}  # must stay below their threshold; the other two must reach it
ALIASES = {
    "js": ("mean_js", "js"),
    "top1": ("mean_top1", "mean_top1_agree", "top1"),
    "top5": ("mean_top5", "mean_top5_overlap", "top5"),
    "entropy": ("mean_ent", "mean_entropy_diff", "mean_ent_diff", "entropy_diff", "entropy"),
}
OVERLAPS = 5  # top-5 counts per position
RANGES: tuple[tuple[str, float, float], ...] = (
    (r"(^|/)(mean_)?js$|(mean|p90)_js$|interference_matrix/|js_percentiles/", 0, math.log(2)),
    (r"cos_sim|spearman/(mean|p)|kendall/(mean|p)", -1, 1),
    (r"r_squared|(^|/)r2$", -math.inf, 1),
    (r"(^|/)(mean_)?top(1|5|10)(_|$)|top1_prob|perturbation_curve/|frac_|fraction|fail_rate|_mass_on_", 0, 1),
    (r"top5_in_candidate|diversity|_div$|repetition$|jaccard|(G1_syntax|G2_keyword)/(native|calib|transf)", 0, 1),
    (r"ent(ropy)?(_diff)?$|entropy_(mean|median|p)|margin|corrMSE|elapsed|runtime|n_positions|steps$", 0, math.inf),
    (r"pass_pp$", 0, 100),
    (r"ppl(_[a-z]+)*$|ppls/|(nat|tr)_(self|cross)$", 1, math.inf),
)
"""What a leaf of that name can be at all, whatever was measured: the first pattern that matches its path decides."""
SIGNED = r"delta|ni_margin|margin_vs|_pct$|pp$|score"  # differences and percentages, which the ranges leave out


class Checks:
    """The items of one result file: each method judges a relation and remembers the leaves that entered.

    A leaf is named from `root`, or from the top of the file if it begins with "/". A `*` stands for every key there,
    `G*` for those that begin with G.
    """

    def __init__(self, claim: str, name: str, data: Json) -> None:
        self.claim, self.name, self.data, self.root = claim, name, data, ""
        self.items: list[Item] = []
        self.seen: Counter[str] = Counter()

    def under(self, root: str) -> "Checks":
        """Return the same checks with leaves named from another root."""
        made = copy.copy(self)
        made.root = self.path(root)
        return made

    def each(self, pattern: str) -> "list[Checks]":
        """Return the same checks with leaves named from every root that matches."""
        return [self.under(f"/{path}") for path in self.paths(pattern)]

    def path(self, leaf: str) -> str:
        """Return the name of a leaf from the top of the file."""
        return leaf[1:] if leaf.startswith("/") else f"{self.root}/{leaf}".strip("/")

    def paths(self, *leaves: str) -> list[str]:
        """Return the names from the top of the file of all leaves that match."""
        return [path for leaf in leaves for path in matching(self.data, self.path(leaf))]

    def get(self, leaf: str) -> Json:
        """Return a leaf's value; DataError if the file lacks it."""
        try:
            return lookup(self.data, self.path(leaf))
        except KeyError:
            raise DataError(f"{self.name}: has no leaf {self.path(leaf)}; {RESTORE}") from None

    def number(self, leaf: str) -> float:
        """Return a leaf that must be a number; DataError otherwise."""
        value = self.get(leaf)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise DataError(f"{self.name}: leaf {self.path(leaf)} is {show(value)}, not a number; {RESTORE}")
        return value

    def numbers(self, *leaves: str) -> list[float]:
        """Return several leaves that must be numbers."""
        return [self.number(f"/{path}") for path in self.paths(*leaves)]

    def values(self, *leaves: str) -> list[Json]:
        """Return the values of several leaves."""
        return [self.get(f"/{path}") for path in self.paths(*leaves)]

    def passing(self, *flags: str) -> int:
        """Return how many flags are true."""
        return sum(value is True for value in self.values(*flags))

    def shown(self, leaf: str) -> str:
        """Return a leaf's value as a sentence prints it."""
        return show(self.get(leaf))

    def add(self, state: str, what: str, reason: str, *leaves: str, main: bool = False) -> None:
        """Add an item about this file: `what` is a leaf, or any word."""
        named = tuple(f"{self.name}:{path}" for path in self.paths(*leaves))
        name = f"{self.name}#{self.path(what)}"
        self.seen[name] += 1
        name += f" ({self.seen[name]})" if self.seen[name] > 1 else ""
        self.items.append(Item(name, self.claim, "file", state, reason, leaves=named, main=main))

    def holds(self, what: str, good: bool, sentence: str, *leaves: str) -> None:
        """Judge a relation that covers several leaves at once. Args: sentence: see `worded`."""
        self.add(MATCH if good else INCONSISTENT, what, worded(sentence, good), *leaves)

    def follows(self, leaf: str, formula: Callable[..., float], *inputs: str, by: str) -> None:
        """Judge whether a figure follows from others, within what their printed digits allow."""
        stated, values = self.number(leaf), self.numbers(*inputs)
        try:
            good, exact = follows(stated, formula, values), show(formula(*values))
        except ZeroDivisionError:
            good, exact = False, "a division by zero"
        words = "[follows|does not follow] from the figures of its own file:"
        self.holds(leaf, good, f"{self.path(leaf)} {show(stated)} {words} {by} gives {exact}.", leaf, *inputs)

    def equal(self, leaf: str, expected: Json, *inputs: str, by: str) -> None:
        """Judge whether a leaf is what other leaves say it must be: a flag, a count."""
        stated = self.get(leaf)
        good = agrees(stated, expected) or agrees(expected, stated)
        different = f"{self.path(leaf)} is {show(stated)}, yet {by} is {show(expected)}."
        reason = f"{self.path(leaf)} {show(stated)} is {by}." if good else different
        self.add(MATCH if good else INCONSISTENT, leaf, reason, leaf, *inputs)

    def copies(self, pairs: dict[str, str]) -> None:
        """Judge figures that the file stores twice: {leaf: where it stands first}."""
        for leaf, source in pairs.items():
            self.equal(leaf, self.get(source), source, by=f"the {self.path(source)} of the same file")

    def at_least(self, flag: str, value: str, bar: str) -> None:
        """Judge a pass flag that means value >= bar."""
        by = f"whether {self.path(value)} reaches {self.path(bar)}"
        self.equal(flag, self.number(value) >= self.number(bar), value, bar, by=by)

    def at_most(self, flag: str, value: str, bar: str) -> None:
        """Judge a pass flag that means value <= bar."""
        by = f"whether {self.path(value)} stays within {self.path(bar)}"
        self.equal(flag, self.number(value) <= self.number(bar), value, bar, by=by)

    def ordered(self, root: str, *keys: str, falling: bool = False) -> None:
        """Judge whether the figures under a root (of some keys, or all) are in order."""
        within = self.under(root)
        paths = [f"/{path}" for path in within.paths(*keys or ("*",))]
        values = self.numbers(*paths)
        good = values == sorted(values, reverse=falling)
        told = ", ".join(keys or [path.removeprefix(f"/{within.root}/") for path in paths])
        self.holds(paths[0] + "...", good, f"{within.root}: {told} are [in|out of] order.", *paths)

    def total(self, leaf: str, *parts: str, by: str) -> None:
        """Judge a time that must cover its parts and exceed them by little."""
        found, stated = sum(self.numbers(*parts)), self.number(leaf)
        good = 0.999 * found <= stated <= 1.01 * found
        sentence = f"{self.path(leaf)} {show(stated)} [is|is not] the sum of {by}"
        self.holds(leaf, good, f"{sentence}{'' if good else f' ({show(found)})'}.", leaf, *parts)

    def thresholds(self, *roots: str) -> None:
        """Judge whether the thresholds stored in the file are the published four."""
        for root in roots:
            names = {name: name.removesuffix("_threshold").removesuffix("_diff") for name in self.get(root)}
            paths = {f"{root}/{name}": THRESHOLDS[metric] for name, metric in names.items() if metric in THRESHOLDS}
            good = len(paths) == len(THRESHOLDS) and all(self.get(path) == value for path, value in paths.items())
            sentence = f"the four NIB thresholds under {root} are [the|not the] published ones."
            self.holds(root, good, sentence, *paths)

    def ranges(self) -> None:
        """Judge whether every leaf lies where a share, a divergence, a perplexity or a cosine can lie at all."""
        paths = []
        for path, value in leaves(self.data):
            limits = next((limit for pattern, *limit in RANGES if re.search(pattern, path)), None)
            if limits is None or not is_number(value) or (re.search(SIGNED, path) and not path.endswith("pass_pp")):
                continue
            paths.append(path)
            low, high = limits
            if not low <= value <= high:
                reason = f"{path} is {show(value)}, outside of what it can be ({show(low)} to {show(high)})."
                self.add(INCONSISTENT, path, reason, path)
        reason = f"{len(paths)} shares, divergences, perplexities and counts were held against their possible range."
        if paths:
            self.add(MATCH, "ranges", reason, *paths)

    def flags(self, *roots: str, n: int) -> None:
        """Judge every pass flag below the given paths by its figures and the published thresholds.

        Args:
            roots: where to look; all NIB blocks below are taken; none means the whole file.
            n: scored positions per block; its top-1 and top-5 shares must be whole counts of n and 5 n.
        """
        blocks = [found for root in roots or ("",) for found in nib_blocks(self.get(root), root)]
        paths, wrong, flags = [], {}, 0
        for path, block in blocks:
            verdicts = {}
            for metric, key in block_keys(block).items():
                leaf, value = f"{path}/{key}", block[key]
                paths.append(leaf)
                verdicts[metric] = value < THRESHOLDS[metric] if metric in BELOW else value >= THRESHOLDS[metric]
                units = {"top1": n, "top5": n * OVERLAPS}.get(metric)
                if units and not whole_count(value, units):
                    what = "positions" if metric == "top1" else "top-5 places"
                    wrong[leaf] = f"{leaf} {show(value)} is not a whole count of {units} {what}."
            for flag, good in expected_flags(verdicts, block).items():
                flags += 1
                paths.append(f"{path}/{flag}")
                if block[flag] is not good:
                    wrong[paths[-1]] = f"{path}/{flag} is {show(block[flag])} against the figures beside it."
        for path, reason in wrong.items():
            self.add(INCONSISTENT, path, reason, path)
        kept = (
            f"{flags} pass flags follow from their figures, and the shares of {len(blocks)} blocks count {n} positions"
        )
        exceptions = f", except {len(wrong)}." if wrong else "."
        self.add(MATCH, "flags " + " ".join(roots), kept + exceptions, *paths)


def block_keys(block: dict[str, Json]) -> dict[str, str]:
    """Return under which key a block holds each NIB metric; metrics it lacks are left out."""
    found = {metric: [name for name in names if name in block] for metric, names in ALIASES.items()}
    return {metric: names[0] for metric, names in found.items() if names and isinstance(block[names[0]], int | float)}


def expected_flags(verdicts: dict[str, bool], block: dict[str, Json]) -> dict[str, bool]:
    """Return what each pass flag of a block must be."""
    flags = {f"{metric}_pass": good for metric, good in verdicts.items()}
    if len(verdicts) == len(ALIASES):
        flags |= dict.fromkeys(("pass", "l2_pass"), all(verdicts.values()))
    return {flag: good for flag, good in flags.items() if flag in block}


def nib_blocks(node: Json, path: str) -> Iterator[tuple[str, dict[str, Json]]]:
    """Yield (path, block) of every object that holds a JS and a top-5 figure."""
    if isinstance(node, dict) and {"js", "top5"} <= block_keys(node).keys():
        if "threshold" not in path:
            yield path, node
        return
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in children:
        yield from nib_blocks(child, f"{path}/{key}" if path else str(key))
