"""Texts without the names of the companies that they are about."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from finsignal.sources.relevance import SHORTEST_BARE

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


def _any(patterns: Sequence[str]) -> str:
    return "|".join(sorted(patterns, key=len, reverse=True))


def _fold(name: str) -> str:
    return name.strip().casefold().replace(".", "-").replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
