"""Orders, trades and what a run states of itself: filled after they were decided, decided after they were told."""

from __future__ import annotations

import numpy as np
import pandas as pd

from finsignal.checking.findings import GUARD, Finding, Part
from finsignal.checking.worlds import World
from finsignal.config import RunFile
from finsignal.errors import FinsignalError
from finsignal.sentiment.score import Model
from finsignal.study.inputs import UNKNOWN_SCORES, check_seen, text_rules
from finsignal.study.run import make_trade_news
from finsignal.tables import BacktestResult

FILLS, KNOWN, STATED = "orders and trades", "when rows count as known", "what the run states"
AT_OPENS = ("target", "margin call", "ruin")  # reasons of orders that fill at the open of their bar


def check_fills(run: RunFile, world: World, result: BacktestResult) -> Part:
    """Every order at an open of the grid after its decision and at that bar's price; every trade's texts known then."""
    bars, prices = world.inputs.bars, world.inputs.prices
    orders = result.orders.merge(bars[["open_time", "time"]], on="open_time", how="left")
    orders = orders.merge(prices[["open_time", "symbol", "open"]], on=["open_time", "symbol"], how="left")
    slipped = orders["slippage"] / orders["quantity"] * np.where(orders["side"] == "sell", -1.0, 1.0)
    off = ~np.isclose(orders["price"] - slipped, orders["open"], rtol=1e-9, atol=0)
    findings = []
    for kind, bad, what in (
        ("early fill", orders["time"].isna() | (orders["time"] > orders["open_time"]), "is not after its decision"),
        ("no such price", off & orders["reason"].isin(AT_OPENS), "is not at the bar's open"),
    ):
        for row in orders[bad].head(1).itertuples():
            said = f"The {row.side} of {row.symbol} at {row.open_time} {what}."
            findings.append(Finding(kind, GUARD, "price", str(row.symbol), row.open_time, said))
    told = make_trade_news(result, world.inputs.news, world.sentiment, bars, text_rules(run))
    late = told[(told["known"] > told["decided"]) | (told["decided"] > told["filled"])]
    for row in late.head(1).itertuples():
        said = f"A text of {row.known} is behind the entry in {row.symbol} decided at {row.decided}."
        findings.append(Finding("early text", GUARD, "known", str(row.symbol), row.decided, said))
    said = f"{len(orders):,} orders and {len(told):,} texts behind {told['trade'].nunique():,} trades compared"
    compared = len(orders) + len(told)
    if findings:
        return Part(FILLS, "failed", compared, said, tuple(findings))
    if not compared:
        return Part(FILLS, "could not be checked", 0, "nothing was traded")
    return Part(FILLS, "passed", compared, said)


def check_known(world: World) -> Part:
    """Every bar known when it had closed and every text when it was published, not before."""
    news, prices = world.inputs.news, world.inputs.prices
    placed = prices.merge(world.inputs.bars[["open_time", "close_time"]], on="open_time", how="inner")
    findings = []
    for kind, rows, since, what in (
        ("early bar", placed, "close_time", "the bar that closes at"),
        ("early text", news, "published", "the text published at"),
    ):
        early = rows[rows["time"] < rows[since]].sort_values("time", kind="stable")
        for _, row in early.head(1).iterrows():
            said = f"{len(early):,} rows count as known too early, first {what} {row[since]}, known at {row['time']}."
            findings.append(Finding(kind, GUARD, "time", str(row["symbol"]), row["time"], said))
    compared = len(placed) + len(news)
    said = f"{len(placed):,} bars held against their closes, {len(news):,} texts against when they were published"
    return Part(KNOWN, "failed" if findings else "passed", compared, said, tuple(findings))


def tell_stated(run: RunFile, model: Model | None) -> Part:
    """What the reader must know that the run file itself says; it accuses nobody."""
    told = ["the data is made up"] if run.simulated else []
    if run.decision_latency == pd.Timedelta(0):
        told.append("zero latency: decisions are made at the very open that they trade, and the job refuses it")
    if run.costs.fee == 0 and run.costs.slippage == 0:
        told.append("no fee and no slippage")
    if run.news is not None and pd.Timedelta(run.news.latency) == pd.Timedelta(0):
        told.append("a text counts as known at the very instant of its stamp")
    if run.news is not None and run.news.precision == "date":
        told.append("the news has dates alone, and counts from the next midnight")
    if run.exits.resting:
        told.append("stops rest in the market and fill inside a bar, which the job does not do")
    if run.split is None:
        told.append("no split: all bars are tested, and on what the settings were found is not known")
    if model is None:
        told.append(UNKNOWN_SCORES.rstrip("."))
    else:
        try:
            told += [note.rstrip(".") for note in check_seen(run, model)]
        except FinsignalError as err:
            found = Finding("seen data", GUARD, "", "", None, str(err))
            return Part(STATED, "failed", 1, "the model has seen the run's period", (found,))
    if not told:
        return Part(STATED, "passed", 1, "nothing that a reader must be told")
    return Part(STATED, "told", len(told), "; ".join(told))
