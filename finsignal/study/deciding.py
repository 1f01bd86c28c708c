"""A decision by a run file: the one call that study, signal and scheduled job share, and the rows that tell of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from finsignal import evidence
from finsignal.config import ALWAYS, RunFile, check_parameters, to_parameters
from finsignal.errors import ConfigError
from finsignal.features import decay, make_counted_texts
from finsignal.signals import NO_EXITS, Decided, ExitRules, Strategy, decide
from finsignal.study.inputs import text_rules
from finsignal.tables import LABELS, PARAMETERS, PROBABILITIES


class Known(Protocol):
    """The tables that a decision is made from, whoever read them: `Inputs` of a study, `Facts` of a pass."""

    @property
    def bars(self) -> pd.DataFrame: ...
    @property
    def prices(self) -> pd.DataFrame: ...
    @property
    def news(self) -> pd.DataFrame: ...
    @property
    def funding(self) -> pd.DataFrame | None: ...
    @property
    def open_interest(self) -> pd.DataFrame | None: ...
    @property
    def index(self) -> pd.DataFrame | None: ...


def decide_run(
    run: RunFile,
    known: Known,
    sentiment: pd.DataFrame,
    state: pd.DataFrame,
    *,
    strategy: Strategy,
    parameters: pd.DataFrame,
    since: pd.Timestamp | None = None,
) -> Decided:
    """`signals.decide` by the rules that the run file states; `since` is the first open decided, the default all."""
    return decide(
        known.news,
        known.prices,
        sentiment,
        state,
        strategy=strategy,
        parameters=parameters,
        bars=known.bars,
        symbols=run.symbols,
        news_rules=run.features,
        weight_rules=run.weights,
        limits=run.limits,
        exits=run.exits,
        since=since,
        **facts_beside(known),
    )


def facts_beside(known: Known) -> dict[str, pd.DataFrame | None]:
    """The tables beside news and prices that features are made of, as `decide` and `make_features` name them."""
    return {"funding": known.funding, "open_interest": known.open_interest, "index": known.index}


def read_parameters(run: RunFile, path: Path | None) -> pd.DataFrame:
    """The parameters of a run folder; without one, those stated, and of what is searched the first value.

    Raises ConfigError for a file that is none, or holds what the strategy does not take.
    """
    if path is None:
        first = {name: values[0] for name, values in run.search.items()}
        return to_parameters({**run.parameters, **first}, known=ALWAYS)
    try:
        table = PARAMETERS.check(pd.read_parquet(path))
    except (OSError, ValueError) as err:
        raise ConfigError(
            f"{path}: not a table of parameters ({err}). Pass parameters.parquet of a run folder."
        ) from err
    check_parameters(run.load_strategy(), table["name"].tolist(), where=str(path))
    return table


def texts_at_end(run: RunFile, known: Known, sentiment: pd.DataFrame) -> pd.DataFrame:
    """The texts that count at the last bar: columns of NEWS, probabilities, known, and share of the symbol's weight.

    Sorted by symbol, the heaviest first.
    """
    rules = run.features
    texts = make_counted_texts(known.news, sentiment, known.bars, run.symbols, **text_rules(run))
    age = len(known.bars) - 1 - texts["first"]
    texts = texts[(age >= 0) & (age <= rules.max_age)]
    weight = texts["weight"] * decay(age.loc[texts.index], half_life=rules.half_life, mode=rules.mode)
    texts = texts.assign(share=weight / weight.groupby(texts["symbol"]).transform("sum"))
    texts = texts.sort_values(["symbol", "share"], ascending=[True, False], kind="stable", ignore_index=True)
    return texts[[*known.news.columns, *PROBABILITIES, "known", "share"]]


def to_signal_rows(
    decided: Decided,
    texts: pd.DataFrame,
    *,
    model: str,
    parameters: pd.DataFrame,
    notes: Sequence[str],
    exits: ExitRules = NO_EXITS,
) -> list[dict[str, Any]]:
    """For JSON, each symbol's decision at the last bar and the texts behind it; None where a figure is not known.

    Where `exits` close positions with the session, `leave` says so for each that is held: no later decision will.
    """
    rows = []
    last = decided.signals["time"].max()
    known = parameters[parameters["time"] <= last]
    values = {str(key): float(value) for key, value in zip(known["name"], known["value"], strict=True)}
    features = decided.features[decided.features["time"] == last].set_index("symbol").to_dict("index")
    weights = decided.weights[decided.weights["time"] == last].set_index("symbol")["weight"].to_dict()
    behind = dict(list(texts.groupby("symbol")))
    for signal in decided.signals[decided.signals["time"] == last].itertuples():
        ours = behind.get(signal.symbol, texts.iloc[:0])
        mix = features[signal.symbol]
        rows.append(
            {
                "symbol": signal.symbol,
                "signal": signal.signal,
                "weight": float(weights[signal.symbol]),
                **({"leave": "session close" if weights[signal.symbol] else ""} if exits.session_close else {}),
                "score": evidence.to_none(signal.score),
                "confidence": evidence.to_none(signal.confidence),
                "reason": str(getattr(signal, "reason", "")),
                "breakdown": {label: evidence.to_none(float(mix[f"sent_{label}"])) for label in LABELS},
                "texts": len(ours),
                "sources": int(ours.loc[ours["source"] != "", "source"].nunique()),
                "decided": signal.time.isoformat(),
                "bar": signal.open_time.isoformat(),
                "model": model,
                "parameters": values,
                "notes": list(notes),
                "news": [_to_text_row(text) for text in ours.itertuples()],
            }
        )
    return rows


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
