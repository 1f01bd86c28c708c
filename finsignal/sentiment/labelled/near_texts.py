"""Near repeats among texts: pairs that share most of their words, found through the rare ones."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence

import pandas as pd

ROUNDING = 1e-9  # 0.8 * 5 is a little above 4


class NearTexts:
    """Which distinct normalised texts have a near one in which of several sets; the text itself is never its own.

    sets: tables with `normal` (the normalised text; '' is left out) and `text`. near: |A and B| / |A or B| of the words
    of two texts from which they are near.
    """

    def __init__(self, sets: Sequence[pd.DataFrame], *, near: float) -> None:
        self._originals: dict[str, str] = {}
        self._examples: dict[tuple[int, str], str] = {}
        members: dict[str, int] = defaultdict(int)  # text -> the sets it stands in, a bit each
        for number, part in enumerate(sets):
            for normal, text in zip(part["normal"], part["text"], strict=True):
                if normal:
                    self._originals.setdefault(normal, text)
                    members[normal] |= 1 << number
        texts, bits = list(members), list(members.values())
        found = [0] * len(texts)  # the sets in which each has a near text

        def tells_something(a: int, b: int) -> bool:
            return bool(bits[b] & ~found[a] or bits[a] & ~found[b])

        for a, b in near_pairs([text.split() for text in texts], near=near, wanted=tells_something):
            for one, other in ((a, b), (b, a)):
                self._note(texts[one], texts[other], bits[other] & ~found[one])
                found[one] |= bits[other]
        self._near = dict(zip(texts, found, strict=True))

    def _note(self, text: str, partner: str, fresh: int) -> None:
        while fresh:
            self._examples[fresh.bit_length() - 1, text] = partner
            fresh ^= 1 << (fresh.bit_length() - 1)

    def near_in(self, number: int, texts: pd.Series) -> list[str]:
        """Those of the texts, each once and in order, that have a near one in set `number`."""
        return [text for text in dict.fromkeys(texts) if self._near.get(text, 0) >> number & 1]

    def example(self, number: int, text: str) -> str:
        """A text of set `number` that is near to this one, as it stands there."""
        return self._originals[self._examples[number, text]]


def near_pairs(
    texts: Sequence[Sequence[str]], *, near: float, wanted: Callable[[int, int], bool] = lambda a, b: True
) -> Iterator[tuple[int, int]]:
    """Positions of each two texts whose words have a Jaccard index of at least `near`, exactly, each pair once.

    wanted: asked just before a pair would be compared; a pair that is not wanted is passed over.

    A text that shares so much with another shares a word even among the n - ceil(near n) + 1 rarest of its n words, so
    only these are looked up, and only in texts of like length (the prefix filter; Bayardo, Ma and Srikant 2007,
    doi:10.1145/1242572.1242591).
    """
    counts = Counter(word for words in texts for word in set(words))
    rank = {word: number for number, word in enumerate(sorted(counts, key=lambda word: (counts[word], word)))}
    coded = [sorted({rank[word] for word in words}) for words in texts]
    as_sets = [frozenset(words) for words in coded]
    lists: dict[int, list[int]] = defaultdict(list)  # rare word -> texts, the shorter first
    sizes: dict[int, list[int]] = defaultdict(list)
    for here in sorted(range(len(texts)), key=lambda position: len(coded[position])):
        size = len(coded[here])
        shortest = math.ceil(near * size - ROUNDING)
        rare = coded[here][: size - shortest + 1] if size else []
        seen: set[int] = set()
        for word in rare:
            for there in lists[word][bisect_left(sizes[word], shortest) :]:
                if there in seen:
                    continue
                seen.add(there)
                if not wanted(there, here):
                    continue
                both = len(as_sets[here] & as_sets[there])
                if both >= near * (size + len(as_sets[there]) - both) - ROUNDING:
                    yield there, here
        for word in rare:
            lists[word].append(here)
            sizes[word].append(size)
