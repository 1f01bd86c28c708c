"""The signal of each symbol at one instant, with the texts behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from finsignal import evidence
from finsignal.clock import latest_decision
from finsignal.config import ALWAYS, RunFile, check_parameters, to_parameters
from finsignal.errors import ConfigError
from finsignal.features import LOOKBACK, sentiment_lookback, texts_behind
from finsignal.sentiment.score import Model
from finsignal.signals import decide, make_flat_state
from finsignal.study.inputs import UNKNOWN_SCORES, Inputs, check_seen, text_rules
from finsignal.tables import LABELS, PARAMETERS


def make_signal_rows(
    run: RunFile,
    inputs: Inputs,
    score: Callable[[pd.DataFrame], tuple[Mapping[str, pd.DataFrame], Mapping[str, Model]]],
    *,
    now: pd.Timestamp,
    parameters: Path | None = None,
) -> list[dict[str, Any]]:
    """For each symbol its signal at the latest decision at or before `now`, for JSON.

    The breakdown holds the weighted mean probability of each class, None without a text; news are the texts behind it,
    the heaviest first. `score` gets only the news that can still count. Thresholds are those of the run file, or of
    `parameters`, the table of a run folder. Raises ConfigError where no decision lies at or before `now`.
    """
    bars = inputs.bars
    position = latest_decision(bars, now)
    if position is None:
        raise ConfigError(f"{run.path}: the first decision is at {bars['time'].iloc[0]}, after {now}.")
    reach = max(sentiment_lookback(run.features.max_age), run.features.price_max_age + max(LOOKBACK.values()))
    bars = bars.iloc[max(position - reach, 0) : position + 1].reset_index(drop=True)
    decision, old = bars["time"].iloc[-1], bars["time"].iloc[0]
    news = inputs.news[(inputs.news["time"] <= decision) & (inputs.news["time"] > old)].reset_index(drop=True)
    sentiments, models = score(news)
    name, sentiment = next(iter(sentiments.items()))
    notes = ["Simulated data: news and prices are made up."] if run.simulated else []
    notes += check_seen(run, models.get(name))
    if name not in models:
        notes.append(UNKNOWN_SCORES)
    if now >= inputs.bars["close_time"].iloc[-1]:
        notes.append(f"Old: the run file's last bar ended {inputs.bars['close_time'].iloc[-1]}, before {now}.")
    strategy, table = run.load_strategy(), _read_parameters(run, parameters)
    if run.search and parameters is None:
        first = ", ".join(f"{key} {values[0]:g}" for key, values in run.search.items())
        notes.append(
            f"Not fitted: the first values of [search] stand ({first}). Pass --parameters RUNFOLDER/parameters.parquet."
        )
    check_parameters(strategy, table["name"].tolist(), where=str(parameters or run.path))
    decided = decide(
        news,
        inputs.prices,
        sentiment,
        make_flat_state(run.symbols),
        strategy=strategy,
        parameters=table,
        bars=bars,
        symbols=run.symbols,
        news_rules=run.features,
        weight_rules=run.weights,
        since=bars["open_time"].iloc[-1],
    )
    known = table[table["time"] <= decision]
    values = {str(key): float(value) for key, value in zip(known["name"], known["value"], strict=True)}
    rows = []
    features = decided.features.set_index("symbol")
    for signal in decided.signals.itertuples():
        texts = texts_behind(news, sentiment, bars, signal.symbol, len(bars) - 1, **text_rules(run))
        mix = features.loc[signal.symbol]
        rows.append(
            {
                "symbol": signal.symbol,
                "signal": signal.signal,
                "score": evidence.to_none(signal.score),
                "confidence": evidence.to_none(signal.confidence),
                "breakdown": {label: evidence.to_none(float(mix[f"sent_{label}"])) for label in LABELS},
                "texts": len(texts),
                "sources": int(texts.loc[texts["source"] != "", "source"].nunique()),
                "decided": decision.isoformat(),
                "bar": bars["open_time"].iloc[-1].isoformat(),
                "model": name,
                "parameters": values,
                "notes": notes,
                "news": [_to_text_row(text) for text in texts.sort_values("share", ascending=False).itertuples()],
            }
        )
    return rows


def _read_parameters(run: RunFile, path: Path | None) -> pd.DataFrame:
    """The parameters of a run folder; without one, those stated, and of what is searched the first value."""
    if path is not None:
        try:
            return PARAMETERS.check(pd.read_parquet(path))
        except (OSError, ValueError) as err:
            raise ConfigError(
                f"{path}: not a table of parameters ({err}). Pass parameters.parquet of a run folder."
            ) from err
    first = {name: values[0] for name, values in run.search.items()}
    return to_parameters({**run.parameters, **first}, known=ALWAYS)


def _to_text_row(text: Any) -> dict[str, Any]:
    return {
        "published": text.published.isoformat(),
        "known": text.time.isoformat(),
        "title": text.title or text.text,
        "source": text.source,
        "url": text.url,
        "relevance": text.relevance,
        "share": text.share,
        **{f"p_{label}": getattr(text, f"p_{label}") for label in LABELS},
    }
