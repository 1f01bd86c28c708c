"""Texts without the names of the companies that they are about, and how far that moves what a model says of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from finsignal.evidence.answers import Figure
from finsignal.evidence.clustered import LEAST, estimate
from finsignal.sentiment.evaluate.curves import wilson
from finsignal.sources.relevance import SHORTEST_BARE

MASKED = "Glasserman and Lin 2023, arXiv:2309.17322"
WILSON = "its interval: Wilson 1927, doi:10.2307/2276774"
CLUSTERED = "its interval, clustered by story: Cameron and Miller 2015, doi:10.3368/jhr.50.2.317"
CHANGED = {  # of each figure of `measure_masked` its name, unit, meaning and source
    "masked_agreement": (
        *("Stories that keep their label with names hidden", "percent"),
        "Share of the texts that name a company whose likeliest label stays, each story counted once.",
        f"{MASKED}; {WILSON}",
    ),
    "masked_change": (
        *("Mean change of the score with names hidden", "ratio"),
        "Masked less own p_positive - p_negative, each story counted once; other than 0 where the model likes or "
        "dislikes a name.",
        f"{MASKED}; {CLUSTERED}",
    ),
}
ALIKE = 1e-9  # between changes of scores
# Not "the company": these words have a tone of their own, and lower the score of made-up names as well.
OWN, OTHER = "XYZ", "QRS"  # in place of names
_TWICE = re.compile(rf"\b({OWN}|{OTHER})(?: \1\b| \(\1\))+")


def make_mask(symbols: Sequence[str], names: Mapping[str, Sequence[str]]) -> Callable[[str, str], str]:
    """What hides names in a text about one symbol: its own become XYZ, all others QRS.

    A company is named as `sources.relevance` finds it: by one of `names` as whole words, in capitals only where it is
    written so; by its cashtag; by its ticker in parentheses with an exchange. A ticker of three letters or more is
    hidden wherever it stands in capitals; a shorter one is mostly a word.
    """
    owners: dict[str, set[str]] = {}
    exact: list[str] = []
    folded: list[str] = []
    tags: list[str] = []
    for symbol in symbols:
        ticker = re.escape(symbol).replace(r"\-", "[-.]")
        tags.append(ticker)
        owners.setdefault(_fold(symbol), set()).add(symbol)
        if len(symbol) >= SHORTEST_BARE:
            exact.append(ticker)
        for name in names.get(symbol, ()):
            (exact if name.isupper() else folded).append(
                re.escape(name.strip()).replace("'", "['\N{RIGHT SINGLE QUOTATION MARK}]")
            )
            owners.setdefault(_fold(name), set()).add(symbol)
    parts = [
        rf"\$ ?(?P<tag>(?i:{_any(tags)}))(?!\w|[.-]\w)",
        rf"\([A-Z][\w ]*: ?(?P<listed>{_any(tags)})\)",
        *([rf"(?<![\w$])(?P<exact>{_any(exact)})(?!\w)"] if exact else []),
        *([rf"(?<!\w)(?P<folded>(?i:{_any(folded)}))(?!\w)"] if folded else []),
    ]
    pattern = re.compile("|".join(parts))

    def hide(text: str, symbol: str) -> str:
        def put(found: re.Match[str]) -> str:
            name = next(value for value in found.groupdict().values() if value is not None)
            word = OWN if symbol in owners.get(_fold(name), ()) else OTHER
            return f"({word})" if found.group("listed") else word

        return _TWICE.sub(r"\1", pattern.sub(put, text))  # "Acme (NYSE: ACM)" is one name

    return hide


def measure_masked(before: np.ndarray, after: np.ndarray, stories: np.ndarray) -> tuple[Figure, Figure]:
    """Figures "masked_agreement" and "masked_change", of one text or more.

    before and after are the probabilities of the texts, (texts, 3), stories the number of each text's. Each story has
    the mean of its texts, and n counts stories. The interval of the agreement is that of a share of so many, which is
    wide enough for stories of which only some texts keep their label; that of the change, given from 30 stories on
    whose changes differ, has as few degrees of freedom as few stories carry it.
    """
    texts = np.bincount(stories)
    count = len(texts)
    kept = np.bincount(stories, weights=before.argmax(axis=1) == after.argmax(axis=1)) / texts
    moved = np.bincount(stories, weights=(after[:, 2] - after[:, 0]) - (before[:, 2] - before[:, 0])) / texts
    low, high = wilson(float(kept.sum()), count)
    agreement = to_masked("masked_agreement", count, value=float(kept.mean()), low=low, high=high)
    if count < LEAST:
        low, high, lacks = None, None, f"There is no interval below {LEAST} stories."
    else:
        low, high = _find_ends(moved)
        lacks = "" if low is not None else "All change alike, so there is no interval."
    change = to_masked("masked_change", count, value=float(moved.mean()), low=low, high=high)
    return agreement, replace(change, said=f"{change.said} {lacks}".rstrip())


def to_masked(
    key: str,
    stories: int,
    *,
    value: float | None = None,
    low: float | None = None,
    high: float | None = None,
    needs: str = "",
) -> Figure:
    """The figure of CHANGED with its value and interval, or what it needs."""
    name, unit, said, source = CHANGED[key]
    return Figure(key, name, unit, stories, "stories", value, low, high, needs=needs, said=said, source=source)


def _find_ends(values: np.ndarray) -> tuple[float | None, float | None]:
    """The 95 % interval of the mean of independent values, one a story; None where all are the same."""
    count = len(values)
    if np.ptp(values) < ALIKE:
        return None, None
    found = estimate(
        np.array([values.mean()]),
        ((values - values.mean()) / count)[:, None],
        np.zeros(1, dtype=np.int64),
        clusters=np.array([count]),
        leverage=np.full((count, 1), 1 / count),
        n=np.array([count]),
    )
    return float(found.low[0]), float(found.high[0])


def _any(patterns: Sequence[str]) -> str:
    return "|".join(sorted(patterns, key=len, reverse=True))


def _fold(name: str) -> str:
    return name.strip().casefold().replace(".", "-").replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
