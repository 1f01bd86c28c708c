"""The stories of a simulated market: when each is told, of whom, and in which words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from finsignal import simulated_texts as words
from finsignal.tables import INSTANT, LABELS

KINDS = ("news", "routine", "other")
SOURCES = ("simulated wire", "simulated herald", "simulated market desk")


def make_stories(
    rng: np.random.Generator, symbols: Mapping[str, str], bars: pd.DataFrame, news_per_day: float, shares: np.ndarray
) -> pd.DataFrame:
    """One row a story: published, symbol, kind, polarity, title, text, source, url, story. No title comes twice."""
    first, last = bars["open_time"].iloc[0], bars["close_time"].iloc[-1]
    seconds = int((last - first).total_seconds())
    rows: list[dict[str, object]] = []
    used: set[str] = set()
    for symbol, name in symbols.items():
        count = rng.poisson(news_per_day * seconds / 86_400)
        for second in np.sort(rng.integers(0, seconds, count)):
            kind = KINDS[rng.choice(len(KINDS), p=shares)]
            polarity = 0 if kind == "routine" else (-1, 1)[rng.integers(2)]
            about = _pick(rng, words.OTHER_COMPANIES) if kind == "other" else name
            tag = f"{about} (simulated)" if kind == "other" else f"{name} (simulated: {symbol})"
            published = first + pd.Timedelta(seconds=int(second))
            title, text = _write_text(rng, tag, about, polarity, words.QUARTERS[published.quarter - 1], used)
            if kind == "other":
                text = f"{text} {_pick(rng, words.MENTIONS).format(s=name)}"
            rows.append(
                {
                    "published": published,
                    "symbol": symbol,
                    "kind": kind,
                    "polarity": polarity,
                    "title": title,
                    "text": text,
                    "source": _pick(rng, SOURCES),
                    "story": f"story-{len(rows):06d}",
                }
            )
    columns = ["published", "symbol", "kind", "polarity", "title", "text", "source", "story"]
    frame = pd.DataFrame(rows, columns=columns).astype({"published": INSTANT, "polarity": "int64"})
    frame["url"] = "https://simulated.invalid/" + frame["story"].astype("str")
    return frame.assign(repeat=False)


def _write_text(
    rng: np.random.Generator, tag: str, name: str, polarity: int, quarter: str, used: set[str]
) -> tuple[str, str]:
    """A title that is not in `used` (and is added to it), and a text of three sentences that says the same."""
    label = LABELS[polarity + 1]
    tries = 0
    while True:
        fields = {
            "n": int(rng.integers(3, 29)),
            "m": f"${int(rng.integers(2, 90)) * 5} million",
            "q": quarter,
            "k": f"{int(rng.integers(12, 990)) * 10:,}",
            "x": _pick(rng, words.PRODUCTS),
            "t": _pick(rng, words.TOWNS),
            "o": _pick(rng, words.OTHERS),
        }
        template = _pick(rng, words.TITLES[label])
        title = template.format(c=tag, s=name, **fields)
        if tries >= 20:  # templates without a field to vary run out in a long market
            title = f"{title} (notice {len(used) + 1})"
        if title not in used:
            break
        tries += 1
    used.add(title)
    details = [words.DETAILS[label][n] for n in rng.permutation(len(words.DETAILS[label]))[:2]]
    sentences = [template.format(c=name, s=name, **fields) + ".", *(d.format(**fields) for d in details)]
    return title, " ".join(sentences)


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def add_repeats(rng: np.random.Generator, stories: pd.DataFrame, share: float, end: pd.Timestamp) -> pd.DataFrame:
    """The stories and, for a share of them, one repeat by another source some hours later, if before `end`."""
    chosen = rng.random(len(stories)) < share
    delay = pd.to_timedelta(60 + rng.exponential(6 * 3600, len(stories)).astype(np.int64), unit="s")
    step = rng.integers(1, len(SOURCES), len(stories))
    source = [SOURCES[(SOURCES.index(s) + k) % len(SOURCES)] for s, k in zip(stories["source"], step, strict=True)]
    again = stories.assign(
        published=(stories["published"] + delay).astype(INSTANT),
        source=pd.Series(source, index=stories.index, dtype="str"),
        text="As reported before: " + stories["text"].astype("str"),
        url=stories["url"].astype("str") + "/again",
        repeat=True,
    )
    return pd.concat([stories, again[chosen & (again["published"] < end)]], ignore_index=True)
