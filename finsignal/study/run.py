"""A run file carried out: settings chosen on validation, one account on test, compared on identical bars."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from finsignal import evidence
from finsignal.backtest import hold_weights
from finsignal.config import RunFile
from finsignal.features import texts_behind
from finsignal.sentiment.score import Model
from finsignal.signals import NO_EXITS, Decided, Strategy
from finsignal.splits import Split, make_splits
from finsignal.study.accounts import run_account
from finsignal.study.case import Case, make_case
from finsignal.study.choosing import Choice, choose_settings, net_sharpe, to_chosen_parameters
from finsignal.study.explaining import explain
from finsignal.study.inputs import UNKNOWN_SCORES, Inputs, check_seen, text_rules
from finsignal.study.manifest import RUN_FOLDER_MARK, Request, make_manifest, write_manifest
from finsignal.study.random_entries import run_random_entries
from finsignal.study.summary import make_summary
from finsignal.tables import PROBABILITIES, SENTIMENT, BacktestResult, to_integers
from finsignal.writing import whole_folder

TRADE_NEWS = (
    *("trade", "symbol", "published", "known", "decided", "filled"),
    *("title", "source", "url", *PROBABILITIES, "share"),
)


@dataclass(frozen=True)
class Study:
    """A run carried out.

    summary is for JSON, curves one column of equity for each compared account, manifest what it was made of, case what
    the questions of evidence ask about. trials are those of the study when evidence was asked, else None.
    """

    run: RunFile
    result: BacktestResult
    decided: Decided
    parameters: pd.DataFrame
    news: pd.DataFrame
    sentiment: pd.DataFrame
    curves: pd.DataFrame
    trade_news: pd.DataFrame
    attribution: pd.DataFrame
    summary: dict[str, Any]
    manifest: dict[str, Any]
    case: Case
    trials: pd.DataFrame | None = None


def run_study(
    run: RunFile,
    inputs: Inputs,
    sentiments: Mapping[str, pd.DataFrame],
    *,
    models: Mapping[str, Model] | None = None,
    notes: Sequence[str] = (),
    request: Request | None = None,
    files: Mapping[str, str | None] | None = None,
    progress: bool = False,
) -> Study:
    """The run carried out with the first of `sentiments` (name -> table), beside the others and the baselines.

    Where the run has a [split], every combination of [search] is tried before each of its test windows, and the chosen
    one (`choosing.choose_settings`) reported on it: one account over all of them, flat at the beginning of the first,
    nothing closed at a new choice. Each sentiment chooses its own. All accounts trade the same bars at the same costs.
    `models` are those behind the sentiments; scores from elsewhere have none, and what they have seen is not known.
    `notes` are said first, beside the study's own.
    `request` and the digests of its `files` are what `study.run_request` read all this from; without them the run
    folder says of what it was made, but cannot be repeated from it. progress: a bar on stderr where choosing is long.
    """
    models = models or {}
    names = list(sentiments)
    said = ["Simulated data: news and prices are made up."] if run.simulated else []
    for name in names:
        said += check_seen(run, models.get(name))
    if names[0] not in models and not run.scores_until:
        said.append(UNKNOWN_SCORES)
    said += notes
    if run.decision_latency == pd.Timedelta(0):
        said.append("Zero latency: decisions are made at the very open that they trade.")
    strategy = run.load_strategy()
    splits, bars = _splits(run, inputs.bars), inputs.bars
    tested = bars[bars["open_time"] >= splits[0].test_start].reset_index(drop=True) if splits else bars
    one = partial(_one, splits=splits, progress=progress)
    main = one(run, inputs, sentiments[names[0]], strategy)
    said += _note_blind(main.choices)
    compared = {names[0]: main}
    for name in names[1:]:
        compared[name] = one(run, inputs, sentiments[name], strategy)
    if (inputs.news["relevance"] < 1).any():
        unjudged = replace(inputs, news=inputs.news.assign(relevance=1.0))
        compared["without the relevance filter"] = one(run, unjudged, sentiments[names[0]], strategy)
    baseline = run.load_baseline()
    if baseline is not None:
        stated = replace(run, parameters={}, search={})
        compared["price features alone"] = one(stated, inputs, SENTIMENT.empty(), baseline)
    results = {name: account.result for name, account in compared.items()}
    hold = hold_weights(tested, list(run.symbols), gross=min(run.weights.gross, 1.0))
    results["buy and hold"] = run_account(replace(run, exits=NO_EXITS), inputs, hold)
    figures = {name: evidence.measure(r, inputs.bars, market=run.market) for name, r in results.items()}
    entries = run_random_entries(run, inputs, main.result, progress=progress) if run.random_entries else None
    trade_news = make_trade_news(main.result, inputs.news, sentiments[names[0]], inputs.bars, text_rules(run))
    explained = explain(run, inputs, main.result, hold=results["buy and hold"], trade_news=trade_news)
    summary = make_summary(
        run,
        inputs,
        sentiments[names[0]],
        figures,
        tested=tested,
        choices=main.choices,
        sharpes=[net_sharpe(main.result, bars, market=run.market, split=split) for split in splits],
        entries=entries,
        notes=said,
        model=models.get(names[0]),
        explained=explained,
    )
    return Study(
        run=run,
        result=main.result,
        decided=main.decided,
        parameters=main.parameters,
        news=inputs.news,
        sentiment=sentiments[names[0]],
        curves=pd.DataFrame({name: r.equity for name, r in results.items()}),
        trade_news=trade_news,
        attribution=explained.table,
        summary=summary,
        manifest=make_manifest(run, inputs, sentiments, models, request=request, files=files or {}),
        case=replace(main, model=models.get(names[0])),
    )


def _one(
    run: RunFile,
    inputs: Inputs,
    sentiment: pd.DataFrame,
    strategy: Strategy,
    splits: tuple[Split, ...],
    *,
    progress: bool,
) -> Case:
    choices = choose_settings(run, inputs, sentiment, strategy, splits, progress=progress)
    parameters = to_chosen_parameters(run, choices)
    since = splits[0].test_start if splits else None
    return make_case(run, inputs, sentiment, strategy, parameters, since=since, choices=choices)


def _note_blind(choices: Sequence[Choice]) -> list[str]:
    """What must be said where no setting had a Sharpe ratio on all that it was tried on: the first stood unjudged."""
    searched = [choice for choice in choices if choice.values]
    blind = sum(choice.is_blind for choice in searched)
    if not blind:
        return []
    return [f"In {blind} of {len(searched)} choices no setting had a Sharpe ratio: the one stated first stands."]


def make_trade_news(
    result: BacktestResult, news: pd.DataFrame, sentiment: pd.DataFrame, bars: pd.DataFrame, rules: Mapping[str, Any]
) -> pd.DataFrame:
    """For each trade the texts behind its entry: published, known, decided, filled, and each one's share of the weight.

    The entry's decision is the one at which its target last changed; a bar that did not print lies between the two.
    """
    opens = pd.DatetimeIndex(result.weights.index)
    start = int(np.searchsorted(to_integers(bars["open_time"]), to_integers(opens[:1])[0]))
    pieces = [pd.DataFrame(columns=list(TRADE_NEWS))]
    for symbol, trades in result.trades.groupby("symbol"):
        target = result.weights[symbol].to_numpy()
        changes = np.flatnonzero(np.diff(target, prepend=0.0) != 0)
        entries = opens.get_indexer(pd.DatetimeIndex(trades["entry_time"]))
        positions = start + changes[np.searchsorted(changes, entries, side="right") - 1]
        trades = trades.assign(position=positions, decided=bars["time"].iloc[positions].array)
        ours, scores = (t[t["symbol"] == symbol].reset_index(drop=True) for t in (news, sentiment))
        texts = texts_behind(ours, scores, bars, str(symbol), np.unique(positions).tolist(), **rules)
        texts["title"] = texts["title"].where(texts["title"] != "", texts["text"])  # some feeds have no headlines
        rows = trades[["trade", "position", "decided", "entry_time"]].merge(texts, on="position")
        pieces.append(rows.rename(columns={"entry_time": "filled"})[list(TRADE_NEWS)])
    return pd.concat([p for p in pieces if len(p)] or pieces, ignore_index=True).sort_values(
        "trade", kind="stable", ignore_index=True
    )


def _splits(run: RunFile, bars: pd.DataFrame) -> tuple[Split, ...]:
    if run.split is None:
        return ()
    return make_splits(run.split, bars, holding=run.weights.holding, max_age=run.features.max_age)


def write_study(study: Study, folder: Path) -> Path:
    """The run folder: report.html, report.json, summary.json, settings.json, the tables as Parquet, manifest.json.

    It appears whole or not.
    """
    from finsignal.report import write_report

    with whole_folder(folder, mark=RUN_FOLDER_MARK) as work:
        study.result.write(work)
        for name, table in {
            "features": study.decided.features,
            "signals": study.decided.signals,
            "weights": study.decided.weights,
            "state": study.decided.state,
            "parameters": study.parameters,
            "news": study.news,
            "sentiment": study.sentiment,
            "trade_news": study.trade_news,
            "attribution": study.attribution,
            **({} if study.trials is None else {"trials": study.trials}),
        }.items():
            table.to_parquet(work / f"{name}.parquet", index=False)
        for name, content in {
            "summary": study.summary,
            "settings": study.result.settings,
            "report": to_report_json(study),
        }.items():
            text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
            (work / f"{name}.json").write_text(text + "\n", encoding="utf-8")
        write_report(
            work / "report.html",
            summary=study.summary,
            result=study.result,
            curves=study.curves,
            trade_news=study.trade_news,
        )
        write_manifest(study.manifest, work)
    return folder


def to_report_json(study: Study) -> dict[str, Any]:
    """What the page shows, for machines: the summary, each trade with its texts, and the accounts at each day's end.

    Instants are ISO 8601 in UTC, money is in units of the starting cash, None is not defined.
    """
    sessions = study.case.inputs.bars.set_index("open_time")["session"].reindex(study.curves.index).to_numpy()
    curves = study.curves.groupby(sessions).last()
    texts = {trade: rows.drop(columns="trade") for trade, rows in study.trade_news.groupby("trade")}
    trades = [
        {**row, "texts": _to_records(texts[row["trade"]]) if row["trade"] in texts else []}
        for row in _to_records(study.result.trades)
    ]
    return {
        "summary": study.summary,
        "trades": trades,
        "equity": {
            "session": curves.index.tolist(),
            **{str(name): [evidence.to_none(v) for v in curves[name].tolist()] for name in curves},
        },
    }


def _to_records(table: pd.DataFrame) -> list[dict[str, Any]]:
    def plain(value: Any) -> Any:
        return value.isoformat() if isinstance(value, pd.Timestamp) else evidence.to_none(value)

    plains = [{str(key): plain(value) for key, value in row.items()} for row in table.to_dict("records")]
    return [{key: None if value is pd.NaT else value for key, value in row.items()} for row in plains]
