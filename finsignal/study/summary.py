"""The honest summary of a study: what was used and dropped, earned, assumed, and what it is compared with."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from finsignal import evidence
from finsignal.clock import bar_of
from finsignal.config import RunFile
from finsignal.features import make_counted_texts
from finsignal.sentiment.score import Model
from finsignal.sources.files import count_relevance, longest_silences
from finsignal.study.assumptions import list_assumptions
from finsignal.study.choosing import Choice
from finsignal.study.explaining import Explained
from finsignal.study.inputs import Inputs, text_rules
from finsignal.study.random_entries import RandomEntries


def make_summary(
    run: RunFile,
    inputs: Inputs,
    sentiment: pd.DataFrame,
    figures: Mapping[str, dict[str, Any]],
    *,
    tested: pd.DataFrame,
    choices: Sequence[Choice],
    sharpes: Sequence[float | None],
    entries: RandomEntries | None,
    notes: list[str],
    model: Model | None,
    explained: Explained,
) -> dict[str, Any]:
    """The summary for JSON. `figures` are `evidence.measure` of each account, the run's own first; `tested` its bars.

    Fractions throughout; None where a figure is not defined. `choices` are the run's windows, `sharpes` the net Sharpe
    ratio of its account in each one's test. `model` is None for scores from a file.
    """
    name = next(iter(figures))
    used, dropped = count_texts(run, inputs, sentiment)
    silences = longest_silences(used, inputs.bars, symbols=run.symbols)
    tested_first = inputs.bars["open_time"].searchsorted(tested["open_time"].iloc[0])
    holds = figures["buy and hold"]
    compared = [evidence.compare(other, row) for other, row in figures.items()]
    if entries is not None:
        compared.append(evidence.compare(f"random entries, median of {len(entries.figures)}", entries.median))
    return {
        "name": run.name,
        "simulated": run.simulated,
        "notes": notes,
        "verdict": evidence.judge(
            figures[name],
            hold=holds,
            better=None if entries is None else entries.better,
            draws=0 if entries is None else len(entries.figures),
        ),
        "period": {
            "start": tested["open_time"].iloc[0].isoformat(),
            "end": tested["close_time"].iloc[-1].isoformat(),
            "bars": len(tested),
            "sessions": int(tested["session"].nunique()),
            "symbols": sorted(run.symbols),
            "market": run.market,
            "bar": run.bar,
            "split": _to_split(run, choices, sharpes),
        },
        "texts": {
            "read": inputs.news_counts.read,
            "used": len(used),
            "used_in_test": int((used["first"] >= tested_first).sum()),
            "dropped": {reason: n for reason, n in {**inputs.news_counts.dropped, **dropped}.items() if n},
            "relevance": count_relevance(inputs.news, min_relevance=run.features.min_relevance).to_dict("records"),
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
        "comparison": compared,
        "random_entries": None
        if entries is None
        else {
            "accounts": len(entries.figures),
            "as_good": round(entries.better * (len(entries.figures) + 1)) - 1,
            "p_value": entries.better,
            "net_returns": sorted(entries.figures["net_return"].tolist()),
        },
        "attribution": explained.attribution,
        "alpha": explained.alpha,
        "costs": dataclasses.asdict(run.costs),
        "model": _to_model(name, model),
        "settings_tried": sum(choice.tried for choice in choices) if run.search else 1,
        "chosen": dict(choices[-1].values) if choices else {},  # of windows the newest, which would trade on
        "assumptions": list_assumptions(run, inputs),
    }


def count_texts(run: RunFile, inputs: Inputs, sentiment: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """The texts that count at some bar of the run, and how many of its news rows do not, by the first reason."""
    news, bars = inputs.news, inputs.bars
    rules = text_rules(run)
    used = make_counted_texts(news, sentiment, bars, run.symbols, **rules)
    key = ["article_id", "symbol"]
    counts = pd.MultiIndex.from_frame(news[key]).isin(pd.MultiIndex.from_frame(used[key]))
    left = ~counts
    dropped = {}
    for reason, holds in {
        "known before the first decision": (news["time"] < bars["time"].iloc[0]).to_numpy(),
        "known after the last decision": bar_of(bars, news["time"]) == len(bars),
        "less relevant than min_relevance": (news["relevance"] < rules["min_relevance"]).to_numpy(),
        "without a score": ~pd.MultiIndex.from_frame(news[key]).isin(pd.MultiIndex.from_frame(sentiment[key])),
        "of no weight": ((news["relevance"] == 0) | (news["source"].map(rules["source_weights"]) == 0)).to_numpy(),
    }.items():
        dropped[reason] = int((left & holds).sum())
        left = left & ~holds
    dropped["repeats of a story"] = int(left.sum())
    return used, dropped


def _to_split(run: RunFile, choices: Sequence[Choice], sharpes: Sequence[float | None]) -> dict[str, Any] | None:
    """The windows of a run, and what holds for all of them; validation is that of a single cut, else None."""
    if not choices:
        return None
    windows = [
        {
            "train": _to_span(choice.split.train_start, choice.split.train_end),
            "validation": _to_span(choice.split.validation_start, choice.split.validation_end),
            "test": _to_span(choice.split.test_start, choice.split.test_end),
            "tried": choice.tried,
            "chosen": dict(choice.values),
            "sharpe_train": choice.train,
            "sharpe_validation": choice.validation,
            "sharpe_test": sharpe,
        }
        for choice, sharpe in zip(choices, sharpes, strict=True)
    ]
    kind = run.split.kind if run.split is not None else ""
    return {
        "kind": kind or "single",
        "validation": None if kind else windows[0]["validation"],
        "test": _to_span(choices[0].split.test_start, choices[-1].split.test_end),
        "purge_bars": choices[0].split.purge,
        "embargo_bars": choices[0].split.embargo,
        "windows": windows,
    }


def _to_span(start: pd.Timestamp | None, end: pd.Timestamp | None) -> list[str] | None:
    return None if start is None or end is None else [start.isoformat(), end.isoformat()]


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
