"""A run carried out: settings chosen before the test begins, one account from flat, identical bars for all, and a run
folder that is whole, says what was assumed first, and can be run again."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import NOW, TINY_RUN, WordModel

from finsignal.backtest import run_backtest
from finsignal.config import RunFile, read_run, to_dataclass
from finsignal.errors import ConfigError, LookaheadError, SourceError, TableError
from finsignal.features import texts_behind
from finsignal.report.terminal import WIDTH, to_text
from finsignal.sentiment.score import score_news
from finsignal.signals import Strategy, decide, make_flat_state
from finsignal.splits import Split, make_split
from finsignal.study import Inputs, Study, make_signal_rows, read_inputs, run_study, write_study
from finsignal.study.choosing import choose_settings
from finsignal.study.inputs import check_seen, text_rules


@pytest.fixture(scope="module")
def split(tiny_run: RunFile, tiny_inputs: Inputs) -> Split:
    until = pd.Timestamp("2026-03-04", tz="UTC")
    return make_split(tiny_inputs.bars, validation_until=until, holding=5, max_age=4)


# --- choosing --------------------------------------------------------------------------------------------------------


def choose(
    run: RunFile, inputs: Inputs, sentiment: pd.DataFrame, strategy: Strategy, split: Split
) -> tuple[Mapping[str, float], int]:
    (choice,) = choose_settings(run, inputs, sentiment, strategy, [split])
    return choice.values, choice.tried


def test_the_setting_that_trades_wins_over_the_one_that_never_does(
    tiny_run: RunFile, tiny_inputs: Inputs, tiny_sentiment: pd.DataFrame, split: Split
) -> None:
    chosen, tried = choose(tiny_run, tiny_inputs, tiny_sentiment, tiny_run.load_strategy(), split)
    # No text scores 0.99, so the account of that threshold has no Sharpe ratio, and even a loss wins over none.
    assert chosen == {"buy_threshold": 0.2, "sell_threshold": 0.2}
    assert tried == 2


def test_equal_settings_keep_the_one_stated_first(
    tiny_run: RunFile, tiny_inputs: Inputs, tiny_sentiment: pd.DataFrame, split: Split
) -> None:
    same = replace(tiny_run, search={"max_volatility": (5.0, 3.0, 4.0)}, parameters={"buy_threshold": 0.2})
    assert choose(same, tiny_inputs, tiny_sentiment, same.load_strategy(), split) == ({"max_volatility": 5.0}, 3)


def test_the_better_of_two_is_chosen_not_the_first(
    tiny_run: RunFile, tiny_inputs: Inputs, tiny_sentiment: pd.DataFrame, split: Split
) -> None:
    chosen = {}
    for order in ((0.2, 0.85), (0.85, 0.2)):
        searched = replace(tiny_run, search={"confidence_threshold": order}, parameters={"buy_threshold": 0.2})
        chosen[order], _ = choose(searched, tiny_inputs, tiny_sentiment, searched.load_strategy(), split)
    assert len({frozenset(c.items()) for c in chosen.values()}) == 1


def test_nothing_after_validation_changes_what_is_chosen(
    tiny_run: RunFile, tiny_inputs: Inputs, tiny_sentiment: pd.DataFrame, split: Split
) -> None:
    searched = replace(tiny_run, search={"confidence_threshold": (0.5, 0.85)}, parameters={"buy_threshold": 0.2})
    strategy = searched.load_strategy()
    peeking = replace(split, validation_end=split.test_end)
    honest, peeked = set(), set()
    for seed in range(4):
        inputs, sentiment = with_another_future(tiny_inputs, tiny_sentiment, split.validation_end, seed)
        honest.add(choose(searched, inputs, sentiment, strategy, split)[0]["confidence_threshold"])
        peeked.add(choose(searched, inputs, sentiment, strategy, peeking)[0]["confidence_threshold"])
    assert honest == {choose(searched, tiny_inputs, tiny_sentiment, strategy, split)[0]["confidence_threshold"]}
    assert len(peeked) == 2  # these futures would change the choice, if it saw them


def with_another_future(
    inputs: Inputs, sentiment: pd.DataFrame, since: pd.Timestamp, seed: int
) -> tuple[Inputs, pd.DataFrame]:
    """Inputs and sentiment with other prices and probabilities from an instant on."""
    rng = np.random.default_rng(seed)
    prices, sentiment = inputs.prices.copy(), sentiment.copy()
    later = (prices["time"] > since).to_numpy()
    level = np.exp(np.cumsum(rng.normal(0, 0.05, later.sum())))
    for column in ("open", "high", "low", "close"):
        prices.loc[later, column] *= level
    after = (sentiment["time"] >= since).to_numpy()
    sentiment.loc[after, ["p_negative", "p_neutral", "p_positive"]] = rng.dirichlet([0.2, 0.2, 0.2], int(after.sum()))
    return replace(inputs, prices=prices), sentiment


def test_the_choice_counts_from_the_end_of_validation(tiny_study: Study, split: Split) -> None:
    known = tiny_study.parameters.set_index(["name", "time"])["value"]
    first = tiny_study.parameters["time"].min()
    assert known["buy_threshold", first] == 0.99  # before there is a choice, the value stated first
    assert known["buy_threshold", split.validation_end] == 0.2
    assert known["min_texts", first] == 1.0
    assert tiny_study.summary["chosen"] == {"buy_threshold": 0.2, "sell_threshold": 0.2}
    assert tiny_study.summary["settings_tried"] == 2


# --- the test period -------------------------------------------------------------------------------------------------


def test_the_test_account_starts_flat_with_its_cash(tiny_study: Study, split: Split) -> None:
    result = tiny_study.result
    assert result.equity.index[0] == split.test_start
    assert result.equity.index[-1] == pd.Timestamp("2026-03-06T23:00Z")
    assert tiny_study.decided.signals["open_time"].min() == split.test_start
    first = result.orders["open_time"].min()
    assert first >= split.test_start
    idle = result.equity[result.equity.index < first]
    assert len(idle) == 0 or (idle == 100_000.0).all()
    # Nothing of validation is held: the first order of every symbol opens a position.
    opening = result.orders.groupby("symbol")["weight"].first()
    assert (opening > 0).all()


def test_all_accounts_trade_identical_bars(tiny_study: Study) -> None:
    names = ["words", "opposite", "without the relevance filter", "price features alone", "buy and hold"]
    assert list(tiny_study.curves.columns) == names
    assert [row["name"] for row in tiny_study.summary["comparison"]] == [*names, "random entries, median of 4"]
    assert not tiny_study.curves.isna().any(axis=None)
    assert tiny_study.curves.index.equals(tiny_study.result.equity.index)
    assert tiny_study.curves["words"].equals(tiny_study.result.equity.rename("words"))
    finals = tiny_study.curves.iloc[-1] / 100_000 - 1
    assert [row["net_return"] for row in tiny_study.summary["comparison"][:-1]] == pytest.approx(finals.tolist())
    assert finals.nunique() == len(names)  # five accounts, not one under five names


def test_without_a_split_the_whole_run_is_tested_with_the_stated_values(
    tiny_run: RunFile, tiny_inputs: Inputs, tiny_sentiment: pd.DataFrame
) -> None:
    plain = replace(tiny_run, split=None, search={}, baseline="")
    study = run_study(plain, tiny_inputs, {"words": tiny_sentiment})
    assert len(study.result.equity) == 120
    assert (study.summary["settings_tried"], study.summary["chosen"]) == (1, {})
    assert study.summary["period"]["split"] is None
    assert "price features alone" not in study.curves
    assert "as stated in the run file" in to_text(study.summary)


def test_the_summary_counts_every_row_read(tiny_study: Study, tiny_inputs: Inputs) -> None:
    texts = tiny_study.summary["texts"]
    assert texts["read"] == tiny_inputs.news_counts.read
    assert texts["used"] + sum(texts["dropped"].values()) == texts["read"]
    assert texts["dropped"]["less relevant than min_relevance"] > 0
    for row in texts["relevance"]:
        ours = tiny_inputs.news[tiny_inputs.news["symbol"] == row["symbol"]]
        kept = int((ours["relevance"] >= tiny_study.run.features.min_relevance).sum())
        assert (row["read"], row["kept"], row["dropped"]) == (len(ours), kept, len(ours) - kept)
    assert {row["symbol"] for row in texts["relevance"]} == set(tiny_study.run.symbols)


def test_texts_of_the_period_are_those_first_known_at_its_decisions(tiny_study: Study, tiny_inputs: Inputs) -> None:
    first = tiny_inputs.bars.loc[tiny_inputs.bars["open_time"] < tiny_study.summary["period"]["start"], "time"].iloc[-1]
    relevant = tiny_inputs.news[tiny_inputs.news["relevance"] >= tiny_study.run.features.min_relevance]
    assert not relevant["story"].duplicated().any()  # so that no repeat is left out
    last = tiny_inputs.bars["time"].iloc[-1]
    expected = int(((relevant["time"] > first) & (relevant["time"] <= last)).sum())
    texts = tiny_study.summary["texts"]
    assert 0 < texts["used_in_test"] == expected < texts["used"]


def test_the_summary_counts_every_bar(tiny_study: Study) -> None:
    assert tiny_study.summary["prices"] == {
        "read": 240, "used": 240, "dropped": {}, "bars_missing": 0, "notes": [],
    }  # fmt: skip
    period = tiny_study.summary["period"]
    assert (period["bars"], period["split"]["purge_bars"]) == (63, 9)  # 120 less 48 less 9
    assert period["split"]["validation"] == ["2026-03-02T00:00:00+00:00", "2026-03-04T00:00:00+00:00"]


def test_texts_from_before_the_run_are_not_counted_as_used(
    tiny_run: RunFile, tiny_inputs: Inputs, tiny_sentiment: pd.DataFrame
) -> None:
    late = replace(tiny_run, start="2026-03-03", split=None, search={}, baseline="")
    inputs = read_inputs(late, now=NOW)
    texts = run_study(late, inputs, {"words": tiny_sentiment}).summary["texts"]
    before = int((inputs.news["time"] < inputs.bars["time"].iloc[0]).sum())
    assert texts["dropped"]["known before the first decision"] == before > 0
    assert texts["used"] + sum(texts["dropped"].values()) == texts["read"]


# --- what is said first ----------------------------------------------------------------------------------------------


def test_made_up_data_is_said_first(tiny_study: Study) -> None:
    assert tiny_study.summary["notes"] == ["Simulated data: news and prices are made up."]
    assert "  ! Simulated data" in to_text(tiny_study.summary).splitlines()[1]


@pytest.mark.parametrize(
    ("cut_offs", "what"),
    [
        ({"trained_until": "2026-03-03"}, "the model's training data ends (2026-03-03)"),
        ({"base_cutoff": "2026-04-01"}, "the knowledge of the model's base ends (2026-04-01)"),
    ],
)
def test_a_model_that_may_have_seen_the_period_is_refused_unless_allowed(
    tiny_run: RunFile,
    tiny_inputs: Inputs,
    tiny_sentiment: pd.DataFrame,
    new_model: Callable[..., WordModel],
    cut_offs: dict[str, str],
    what: str,
) -> None:
    models = {"words": new_model(**cut_offs)}
    with pytest.raises(LookaheadError, match="set allow_seen = true"):
        run_study(tiny_run, tiny_inputs, {"words": tiny_sentiment}, models=models)
    assert check_seen(replace(tiny_run, allow_seen=True), models["words"]) == [
        f"Seen data: the run begins 2026-03-02, before {what}."
    ]


def test_the_model_compared_with_is_guarded_too(
    tiny_run: RunFile, tiny_inputs: Inputs, tiny_sentiment: pd.DataFrame, new_model: Callable[..., WordModel]
) -> None:
    with pytest.raises(LookaheadError):
        run_study(
            tiny_run,
            tiny_inputs,
            {"mine": tiny_sentiment, "words": tiny_sentiment},
            models={"words": new_model(trained_until="2026-05-01")},
        )


def test_a_cut_off_at_the_very_start_has_not_seen_it(tiny_run: RunFile, new_model: Callable[..., WordModel]) -> None:
    assert check_seen(tiny_run, new_model(trained_until="2026-03-02", base_cutoff="2026-03-02")) == []
    assert check_seen(tiny_run, None) == []  # scores from a file: not known, which the summary says


def test_zero_latency_and_seen_data_are_notes(
    tiny_run: RunFile, tiny_sentiment: pd.DataFrame, new_model: Callable[..., WordModel]
) -> None:
    rash = replace(tiny_run, latency="0min", split=None, search={}, baseline="", allow_seen=True)
    inputs = read_inputs(rash, now=NOW)
    model = new_model(trained_until="2026-04-01")
    study = run_study(rash, inputs, {"words": tiny_sentiment}, models={"words": model})
    assert [note.split(":")[0] for note in study.summary["notes"]] == ["Simulated data", "Seen data", "Zero latency"]
    assert study.summary["model"] == {
        "name": "words",
        "trained_until": "2026-04-01T00:00:00+00:00",
        "base_cutoff": "2019-01-01T00:00:00+00:00",
        "trained_on": ["a list of words"],
    }


# --- trades and their texts ------------------------------------------------------------------------------------------


def test_each_trade_shows_what_was_known_when_it_was_decided(tiny_study: Study) -> None:
    rows = tiny_study.trade_news
    assert rows.columns.is_unique
    assert set(rows["trade"]) == set(tiny_study.result.trades["trade"])  # this strategy enters on texts alone
    assert (rows["published"] <= rows["known"]).all()
    assert (rows["known"] <= rows["decided"]).all()
    assert (rows["decided"] < rows["filled"]).all()
    assert rows.groupby("trade")["share"].sum().to_numpy() == pytest.approx(1.0)
    trades = tiny_study.result.trades.set_index("trade")
    assert (rows["filled"] == trades.loc[rows["trade"], "entry_time"].array).all()
    assert (rows["symbol"] == trades.loc[rows["trade"], "symbol"].array).all()


def test_the_texts_of_a_trade_say_buy(tiny_study: Study) -> None:
    rows = tiny_study.trade_news
    score = (rows["share"] * (rows["p_positive"] - rows["p_negative"])).groupby(rows["trade"]).sum()
    assert (score >= 0.2 - 1e-9).all()


def test_an_entry_that_had_to_wait_keeps_its_own_decision(
    tiny_run: RunFile, tiny_inputs: Inputs, tiny_study: Study
) -> None:
    trade = tiny_study.result.trades.iloc[0]
    gone = (tiny_inputs.prices["symbol"] == trade["symbol"]) & (tiny_inputs.prices["open_time"] == trade["entry_time"])
    halted = replace(tiny_inputs, prices=tiny_inputs.prices[~gone].reset_index(drop=True))
    study = run_study(
        replace(tiny_run, search={}, parameters={"buy_threshold": 0.2, "sell_threshold": 0.2}, baseline=""),
        halted,
        {"words": tiny_study.sentiment},
    )
    ours = study.trade_news[study.trade_news["symbol"] == trade["symbol"]]
    row = ours[ours["decided"] == trade["entry_time"] - pd.Timedelta(minutes=1)].iloc[0]
    assert row["filled"] == trade["entry_time"] + pd.Timedelta(hours=1)


# --- the run folder --------------------------------------------------------------------------------------------------

FILES = {
    "report.html", "report.json", "summary.json", "settings.json",
    "equity.parquet", "targets.parquet", "orders.parquet",
    "rejected.parquet", "trades.parquet", "features.parquet", "signals.parquet", "weights.parquet", "state.parquet",
    "parameters.parquet", "news.parquet", "sentiment.parquet", "trade_news.parquet", "flows.parquet",
    "attribution.parquet",
    "manifest.json",
}  # fmt: skip


def refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON")


def test_a_run_folder_is_whole_and_replaces_an_older_one(tiny_study: Study, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "tiny"
    assert write_study(tiny_study, folder) == folder
    assert {path.name for path in folder.iterdir()} == FILES
    (folder / "left over").write_text("")
    write_study(tiny_study, folder)
    assert {path.name for path in folder.iterdir()} == FILES
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"), parse_constant=refuse)
    assert summary == json.loads(json.dumps(tiny_study.summary))
    equity = pd.read_parquet(folder / "equity.parquet")
    assert equity["equity"].tolist() == tiny_study.result.equity.tolist()
    assert len(pd.read_parquet(folder / "trade_news.parquet")) == len(tiny_study.trade_news)


def test_a_folder_of_something_else_is_refused(tiny_study: Study, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(SourceError, match="was not written by this command"):
        write_study(tiny_study, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_the_settings_written_give_the_identical_account(
    tiny_study: Study, tiny_run: RunFile, tiny_sentiment: pd.DataFrame, tmp_path: Path
) -> None:
    settings = json.loads((write_study(tiny_study, tmp_path / "run") / "settings.json").read_text(encoding="utf-8"))
    again = to_dataclass(RunFile, {**settings, "path": tiny_run.path}, where="settings.json")
    study = run_study(again, read_inputs(again, now=NOW), {"words": tiny_sentiment})
    assert study.result.equity.equals(tiny_study.result.equity)
    assert study.result.orders.equals(tiny_study.result.orders)


def test_the_summary_fits_a_terminal(tiny_study: Study) -> None:
    lines = to_text(tiny_study.summary).splitlines()
    assert max(len(line) for line in lines) <= WIDTH
    assert lines[0] == "tiny: CANNOT TELL"
    assert lines[-1] == "Not financial advice."
    assert not re.search(r"\bnan\b|\bNone\b", "\n".join(lines))


def test_of_many_symbols_the_terminal_names_a_few_and_those_that_were_silent_longest(tiny_study: Study) -> None:
    symbols = [f"S{n:02d}" for n in range(30)]
    silence = {"start": "2026-03-02", "end": "2026-03-03"}
    silences = [{**silence, "symbol": symbol, "days": 50.0 - n} for n, symbol in enumerate(symbols)]
    period = {**tiny_study.summary["period"], "symbols": symbols}
    texts = {**tiny_study.summary["texts"], "silences": silences}
    text = to_text({**tiny_study.summary, "period": period, "texts": texts})
    assert "S06, S07 and 22 more (24x7)" in " ".join(text.split())
    assert text.count("silent ") == 8
    assert "silent 50.0 days: S00" in text
    assert "22 more symbols: at most 43.0 days" in text


# --- inputs ----------------------------------------------------------------------------------------------------------


def rewrite(folder: Path, old: str, new: str) -> RunFile:
    assert TINY_RUN.count(old) == 1, old
    (folder / "run.toml").write_text(TINY_RUN.replace(old, new), encoding="utf-8")
    return read_run(folder / "run.toml")


def test_news_without_a_symbol_column_is_linked_by_names(tiny_copy: Path) -> None:
    news = pd.read_csv(tiny_copy / "news.csv")
    news.drop(columns="symbol").to_csv(tiny_copy / "news.csv", index=False)
    run = rewrite(tiny_copy, 'symbol = "symbol"\nsource', "source")
    inputs = read_inputs(run, now=NOW)
    named = news["title"].str.contains("Alder|Birch")
    assert len(inputs.news) == named.sum()
    assert inputs.news_counts.dropped["names none of the run's symbols"] == (~named).sum()
    nameless = replace(run, names={})
    with pytest.raises(ConfigError, match=r"\[news\] has no symbol column; state symbol_fixed, or \[names\]"):
        read_inputs(nameless, now=NOW)


def test_a_text_filed_under_two_symbols_is_two_rows_of_which_one_is_ours(tiny_copy: Path, tiny_inputs: Inputs) -> None:
    news = pd.read_csv(tiny_copy / "news.csv")
    pd.concat([news, news[::3].assign(symbol="CCC")]).to_csv(tiny_copy / "news.csv", index=False)
    inputs = read_inputs(read_run(tiny_copy / "run.toml"), now=NOW)
    assert inputs.news.equals(tiny_inputs.news)
    assert inputs.news_counts.dropped == {"filed under other symbols": len(news[::3])}
    assert inputs.news_counts.read == len(inputs.news) + len(news[::3])


def test_a_price_file_of_a_symbol_that_is_not_run_is_a_misspelling(tiny_run: RunFile) -> None:
    run = replace(
        tiny_run, prices=replace(tiny_run.prices, symbol=None), prices_path=("AAA=prices.csv", "BBC=prices.csv")
    )
    with pytest.raises(ConfigError, match=r"named for 'BBC', which symbols does not have\. Did you mean 'BBB'\?"):
        read_inputs(run, now=NOW)


def test_one_file_a_symbol(tiny_copy: Path, tiny_inputs: Inputs) -> None:
    prices = pd.read_csv(tiny_copy / "prices.csv")
    for symbol, rows in prices.groupby("symbol"):
        rows.drop(columns="symbol").to_csv(tiny_copy / f"{symbol}.csv", index=False)
    run = rewrite(tiny_copy, 'symbol = "symbol"\n\n[news]', "\n[news]")
    named = replace(run, prices_path=("AAA=AAA.csv", "BBB=BBB.csv"))
    assert read_inputs(named, now=NOW).prices.equals(tiny_inputs.prices)
    with pytest.raises(ConfigError, match="name files as SYMBOL=file"):
        read_inputs(replace(run, prices_path=("AAA.csv", "BBB.csv")), now=NOW)


def test_a_symbol_without_bars_is_named(tiny_copy: Path) -> None:
    prices = pd.read_csv(tiny_copy / "prices.csv")
    prices[prices["symbol"] == "AAA"].to_csv(tiny_copy / "prices.csv", index=False)
    with pytest.raises(TableError, match="no bar of BBB"):
        read_inputs(read_run(tiny_copy / "run.toml"), now=NOW)


# --- the signal at an instant ----------------------------------------------------------------------------------------


def signal_at(run: RunFile, inputs: Inputs, model: WordModel, now: str | pd.Timestamp, **more: Path) -> list[dict]:
    return make_signal_rows(
        run,
        inputs,
        lambda news: ({"words": score_news(news, model)}, {"words": model}),
        now=pd.Timestamp(now),
        **more,
    )


def test_the_signal_now_is_the_signal_of_the_backtest(
    tiny_study: Study, tiny_run: RunFile, tiny_inputs: Inputs, words: WordModel, tmp_path: Path
) -> None:
    fitted = write_study(tiny_study, tmp_path / "run") / "parameters.parquet"
    signals = tiny_study.decided.signals
    decisions = signals["time"].drop_duplicates().tolist()
    seen = set()
    # At the decision itself, between two decisions, and in the last microsecond before the next.
    for number, late in ((0, "0s"), (7, "30min"), (19, "59min59.999999s"), (33, "1s"), (50, "20min"), (62, "5min")):
        rows = signal_at(tiny_run, tiny_inputs, words, decisions[number] + pd.Timedelta(late), parameters=fitted)
        expected = signals[signals["time"] == decisions[number]]
        assert [row["symbol"] for row in rows] == expected["symbol"].tolist()
        assert [row["signal"] for row in rows] == expected["signal"].tolist()
        for row, score, confidence in zip(rows, expected["score"], expected["confidence"], strict=True):
            assert row["score"] == (None if np.isnan(score) else score)
            assert row["confidence"] == (None if np.isnan(confidence) else confidence)
            assert row["decided"] == decisions[number].isoformat()
        seen |= set(expected["signal"])
    assert "BUY" in seen


def test_every_signal_of_a_day_is_the_same_as_the_backtests(
    tiny_run: RunFile, tiny_inputs: Inputs, tiny_sentiment: pd.DataFrame, words: WordModel
) -> None:
    stated = replace(tiny_run, search={}, parameters={"buy_threshold": 0.2, "sell_threshold": 0.2})
    decided = decide(
        tiny_inputs.news,
        tiny_inputs.prices,
        tiny_sentiment,
        make_flat_state(stated.symbols),
        strategy=stated.load_strategy(),
        parameters=stated.make_parameters(),
        bars=tiny_inputs.bars,
        symbols=stated.symbols,
        news_rules=stated.features,
        weight_rules=stated.weights,
    )
    signals = decided.signals
    for time in tiny_inputs.bars["time"].iloc[40:64:2]:
        rows = signal_at(stated, tiny_inputs, words, time)
        expected = signals[signals["time"] == time]
        assert [row["signal"] for row in rows] == expected["signal"].tolist()
        assert [row["score"] for row in rows] == [None if np.isnan(s) else s for s in expected["score"]]


def test_the_texts_behind_are_those_known_and_the_heaviest_stands_first(
    tiny_run: RunFile, tiny_inputs: Inputs, tiny_sentiment: pd.DataFrame, words: WordModel
) -> None:
    now = tiny_inputs.bars["time"].iloc[60]
    for row in signal_at(tiny_run, tiny_inputs, words, now):
        behind = texts_behind(
            tiny_inputs.news, tiny_sentiment, tiny_inputs.bars, row["symbol"], 60, **text_rules(tiny_run)
        )
        assert row["texts"] == len(row["news"]) == len(behind)
        assert row["sources"] == behind["source"].nunique()
        shares = [text["share"] for text in row["news"]]
        assert shares == sorted(shares, reverse=True)
        assert sum(shares) == pytest.approx(1.0)
        assert all(pd.Timestamp(text["known"]) <= now for text in row["news"])
        assert sum(row["breakdown"].values()) == pytest.approx(1.0)
        score = row["breakdown"]["positive"] - row["breakdown"]["negative"]
        assert row["score"] is None or row["score"] == pytest.approx(score)
    json.dumps(signal_at(tiny_run, tiny_inputs, words, now), allow_nan=False)


def test_without_a_text_the_signal_is_hold_and_nothing_is_invented(
    tiny_run: RunFile, tiny_inputs: Inputs, words: WordModel
) -> None:
    silent = replace(tiny_inputs, news=tiny_inputs.news.iloc[:0])
    for row in signal_at(tiny_run, silent, words, "2026-03-05T10:00Z"):
        assert (row["signal"], row["score"], row["confidence"]) == ("HOLD", None, None)
        assert row["breakdown"] == {"negative": None, "neutral": None, "positive": None}
        assert (row["texts"], row["sources"], row["news"]) == (0, 0, [])


def test_what_comes_after_now_changes_nothing(tiny_run: RunFile, tiny_inputs: Inputs, words: WordModel) -> None:
    now = tiny_inputs.bars["time"].iloc[70]
    cut = replace(
        tiny_inputs,
        news=tiny_inputs.news[tiny_inputs.news["time"] <= now].reset_index(drop=True),
        prices=tiny_inputs.prices[tiny_inputs.prices["time"] <= now].reset_index(drop=True),
    )
    assert signal_at(tiny_run, cut, words, now) == signal_at(tiny_run, tiny_inputs, words, now)


def test_before_the_first_decision_there_is_no_signal(tiny_run: RunFile, tiny_inputs: Inputs, words: WordModel) -> None:
    with pytest.raises(ConfigError, match="the first decision is at 2026-03-01 23:59:00"):
        signal_at(tiny_run, tiny_inputs, words, "2026-03-01T23:58Z")
    assert signal_at(tiny_run, tiny_inputs, words, "2026-03-01T23:59Z")[0]["signal"] == "HOLD"


def test_a_signal_says_that_it_is_simulated_seen_or_old(
    tiny_run: RunFile, tiny_inputs: Inputs, new_model: Callable[..., WordModel]
) -> None:
    allowed = replace(tiny_run, allow_seen=True)
    rows = signal_at(allowed, tiny_inputs, new_model(trained_until="2026-04-01"), "2026-03-09T10:00Z")
    assert [note.split(":")[0] for note in rows[0]["notes"]] == ["Simulated data", "Seen data", "Old", "Not fitted"]
    with pytest.raises(LookaheadError):
        signal_at(tiny_run, tiny_inputs, new_model(trained_until="2026-04-01"), "2026-03-06T10:00Z")


def test_fitted_parameters_that_do_not_fit_are_one_sentence(
    tiny_run: RunFile, tiny_inputs: Inputs, words: WordModel, tmp_path: Path
) -> None:
    table = tiny_run.make_parameters()
    table.assign(name=pd.Series(["min_text"], dtype="str")).to_parquet(tmp_path / "p.parquet", index=False)
    with pytest.raises(ConfigError, match=r"no parameter 'min_text'\. Did you mean 'min_texts'\?"):
        signal_at(tiny_run, tiny_inputs, words, "2026-03-05T10:00Z", parameters=tmp_path / "p.parquet")
    (tmp_path / "text.parquet").write_text("no table")
    for name in ("none.parquet", "text.parquet"):
        with pytest.raises(ConfigError, match="not a table of parameters"):
            signal_at(tiny_run, tiny_inputs, words, "2026-03-05T10:00Z", parameters=tmp_path / name)


def test_the_same_account_by_hand(tiny_study: Study, tiny_run: RunFile) -> None:
    again = run_backtest(
        read_inputs(tiny_run, now=NOW).prices,
        tiny_study.decided.weights,
        bars=tiny_run.make_bars(),
        costs=tiny_run.costs,
        cash=tiny_run.cash,
    )
    assert again.equity.equals(tiny_study.result.equity)


def test_what_the_page_shows_stands_beside_it_as_json(tiny_study: Study, tmp_path: Path) -> None:
    found = json.loads((write_study(tiny_study, tmp_path / "run") / "report.json").read_text(encoding="utf-8"))
    assert found["summary"] == json.loads((tmp_path / "run" / "summary.json").read_text(encoding="utf-8"))
    assert [row["profit"] for row in found["trades"]] == tiny_study.result.trades["profit"].tolist()
    assert sum(len(row["texts"]) for row in found["trades"]) == len(tiny_study.trade_news)
    assert found["equity"]["session"] == sorted(set(found["equity"]["session"]))
    own = next(iter(tiny_study.curves))
    assert found["equity"][own][-1] == tiny_study.result.equity.iloc[-1]
