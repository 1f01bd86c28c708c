"""A run's world with another future: cut off at an instant, or replaced by one that looks like it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from finsignal.study.inputs import Inputs
from finsignal.tables import NEWS, PROBABILITIES, SENTIMENT, to_integers

DENSE = 12  # bars after the instant that each get a text of every symbol, so that the next bar is always another
WORDS = ["title", "text", "source", "story", "relevance"]


@dataclass(frozen=True)
class World:
    """What a run decides from: its tables, and what the texts in them say."""

    inputs: Inputs
    sentiment: pd.DataFrame


def cut_world(world: World, instant: pd.Timestamp) -> World:
    """The world as known at the instant: rows of a later `time` are gone. The grid stays: it is a calendar's."""
    inputs = world.inputs
    kept: dict[str, Any] = {
        name: _until(getattr(inputs, name), instant)
        for name in ("prices", "news", "funding", "open_interest", "actions", "index")
    }
    return World(replace(inputs, **kept), _until(world.sentiment, instant))


def noise_world(world: World, instant: pd.Timestamp, rng: np.random.Generator) -> World:
    """The world with what was known later exchanged for a future that cannot be told from a real one by its looks.

    Prices go on from the last one known, by the returns and bars of the same symbol in another order, some turned
    around. Texts change places and scores, and each symbol gets one of its own in each of the next `DENSE` bars.
    """
    inputs, past = world.inputs, cut_world(world, instant)
    more = {"prices": _mix_prices(inputs.prices, instant, rng)}
    if inputs.index is not None:
        more["index"] = _mix_prices(inputs.index, instant, rng)
    for name, column in (("funding", "rate"), ("open_interest", "contracts")):
        table = getattr(inputs, name)
        if table is not None:
            more[name] = _mix_column(table, column, instant, rng)
    news = _mix_news(inputs, instant, rng)
    later = news[(news["time"] > instant).to_numpy()]
    said = world.sentiment[list(PROBABILITIES)].to_numpy()
    table = later[["article_id", "time", "symbol"]].copy()
    table[list(PROBABILITIES)] = said[rng.integers(len(said), size=len(table))] if len(said) else 1 / 3
    model = world.sentiment["model"].iloc[0] if len(world.sentiment) else "noise"
    table["model"] = pd.Series([model] * len(table), index=table.index, dtype="str")
    sentiment = SENTIMENT.to_table(pd.concat([past.sentiment, table], ignore_index=True))
    return World(replace(inputs, news=news, **more), sentiment)


def pick_instants(bars: pd.DataFrame, count: int, rng: np.random.Generator, *, since: int = 0) -> list[pd.Timestamp]:
    """So many instants spread over the grid, ascending: every other at a decision itself, the others between two."""
    decisions = to_integers(bars["time"])
    first = max(since, len(bars) // 10)
    edges = np.linspace(first, len(bars) - 2, count + 1)
    found = []
    for number, (low, high) in enumerate(itertools.pairwise(edges)):
        k = int(rng.integers(int(low), max(int(high), int(low) + 1)))
        stamp = int(decisions[k])
        if number % 2:
            stamp += int(rng.integers(1, max(int(decisions[k + 1] - decisions[k]), 2)))
        found.append(pd.Timestamp(stamp, unit="us", tz="UTC").as_unit("us"))
    return sorted(found)


def _until(table: pd.DataFrame | None, instant: pd.Timestamp) -> pd.DataFrame | None:
    return None if table is None else table[(table["time"] <= instant).to_numpy()].reset_index(drop=True)


def _mix_prices(prices: pd.DataFrame, instant: pd.Timestamp, rng: np.random.Generator) -> pd.DataFrame:
    out = prices.copy()
    later = (prices["time"] > instant).to_numpy()
    columns = ["open", "high", "low", "close"]
    values, volume = prices[columns].to_numpy(copy=True), prices["volume"].to_numpy(copy=True)
    for rows in prices.groupby("symbol").indices.values():
        ours = rows[later[rows]]
        if not len(ours):
            continue
        start = rows[0] if ours[0] == rows[0] else ours[0] - 1
        close = values[rows, 3]
        steps = np.diff(np.log(close)) if len(rows) > 1 else np.zeros(1)
        drawn = rng.integers(len(steps), size=len(ours))
        turned = steps[drawn] * rng.choice([-1.0, 1.0], size=len(ours))
        # Where nothing moved in the past, nothing drawn from it would move either.
        turned += rng.normal(0, 1e-3, size=len(ours))
        path = values[start, 3] * np.exp(np.cumsum(turned))
        shape = values[rows[np.minimum(drawn + 1, len(rows) - 1)]]
        values[ours] = shape / shape[:, 3:] * path[:, None]
        values[ours, 1] = values[ours].max(axis=1)
        values[ours, 2] = values[ours].min(axis=1)
        volume[ours] = volume[rows[rng.integers(len(rows), size=len(ours))]] * rng.uniform(0.5, 2, size=len(ours))
    out[columns], out["volume"] = values, volume
    for name in ("split", "dividend", "adj_close"):
        if name in out:
            out[name] = out[name].where(~later, out["close"] if name == "adj_close" else 0.0)
    return out


def _mix_column(table: pd.DataFrame, column: str, instant: pd.Timestamp, rng: np.random.Generator) -> pd.DataFrame:
    values, later = table[column].to_numpy(copy=True), np.flatnonzero((table["time"] > instant).to_numpy())
    values[later] = values[rng.integers(max(len(values), 1), size=len(later))] * rng.uniform(0.5, 2, size=len(later))
    return table.assign(**{column: values})


def _mix_news(inputs: Inputs, instant: pd.Timestamp, rng: np.random.Generator) -> pd.DataFrame:
    news = inputs.news
    later = (news["time"] > instant).to_numpy()
    moved = news[later].copy()
    for name in WORDS:
        moved[name] = moved[name].array[rng.permutation(len(moved))]
    after = inputs.bars[(inputs.bars["time"] > instant).to_numpy()].head(DENSE)
    stamps = after["time"] - pd.Timedelta(seconds=1)
    stamps = stamps[(stamps > instant).to_numpy()]
    symbols = sorted(set(inputs.prices["symbol"]))
    if not len(stamps) or not len(news):
        return NEWS.to_table(pd.concat([news[~later], moved], ignore_index=True))
    rows = news.iloc[rng.integers(len(news), size=len(stamps) * len(symbols))].reset_index(drop=True)
    rows["symbol"] = pd.Series(np.repeat(np.array(symbols, dtype=object), len(stamps)), dtype="str")
    rows["time"] = rows["published"] = pd.Series(np.tile(stamps.to_numpy(), len(symbols))).astype(news["time"].dtype)
    rows["article_id"] = pd.Series([f"{n:08x}-{int(rng.integers(1 << 30)):x}" for n in range(len(rows))], dtype="str")
    rows["story"], rows["relevance"] = rows["article_id"], 1.0
    return NEWS.to_table(pd.concat([news[~later], moved, rows], ignore_index=True))
