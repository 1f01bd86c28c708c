"""Is it the news: the run's own strategy on what prices said, on the mere hours of the news, and on masked names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from finsignal import evidence
from finsignal.evidence.answers import Answer, Figure, Table
from finsignal.evidence.stories import number_stories
from finsignal.features import make_counted_texts, make_price_features
from finsignal.sentiment.score import score_texts, to_inputs
from finsignal.study.case import Case, carry_out
from finsignal.study.inputs import text_rules
from finsignal.study.masking import CHANGED, MASKED, OWN, make_mask, measure_masked, to_masked
from finsignal.study.paired import to_difference, to_ends
from finsignal.tables import PROBABILITIES, SENTIMENT, BacktestResult, to_integers

QUESTION = "Is it the news?"


@dataclass(frozen=True)
class Placebo:
    """One account beside the run's own. needs says why there is none."""

    key: str
    name: str
    said: str
    result: BacktestResult | None = None
    needs: str = ""
    source: str = ""


def answer_news(case: Case, *, progress: bool = False) -> Answer:
    """The answer to "news": how much more the run made than with something else in the place of what texts say.

    Each placebo keeps texts, their instants, the strategy, its settings, prices and costs, and is an account of its
    own; its figure is the run's mean daily net return less the placebo's, times the days of a year, with the interval
    of the paired days (n days). Where the interval holds 0, the placebo does as well.

    price_only: the probabilities of the texts are dealt anew by what prices had done: the text that came after the
    largest rise of 5 bars, in units of the symbol's volatility, gets those of the most positive text, and so on down.
    calendar_only: every text has the same probabilities, the mean of those that lean to the commoner side, so only when
    news came is left. price_baseline: the run's baseline, which reads no text, with its own settings. masked: the
    texts that count in the test scored again by the run's model, with the names of their symbol replaced by XYZ, and
    those of the run's other symbols by QRS. masked_agreement is the share that keep their likeliest label and
    masked_change the mean change of p_positive - p_negative, each with its interval, of the texts that name a company;
    all texts of a story count as one, whenever and of whichever symbol it was told (n stories).

    A figure that cannot be says what it needs: 60 days, a model, names, a text. progress: a bar on stderr where texts
    are scored. Source of the masking: Glasserman & Lin 2023, arXiv:2309.17322.
    """
    masked, figures = _mask(case, progress=progress)
    placebos = [_price_only(case), *_price_baseline(case), _calendar_only(case), masked]
    told = tuple(_compare(case, placebo) for placebo in placebos)
    accounts = [("the run", case.result), *((p.name, p.result) for p in placebos if p.result is not None)]
    table = Table(
        *("placebos", "The run and its placebos"),
        ("account", "net return", "Sharpe ratio", "exposure", "closed trades", "days"),
        ("", "percent", "ratio", "percent", "count", "count"),
        tuple(_row(case, name, result) for name, result in accounts),
    )
    notes = [
        "Price-only deals by ranks over the whole period, and the mere hours say its commoner side and the mean of it, "
        "which no one had at the time: that makes both harder to beat."
    ]
    if case.run.weights.slots < len(case.run.symbols):
        notes.append(
            "Where every text says the same and there are more symbols than slots, the first by name are held: the "
            "mere hours of the news then hold much the same few symbols throughout."
        )
    return Answer("news", QUESTION, _say(told), (*told, *figures), (), (table,), tuple(notes))


def _compare(case: Case, placebo: Placebo) -> Figure:
    name = f"Return a year beyond {placebo.name}"
    needs = placebo.needs
    if placebo.result is not None and case.result.orders.empty and placebo.result.orders.empty:
        needs = "an order; neither account filled one"
    if placebo.result is None or needs:
        return Figure(placebo.key, name, "percent", 0, "days", needs=needs, said=placebo.said, source=placebo.source)
    return to_difference(
        *(case, case.result, placebo.result),
        key=placebo.key,
        name=name,
        said=placebo.said,
        source=placebo.source,
    )


def _row(case: Case, name: str, result: BacktestResult) -> tuple[Any, ...]:
    measured = evidence.measure(result, case.inputs.bars, market=case.run.market)
    return (name, *(measured[key] for key in ("net_return", "sharpe", "exposure", "trades", "days")))


def _say(told: Sequence[Figure]) -> str:
    """One sentence of the placebos that do as well, and those that do not."""
    known = [figure for figure in told if figure.value is not None]
    if not known:
        return "No placebo can be judged, so nothing says that it is the news."
    names = {figure.key: figure.name.removeprefix("Return a year beyond ") for figure in known}
    placebos = [f for f in known if f.key != "masked"]
    beaten = [names[f.key] for f in placebos if f.low is not None and f.low > 0]
    worse = [names[f.key] for f in placebos if f.high is not None and f.high < 0]
    level = [names[f.key] for f in placebos if names[f.key] not in beaten + worse]
    said = []
    for how, listed in (("did better than", beaten), ("cannot be told from", level), ("did worse than", worse)):
        if listed:
            said.append(f"it {how} {_list(listed)}")
    hidden = next((f for f in known if f.key == "masked" and f.value is not None), None)
    if hidden is not None and hidden.value is not None:
        flipped = replace(hidden, low=None if hidden.high is None else -hidden.high,
                          high=None if hidden.low is None else -hidden.low)  # fmt: skip
        said.append(
            f"with the companies' names hidden its return changes by {-hidden.value:+.1%} a year{to_ends(flipped)}"
        )
    text = "; ".join(said)
    return f"{text[0].upper()}{text[1:]}."


def _list(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


# --- what stands in the place of the news ----------------------------------------------------------------


def _trade(case: Case, sentiment: pd.DataFrame) -> BacktestResult:
    _, result = carry_out(case.run, case.inputs, sentiment, case.strategy, case.parameters, since=case.since)
    return result


def _price_only(case: Case) -> Placebo:
    said = "The same texts, but each says what prices had done in the 5 bars before it."
    placebo = Placebo("price_only", "price alone, at the hours of the news", said)
    values = case.sentiment[list(PROBABILITIES)].to_numpy()
    moved = find_moves(case)
    known = np.isfinite(moved)
    if not known.any():
        return replace(placebo, needs="a text after the first 21 bars of prices; there is none")
    by_move = np.flatnonzero(known)[np.argsort(moved[known], kind="stable")]
    by_score = np.flatnonzero(known)[np.argsort((values[:, 2] - values[:, 0])[known], kind="stable")]
    dealt = np.tile([0.0, 1.0, 0.0], (len(values), 1))  # before prices have a volatility they say nothing
    dealt[by_move] = values[by_score]
    return replace(placebo, result=_trade(case, _with(case.sentiment, dealt)))


def find_moves(case: Case) -> np.ndarray:
    """For each row of the sentiment, the return of 5 bars over vol_20, as known at the first decision that reads it.

    NaN where there are too few prices, and for what no decision reads.
    """
    inputs, rules = case.inputs, case.run.features
    symbols = sorted(case.run.symbols)
    features = make_price_features(inputs.prices, inputs.bars, symbols, max_age=rules.price_max_age)
    with np.errstate(divide="ignore", invalid="ignore"):
        moved = features["ret_5"].to_numpy() / features["vol_20"].to_numpy()
    moved = np.append(moved.reshape(len(symbols), len(inputs.bars)), np.full((len(symbols), 1), np.nan), axis=1)
    at = _to_key(inputs.news).get_indexer(_to_key(case.sentiment))
    told = np.where(at >= 0, to_integers(inputs.news["time"])[at], 0) if len(inputs.news) else 0
    known = np.maximum(to_integers(case.sentiment["time"]), told)
    first = np.searchsorted(to_integers(inputs.bars["time"]), known)
    row = pd.Index(symbols).get_indexer(pd.Index(case.sentiment["symbol"]))
    found = np.where(row >= 0, moved[row, first], np.nan)
    return np.where(np.isfinite(found), found, np.nan)


def _price_baseline(case: Case) -> list[Placebo]:
    baseline = case.run.load_baseline()
    if baseline is None:
        return []
    run = replace(case.run, parameters={}, search={})
    parameters = case.parameters.iloc[:0]
    _, result = carry_out(run, case.inputs, SENTIMENT.empty(), baseline, parameters, since=case.since)
    said = "The run's baseline, which reads no text, over the same bars."
    return [Placebo("price_baseline", "the baseline on prices", said, result)]


def _calendar_only(case: Case) -> Placebo:
    said = "The same texts at the same instants, all saying the same: only when there was news is left."
    placebo = Placebo("calendar_only", "the mere hours of the news", said)
    values = case.sentiment[list(PROBABILITIES)].to_numpy()
    side = np.sign(values[:, 2] - values[:, 0]) * (values.argmax(axis=1) != 1)
    lean = 1.0 if (side > 0).sum() >= (side < 0).sum() else -1.0
    if not (side == lean).any():
        return replace(placebo, needs="a text that is not neutral; there is none")
    mean = values[side == lean].mean(axis=0)
    return replace(placebo, result=_trade(case, _with(case.sentiment, np.tile(mean / mean.sum(), (len(values), 1)))))


def _with(sentiment: pd.DataFrame, values: np.ndarray) -> pd.DataFrame:
    return sentiment.assign(**dict(zip(PROBABILITIES, values.T, strict=True)))


# --- names hidden ----------------------------------------------------------------------------------------


def _mask(case: Case, *, progress: bool) -> tuple[Placebo, tuple[Figure, ...]]:
    """The account on masked texts, and how far their scores moved."""
    said = "The same texts with the companies' names hidden, scored again by the same model."
    placebo = Placebo("masked", "the same with names hidden", said, source=MASKED)
    if case.model is None:
        needs = "a model; these scores come from elsewhere and cannot be made again"
    else:
        table, rows, stories = _rescore(case, progress=progress)
        needs = "" if len(rows) else "a text in the test that names a company by [names] or symbol; there is none"
    if needs:
        return replace(placebo, needs=needs), tuple(to_masked(key, 0, needs=needs) for key in CHANGED)
    before, after = (t[list(PROBABILITIES)].to_numpy()[rows] for t in (case.sentiment, table))
    return replace(placebo, result=_trade(case, table)), measure_masked(before, after, stories)


def _rescore(case: Case, *, progress: bool) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """The sentiment with the texts that count in the test scored masked, the rows whose text changed, their stories."""
    run, news = case.run, case.inputs.news
    counted = make_counted_texts(news, case.sentiment, case.inputs.bars, run.symbols, **text_rules(run))
    since = 0 if case.since is None else int((case.inputs.bars["open_time"] < case.since).sum())
    counted = counted[counted["first"] >= since - run.features.max_age].reset_index(drop=True)
    hide = make_mask(run.symbols, run.names)
    hidden = counted.assign(
        **{
            name: pd.Series([hide(t, s) for t, s in zip(counted[name], counted["symbol"], strict=True)], dtype="str")
            for name in ("title", "text")
        }
    )
    changed = ((hidden["title"] != counted["title"]) | (hidden["text"] != counted["text"])).to_numpy()
    hidden = hidden[changed].reset_index(drop=True)
    if hidden.empty or case.model is None:
        return case.sentiment, *(np.zeros(0, dtype=np.int64),) * 2
    asked = to_inputs(hidden, case.model, {symbol: (OWN,) for symbol in run.names})
    scores = score_texts([t for t, _ in asked], case.model, progress, targets=[target for _, target in asked])
    rows = _to_key(case.sentiment).get_indexer(_to_key(hidden))
    values = case.sentiment[list(PROBABILITIES)].to_numpy().copy()
    values[rows] = scores[list(PROBABILITIES)].to_numpy()
    return _with(case.sentiment, values), rows, number_stories(hidden)


def _to_key(table: pd.DataFrame) -> pd.MultiIndex:
    return pd.MultiIndex.from_frame(table[["article_id", "symbol"]])
