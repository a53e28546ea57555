"""A ladder of sizes: a claim about others, without pass rules of its own."""

from abi.judge.kind import OfClaims

JUDGED = (OfClaims("ladder"),)
