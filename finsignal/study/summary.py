"""The honest summary of a study: what was used and dropped, earned, assumed, and what it is compared with."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pandas as pd

from finsignal import evidence
from finsignal.clock import bar_of
from finsignal.config import RunFile
from finsignal.sentiment.score import Model
from finsignal.sources.files import longest_silences
from finsignal.splits import Split
from finsignal.study.inputs import Inputs


def make_summary(
    run: RunFile,
    inputs: Inputs,
    figures: Mapping[str, dict[str, Any]],
    *,
    tested: pd.DataFrame,
    split: Split | None,
    chosen: Mapping[str, float],
    tried: int,
    notes: list[str],
    model: Model | None,
) -> dict[str, Any]:
    """The summary for JSON. `figures` are `evidence.measure` of each account, the run's own first; `tested` its bars.

    Fractions throughout; None where a figure is not defined. `model` is None for scores from a file.
    """
    name = next(iter(figures))
    news, rules = inputs.news, run.features
    decisions = bar_of(inputs.bars, news["time"])
    early = (news["time"] < inputs.bars["time"].iloc[0]).to_numpy()
    late = decisions == len(inputs.bars)
    used = ~early & ~late & (news["relevance"] >= rules.min_relevance).to_numpy()
    dropped = dict(inputs.news_counts.dropped)
    dropped["less relevant than min_relevance"] = int((~early & ~late & ~used).sum())
    dropped["known before the first decision"] = int(early.sum())
    dropped["known after the last decision"] = int(late.sum())
    silences = longest_silences(news[used].reset_index(drop=True), inputs.bars, symbols=run.symbols)
    holds = figures["buy and hold"]
    return {
        "name": run.name,
        "simulated": run.simulated,
        "notes": notes,
        "verdict": evidence.judge(figures[name], hold=holds),
        "period": {
            "start": tested["open_time"].iloc[0].isoformat(),
            "end": tested["close_time"].iloc[-1].isoformat(),
            "bars": len(tested),
            "sessions": int(tested["session"].nunique()),
            "symbols": sorted(run.symbols),
            "market": run.market,
            "bar": run.bar,
            "split": None
            if split is None
            else {
                "validation": [split.validation_start.isoformat(), split.validation_end.isoformat()],
                "test": [split.test_start.isoformat(), split.test_end.isoformat()],
                "purge_bars": split.purge,
            },
        },
        "texts": {
            "read": inputs.news_counts.read,
            "used": int(used.sum()),
            "dropped": {reason: n for reason, n in dropped.items() if n},
            "notes": list(inputs.news_counts.notes),
            "silences": [
                {
                    "symbol": row.symbol,
                    "start": row.start.isoformat(),
                    "end": row.end.isoformat(),
                    "days": round(float(row.days), 1),
                }
                for row in silences.itertuples()
            ],
        },
        "prices": {
            "read": inputs.price_counts.read,
            "used": len(inputs.prices),
            "dropped": dict(inputs.price_counts.dropped),
            "bars_missing": len(inputs.bars) * len(run.symbols) - len(inputs.prices),
            "notes": list(inputs.price_counts.notes),
        },
        "performance": figures[name],
        "comparison": [evidence.compare(other, row) for other, row in figures.items()],
        "costs": dataclasses.asdict(run.costs),
        "model": _to_model(name, model),
        "settings_tried": tried,
        "chosen": dict(chosen),
        "assumptions": _assumptions(run),
    }


def _to_model(name: str, model: Model | None) -> dict[str, Any]:
    if model is None:
        return {
            "name": name,
            "trained_until": None,
            "base_cutoff": None,
            "trained_on": ["not known: scores from a file"],
        }
    return {
        "name": name,
        "trained_until": model.trained_until.isoformat(),
        "base_cutoff": model.base_cutoff.isoformat(),
        "trained_on": [str(data["name"]) for data in model.card["data"]],
    }


def _assumptions(run: RunFile) -> list[str]:
    said = [
        f"Each order is decided {run.decision_latency} before its bar opens, from what was known then.",
        "It fills at that open, worse by the slippage; its quantity comes from the last close known.",
        f"A text counts from the end of its stamp's precision ({run.news.precision}) plus {run.news.latency}.",
        f"Fee {run.costs.fee:.4%} of the value and slippage {run.costs.slippage:.4%} of the price, on each side.",
        "Orders fill whole, whatever their size beside the bar's volume; no borrow cost, dividends or interest.",
    ]
    if run.costs.funding_rate:
        said.append(
            f"ASSUMED funding rate {run.costs.funding_rate:.4%} every 8 hours, the same at all times; not a record."
        )
    return said
