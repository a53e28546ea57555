"""What a judgement of the published record is made of: states, items, leaves (standard library only)."""

from dataclasses import asdict, dataclass

from abi.base.files import Json
from abi.judge.published import Token

MATCH = "MATCH"
CONTRADICTED = "CONTRADICTED"
NO_EVIDENCE = "NO EVIDENCE"
INCONSISTENT = "INCONSISTENT"
VACUOUS = "VACUOUS"
STATES = (MATCH, CONTRADICTED, NO_EVIDENCE, INCONSISTENT, VACUOUS)


@dataclass(frozen=True)
class Item:
    """One judged thing: what it is, its state, and one sentence of reason."""

    id: str
    claim: str
    kind: str  # document: a documented figure; file: a relation inside the files; verifier: a line of the original's
    state: str
    reason: str
    basis: str = "files"  # recomputed here; `by hand`: found by reading the original's code; `none`: nothing to compare
    leaves: tuple[str, ...] = ()  # "file:leaf" of every figure that entered
    note: str | None = None
    main: bool = False


@dataclass(frozen=True)
class Judgement:
    """Every item, what was altered in the record (empty if nothing), and how many leaves there are."""

    items: tuple[Item, ...]
    altered: tuple[str, ...]
    n_files: int
    n_leaves: int
    n_numeric: int
    n_entered: int  # numbers that entered a comparison or a recomputation

    @property
    def claims(self) -> list[str]:
        """Return the claims in the record's order."""
        return list(dict.fromkeys(item.claim for item in self.items))

    def counts(self, claim: str | None = None) -> dict[str, int]:
        """Return how many items of a claim (or of all) are in each state."""
        chosen = [item.state for item in self.items if claim in (None, item.claim)]
        return {state: chosen.count(state) for state in STATES}

    def as_dict(self, claims: list[str] | None = None) -> dict[str, Json]:
        """Return the judgement (of some claims, or all) as plain data for `--json`."""
        shown = claims or self.claims
        return {
            "intact": not self.altered,
            "altered": list(self.altered),
            "files": self.n_files,
            "leaves": self.n_leaves,
            "numbers": self.n_numeric,
            "numbers_entered": self.n_entered,
            "counts": self.counts(),
            "claims": {claim: self.counts(claim) for claim in shown},
            "items": [asdict(item) for item in self.items if item.claim in shown],
        }


def leaves(node: Json, path: str = "") -> list[tuple[str, Json]]:
    """Return (path, value) of every leaf in file order; an empty list or object is a leaf."""
    if not isinstance(node, dict | list) or not node:
        return [(path, node)]
    children = node.items() if isinstance(node, dict) else enumerate(node)
    return [leaf for key, value in children for leaf in leaves(value, f"{path}/{key}" if path else str(key))]


def is_number(value: Json) -> bool:
    """Return whether a leaf is a number (a truth value is not)."""
    return isinstance(value, int | float | Token) and not isinstance(value, bool)
