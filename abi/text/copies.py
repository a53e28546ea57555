"""Copies between documents: what two texts share, whatever their layout.

A *passage* is eight words in a row (Chowdhery et al. 2022, PaLM, section 8, ask the same of evaluation data). Words are
compared after Unicode normalisation and without the marks of a quotation, so that neither the length of lines nor the
form of an accent nor `> ` in front hides a copy.
"""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Collection

PASSAGE = 8
"""Words of a passage."""
WORD = re.compile(r"\w+|[^\w\s]")
QUOTED = re.compile(r"(?m)^[ \t]*(?:>[ \t]?)+")


def words_of(text: str) -> list[str]:
    """Return the words and signs of a text, normalised (NFKC) and without the marks of a quotation."""
    return WORD.findall(QUOTED.sub("", unicodedata.normalize("NFKC", text)))


def passages(text: str) -> frozenset[bytes]:
    """Return the hashes of a text's passages; a shorter text is one passage, an empty one has none."""
    words = words_of(text)
    starts = range(max(1, len(words) - PASSAGE + 1)) if words else ()
    return frozenset(
        hashlib.blake2b("\0".join(words[i : i + PASSAGE]).encode(), digest_size=8).digest() for i in starts
    )


def share_in(known: Collection[bytes], text: str) -> float:
    """Return the share of a text's passages that are known, 0 where it has none."""
    own = passages(text)
    return sum(passage in known for passage in own) / len(own) if own else 0.0


class Copies:
    """What of a text has been seen in the documents before it, of other groups.

    Args: most: share of a document's passages that other groups may have shown first.
    """

    def __init__(self, most: float) -> None:
        self.most = most
        self._first: dict[bytes, tuple[str, str]] = {}
        self._whole: dict[bytes, str] = {}

    def copied(self, name: str, group: str, text: str) -> str | None:
        """Return the document that a text mostly copies, None for a new one, whose passages are remembered.

        A copy as a whole is one within its group too: it says nothing that its group has not said.
        """
        whole = hashlib.blake2b("\0".join(words_of(text)).encode(), digest_size=16).digest()
        if whole in self._whole:
            return self._whole[whole]
        own = passages(text)
        others = Counter(seen[1] for passage in own if (seen := self._first.get(passage)) and seen[0] != group)
        if own and others.total() / len(own) > self.most:
            return min(others, key=lambda other: (-others[other], other))
        self._whole[whole] = name
        for passage in own:  # the first group to show a passage owns it
            self._first.setdefault(passage, (group, name))
        return None
