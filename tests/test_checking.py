"""`finsignal check`: each part fails for what it is there for, names where, and leaves an honest run alone."""

import builtins
import contextlib
import json
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import NOW, TINY_RUN, Cli, WordModel, make_model

from finsignal import checking
from finsignal.checking import Checked, Finding, Part, check_run
from finsignal.checking import alone as alone_module
from finsignal.checking import searching as searching_module
from finsignal.checking.alone import check_lookback, check_symbols, check_texts
from finsignal.checking.asker import Asker
from finsignal.checking.cutting import check_cutting, decide_world, find_difference, make_settings
from finsignal.checking.fills import check_fills, check_known, tell_stated
from finsignal.checking.searching import check_choosing, make_splits_of
from finsignal.checking.strategy_audit import audit_strategy, check_deeds
from finsignal.checking.worlds import DENSE, World, cut_world, noise_world, pick_instants
from finsignal.cli.checking import to_lines
from finsignal.config import RunFile, read_run
from finsignal.errors import ConfigError, FinsignalError
from finsignal.report.terminal import WIDTH
from finsignal.splits import Split
from finsignal.study import Inputs, Request, Study
from finsignal.study.accounts import run_account
from finsignal.study.request import Read
from finsignal.tables import NEWS, PRICES, SENTIMENT

INSTANT = pd.Timestamp("2026-03-04T12:20", tz="UTC").as_unit("us")
FILE = """
import numpy as np
import pandas as pd

from finsignal import to_signal

{before}


def strategy(features, *, buy_threshold=0.1, sell_threshold=0.1, min_texts=1):
{body}
    score = score.clip(-1, 1)
    return to_signal(score, score.abs(), buy_threshold=0.1, sell_threshold=0.1, confidence_threshold=0.0)
"""


def mark(names: dict, soon: tuple[str, ...]) -> list:
    """Some at every start of the tests; all of them in the slow ones."""
    return [name if name in soon else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.fixture(scope="module")
def world(tiny_inputs: Inputs, tiny_sentiment: pd.DataFrame) -> World:
    return World(tiny_inputs, tiny_sentiment)


@pytest.fixture
def with_strategy(tiny_run: RunFile, tmp_path: Path) -> Callable[..., RunFile]:
    """(body, before) -> the tiny run with a strategy of these lines, before which the others stand."""

    def write(body: str, before: str = "") -> RunFile:
        path = tmp_path / "mine.py"
        lines = "\n".join(f"    {line}" for line in body.splitlines())
        path.write_text(FILE.format(body=lines, before=before), encoding="utf-8")
        return replace(tiny_run, strategy=str(path))

    return write


def check_future(run: RunFile, world: World, instants: int = 4) -> list[Part]:
    stamps = pick_instants(world.inputs.bars, instants, np.random.default_rng(7))
    parts, _ = check_cutting(run, world, stamps, Asker(run), now=NOW, model=make_model(), seed=7)
    return parts


def audit(run: RunFile, world: World) -> tuple[dict[str, Part], Asker]:
    asker, settings = Asker(run), make_settings(run, 120)
    features = decide_world(run, world, settings[:1], Asker(run))[0].features
    parts = audit_strategy(features, settings, asker, seed=7)
    return {part.name: part for part in [*parts, *check_deeds(asker)]}, asker


def failed(parts: dict[str, Part]) -> list[str]:
    return [name for name, part in parts.items() if part.state == "failed"]


# --- other futures ---------------------------------------------------------------------------------------------------


def test_a_cut_leaves_what_was_known_and_nothing_else(world: World) -> None:
    cut = cut_world(world, INSTANT)
    for before, after in (
        (world.inputs.prices, cut.inputs.prices),
        (world.inputs.news, cut.inputs.news),
        (world.sentiment, cut.sentiment),
    ):
        pd.testing.assert_frame_equal(after, before[before["time"] <= INSTANT].reset_index(drop=True))
        assert 0 < len(after) < len(before)
    assert cut.inputs.bars is world.inputs.bars


def test_noise_is_another_future_of_the_same_past(world: World) -> None:
    noise = noise_world(world, INSTANT, np.random.default_rng(1))
    PRICES.check(noise.inputs.prices)
    NEWS.check(noise.inputs.news)
    SENTIMENT.check(noise.sentiment)
    for before, after in (
        (world.inputs.prices, noise.inputs.prices),
        (world.inputs.news, noise.inputs.news),
        (world.sentiment, noise.sentiment),
    ):
        past = [table[table["time"] <= INSTANT].reset_index(drop=True) for table in (before, after)]
        pd.testing.assert_frame_equal(*past)
    prices, others = world.inputs.prices, noise.inputs.prices
    later = (prices["time"] > INSTANT).to_numpy()
    assert (prices.loc[later, "close"].to_numpy() != others.loc[later, "close"].to_numpy()).all()
    # It must not show by its looks, or a cheat could behave while it is looked at.
    spread = [np.diff(np.log(t.loc[later & (t["symbol"] == "AAA"), "close"])).std() for t in (prices, others)]
    assert 0.5 < spread[1] / spread[0] < 2


def test_each_bar_after_the_instant_has_a_text_of_every_symbol(world: World) -> None:
    noise = noise_world(world, INSTANT, np.random.default_rng(1))
    decisions = world.inputs.bars["time"][world.inputs.bars["time"] > INSTANT].head(DENSE)
    for symbol in ("AAA", "BBB"):
        told = noise.inputs.news.loc[noise.inputs.news["symbol"] == symbol, "time"]
        places = set(np.searchsorted(decisions, told[told > INSTANT]))
        assert set(range(DENSE)) <= places
        assert set(noise.inputs.news["article_id"][noise.inputs.news["time"] > INSTANT]) <= set(
            noise.sentiment["article_id"]
        )


def test_instants_are_spread_over_the_grid_and_half_stand_between_decisions(world: World) -> None:
    bars = world.inputs.bars
    found = pick_instants(bars, 6, np.random.default_rng(3))
    assert found == sorted(found)
    on = [stamp in set(bars["time"]) for stamp in found]
    assert sum(on) == 3
    assert found[0] < bars["time"].iloc[len(bars) // 3] < bars["time"].iloc[2 * len(bars) // 3] < found[-1]


def test_settings_are_fewer_where_there_is_much_to_decide(tiny_run: RunFile) -> None:
    run = replace(tiny_run, parameters={}, search={"buy_threshold": (1.0, 2.0, 3.0, 4.0, 5.0)})
    tried = {bars: [values["buy_threshold"] for values in make_settings(run, bars)] for bars in (120, 30_000, 90_000)}
    assert tried == {120: [1.0, 3.0, 5.0], 30_000: [1.0, 5.0], 90_000: [1.0]}
    assert make_settings(replace(run, search={}), 120) == [{}]
    with pytest.raises(ConfigError, match="without a value to try"):
        make_settings(replace(run, search={"buy_threshold": ()}), 120)


# --- cutting ---------------------------------------------------------------------------------------------------------


def test_an_honest_run_decides_the_same_in_every_future(tiny_run: RunFile, world: World) -> None:
    parts = check_future(tiny_run, world)
    assert [part.name for part in parts] == [
        "the future cut off",
        "the future replaced by noise",
        "the files as they were then",
    ]
    assert [part.state for part in parts] == ["passed"] * 3
    assert all(part.compared > 100 for part in parts)


AHEAD = {
    "the next bar's return": "features.groupby('symbol')['ret_1'].shift(-1) * 50",
    "the next bar's news": "features.groupby('symbol')['sent_score'].shift(-1)",
    "a mean of the whole sample": "features['ret_5'] / features['ret_5'].std() / 3",
    "the rank among all bars": "features['ret_5'].rank(pct=True) - 0.5",
    "what fills a gap from behind": "features.groupby('symbol')['sent_score'].bfill()",
}


@pytest.mark.parametrize("what", mark(AHEAD, ("the next bar's return",)))
def test_a_strategy_that_looks_ahead_fails_with_column_symbol_and_instant(
    with_strategy: Callable[..., RunFile], world: World, what: str
) -> None:
    parts = check_future(with_strategy(f"score = {AHEAD[what]}"), world, instants=8)
    found = [finding for part in parts for finding in part.findings]
    assert found
    first = found[0]
    assert first.guard == "check"
    assert first.column in ("score", "confidence", "signal")
    assert first.symbol in ("AAA", "BBB")
    assert first.instant in set(world.inputs.bars["time"])
    assert f"signals.{first.column} of {first.symbol}" in first.said


def test_a_strategy_that_remembers_what_it_saw_has_not_seen_the_future_yet(
    with_strategy: Callable[..., RunFile], world: World
) -> None:
    # Kept in a module, it would outlive a new load; were the whole run asked first, all would be the same after it.
    run = with_strategy(
        "kept = math.__dict__.setdefault('kept_by_test', {})\n"
        "size = features['ret_1'].notna().sum()\n"
        "if size > kept.get('size', 0):\n"
        "    kept.update(size=size, features=features.copy())\n"
        "score = kept['features'].groupby('symbol')['ret_1'].shift(-1) * 50",
        "import math",
    )
    try:
        assert any(part.state == "failed" for part in check_future(run, world))
    finally:
        del math.__dict__["kept_by_test"]


def test_the_first_difference_is_the_earliest_and_nan_equals_nan() -> None:
    times = pd.to_datetime(["2026-01-01", "2026-01-02", "2026-01-01", "2026-01-02"], utc=True).as_unit("us")
    before = pd.DataFrame({"time": times, "symbol": ["A", "A", "B", "B"], "x": [1.0, 2.0, np.nan, 4.0], "y": 0.0})
    assert find_difference(before, before.copy()) is None
    after = before.assign(x=[1.0, 9.0, np.nan, 4.0], y=[0.0, 0.0, 5.0, 0.0])
    found = find_difference(before, after)
    assert found is not None
    assert (found.column, found.symbol, found.instant, found.before, found.after) == ("y", "B", times[0], 0.0, 5.0)
    assert find_difference(before, before.assign(x=[1.0, 9.0, np.nan, 4.0]), times[0]) is None
    shorter = find_difference(before, before.iloc[:3])
    assert shorter is not None
    assert (shorter.column, shorter.symbol, shorter.instant) == ("time", "B", times[1])


def test_features_are_compared_to_the_last_bit_and_sums_of_a_strategy_are_not() -> None:
    times = pd.to_datetime(["2026-01-01"], utc=True).as_unit("us")
    for column, differs in (("ret_1", True), ("score", False)):
        before = pd.DataFrame({"time": times, "symbol": ["A"], column: [0.3]})
        found = find_difference(before, before.assign(**{column: 0.1 + 0.2}))
        assert (found is not None) == differs


# --- settings --------------------------------------------------------------------------------------------------------


def test_settings_are_chosen_again_in_other_futures(tiny_run: RunFile, world: World) -> None:
    part, parameters, decided = check_choosing(tiny_run, world, Asker(tiny_run), seed=7)
    assert part.state == "passed"
    assert part.compared > 20
    assert set(parameters["name"]) == {"buy_threshold", "sell_threshold", "min_texts"}
    assert len(decided.weights)


@pytest.mark.slow
def test_a_choice_that_sees_its_test_fails(tiny_run: RunFile, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    run = replace(tiny_run, search={"confidence_threshold": (0.5, 0.85, 0.95)}, parameters={"buy_threshold": 0.2})
    choose = searching_module.choose_settings

    def peek(run: RunFile, inputs: Inputs, sentiment: pd.DataFrame, strategy: object, splits: object) -> object:
        seen = [replace(split, validation_end=split.test_end) for split in splits]  # type: ignore[attr-defined]
        found = choose(run, inputs, sentiment, strategy, seen)  # type: ignore[arg-type]
        return tuple(
            replace(choice, split=split, known=split.test_start)
            for choice, split in zip(found, splits, strict=True)  # type: ignore[call-overload]
        )

    monkeypatch.setattr(searching_module, "choose_settings", peek)
    parts = [check_choosing(run, world, Asker(run), seed=seed)[0] for seed in range(4)]
    bad = [part for part in parts if part.state == "failed"]
    assert bad  # not every other future changes the choice
    assert {finding.column for part in bad for finding in part.findings} == {"value"}
    assert bad[0].findings[0].symbol == "confidence_threshold"


def test_without_a_search_the_choice_is_told(tiny_run: RunFile, world: World) -> None:
    run = replace(tiny_run, search={}, split=None)
    part, _, _ = check_choosing(run, world, Asker(run), seed=7)
    assert part.state == "told"
    assert make_splits_of(run, world.inputs.bars) == ()


# --- alone -----------------------------------------------------------------------------------------------------------


def test_symbols_texts_and_older_rows_do_not_matter(tiny_run: RunFile, world: World, words: WordModel) -> None:
    settings = make_settings(tiny_run, 120)
    features = decide_world(tiny_run, world, settings[:1], Asker(tiny_run))[0].features
    asker = Asker(tiny_run)
    for part in (
        check_symbols(tiny_run, world, features, settings[0], asker, seed=7),
        check_lookback(tiny_run, world, features, settings[0], asker, seed=7),
        check_texts(tiny_run, world, words, pick_instants(world.inputs.bars, 4, np.random.default_rng(7))),
    ):
        assert part.state == "passed", part
        assert part.compared > 10


def test_a_feature_of_another_symbol_fails(tiny_run: RunFile, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = make_settings(tiny_run, 120)
    features = decide_world(tiny_run, world, settings[:1], Asker(tiny_run))[0].features
    leaking = features.assign(ret_1=features.groupby("time")["ret_1"].transform("mean"))
    part = check_symbols(tiny_run, world, leaking, settings[0], Asker(tiny_run), seed=7)
    assert part.state == "failed"
    assert (part.findings[0].column, part.findings[0].symbol) == ("ret_1", "AAA")


def test_a_lookback_that_is_too_short_fails(tiny_run: RunFile, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = make_settings(tiny_run, 120)
    features = decide_world(tiny_run, world, settings[:1], Asker(tiny_run))[0].features
    whole = alone_module.make_cut

    def make_short(run: RunFile, inputs: Inputs) -> object:
        cut = whole(run, inputs)

        def short(position: int, state: pd.DataFrame) -> object:
            facts = cut(position, state)
            return replace(facts, prices=facts.prices.groupby("symbol").tail(15).reset_index(drop=True))

        return short

    monkeypatch.setattr(alone_module, "make_cut", make_short)
    part = check_lookback(tiny_run, world, features, settings[0], Asker(tiny_run), seed=7)
    assert part.state == "failed"
    assert part.findings[0].column in ("ret_20", "vol_20")


@pytest.mark.slow
def test_a_rank_among_symbols_is_told_and_not_accused(with_strategy: Callable[..., RunFile], world: World) -> None:
    run = with_strategy("score = features.groupby('time')['ret_5'].rank(pct=True) - 0.7")
    features = decide_world(run, world, make_settings(run, 120)[:1], Asker(run))[0].features
    part = check_symbols(run, world, features, {}, Asker(run), seed=7)
    assert part.state == "passed"
    assert "signals hang on the other symbols" in part.said
    assert failed(audit(run, world)[0]) == []


@pytest.mark.slow
def test_a_window_of_earlier_bars_is_told_and_not_accused(with_strategy: Callable[..., RunFile], world: World) -> None:
    run = with_strategy(
        "past = features.groupby('symbol')['ret_5']\n"
        "score = (features['ret_5'] - past.transform(lambda x: x.rolling(30, min_periods=5).mean())) * 20"
    )
    features = decide_world(run, world, make_settings(run, 120)[:1], Asker(run))[0].features
    assert check_lookback(run, world, features, {}, Asker(run), seed=7).state == "told"
    parts, _ = audit(run, world)
    assert failed(parts) == []
    assert "hang on earlier bars" in parts["the strategy and other bars"].said


def test_a_model_that_reads_texts_against_each_other_fails(tiny_run: RunFile, world: World, words: WordModel) -> None:
    class Batch(WordModel):
        def _run(self, cleaned: list[str], *, progress: bool) -> np.ndarray:
            logits = super()._run(cleaned, progress=progress)
            return logits - logits.mean(axis=0)

    batch = Batch(**{name: getattr(words, name) for name in words.__dataclass_fields__})
    stamps = pick_instants(world.inputs.bars, 4, np.random.default_rng(7))
    part = check_texts(tiny_run, world, batch, stamps)
    assert part.state == "failed"
    assert part.findings[0].column == "p_negative"
    assert "hangs on other texts" in part.findings[0].said
    assert check_texts(tiny_run, world, None, stamps).state == "could not be checked"


# --- the strategy questioned -----------------------------------------------------------------------------------------

NEWS_SCORE = "score = features['sent_score'].fillna(0)"
DEEDS = {
    "random numbers": ("score = pd.Series(np.random.default_rng().uniform(-1, 1, len(features)))", "", "asked twice"),
    "a memory": (
        "SEEN.append(len(features))\nscore = features['sent_score'].fillna(0) * (len(SEEN) % 2)",
        "SEEN = []",
        "asked twice",
    ),
    "a date": (f"{NEWS_SCORE}.where(features['time'] < pd.Timestamp('2026-03-05', tz='UTC'), 0.0)", "", "dates"),
    "a look ahead on one day": (
        f"{NEWS_SCORE}\nahead = features.groupby('symbol')['ret_1'].shift(-1) * 50\n"
        "score = score.where(features['time'].dt.day != 5, ahead.fillna(0))",
        "",
        "other bars",
    ),
    "a file": (f"{NEWS_SCORE}\nPath('FOLDER/future.csv').read_text()", "from pathlib import Path", "lies outside"),
    "a file that says it is code": (
        f"{NEWS_SCORE}\nPath('FOLDER/future.py').read_text()",
        "from pathlib import Path",
        "lies outside",
    ),
    "a file while it is loaded": (NEWS_SCORE, "TABLE = pd.read_csv('FOLDER/future.csv')", "lies outside"),
    "a file in the clothes of a package": (
        f"{NEWS_SCORE}\nread = open\nread('FOLDER/site-packages/answers.txt').close()",
        "",
        "lies outside",
    ),
    "a file of shared memory": (f"{NEWS_SCORE}\nos.close(os.open('/dev/shm', 0))", "import os", "lies outside"),
    "a thread that goes on": (
        f"{NEWS_SCORE}\nthreading.Timer(0.2, int).start()",
        "import threading",
        "lies outside",
    ),
    "a table in a module beside it": (
        f"{NEWS_SCORE}\ntable = SourceFileLoader('table', 'FOLDER/table.py').load_module()",
        "from importlib.machinery import SourceFileLoader\nimport warnings\nwarnings.simplefilter('ignore')",
        "the code around it",
    ),
    "a connection": (
        f"{NEWS_SCORE}\nwith contextlib.suppress(OSError):\n    socket.create_connection(('127.0.0.1', 9), 0.1)",
        "import contextlib\nimport socket",
        "lies outside",
    ),
    "the caller's tables": (f"{NEWS_SCORE}\nsys._getframe(1).f_locals", "import sys", "lies outside"),
    "the caller's tables, inspected": (f"{NEWS_SCORE}\ninspect.stack()", "import inspect", "lies outside"),
    "all objects": (f"{NEWS_SCORE}\ngc.get_objects()", "import gc", "lies outside"),
    "code of finsignal": (
        NEWS_SCORE,
        "import finsignal.study.accounts as accounts\naccounts.run_account = lambda *a, **k: None",
        "the code around it",
    ),
    "a method of finsignal": (
        f"{NEWS_SCORE}\nSplit.train = lambda self, bars: bars",
        "from finsignal.splits import Split",
        "the code around it",
    ),
    "a module of finsignal": (
        f"{NEWS_SCORE}\nsys.modules['finsignal.splits'] = types.ModuleType('finsignal.splits')",
        "import sys\nimport types",
        "the code around it",
    ),
    "the code of a function": (
        f"{NEWS_SCORE}\nrun_account.__code__ = (lambda *a, **k: None).__code__",
        "from finsignal.study.accounts import run_account",
        "the code around it",
    ),
    "an answer that does more than stand there": (
        f"{NEWS_SCORE}\nreturn Mine(to_signal(score, score.abs(), buy_threshold=0.1, sell_threshold=0.1,"
        " confidence_threshold=0.0))",
        "class Mine(pd.DataFrame):\n    pass",
        "the code around it",
    ),
    "code of pandas": (
        f"{NEWS_SCORE}\npd.Series.shift = lambda self, *a, **k: self",
        "",
        "the code around it",
    ),
}


SOON = (
    *("random numbers", "a date", "a look ahead on one day", "a file", "the caller's tables", "code of pandas"),
    *("what a class inherits, as it is loaded", "an error as it is asked"),
)


@pytest.mark.parametrize("what", mark(DEEDS, SOON))
def test_what_a_strategy_must_not_hang_on_fails(
    with_strategy: Callable[..., RunFile], world: World, tmp_path: Path, what: str
) -> None:
    (tmp_path / "site-packages").mkdir()
    for name in ("future.csv", "future.py", "site-packages/answers.txt"):
        (tmp_path / name).write_text("x = 1\n", encoding="utf-8")
    (tmp_path / "table.py").write_text(f"T = {list(range(900))}\n", encoding="utf-8")
    body, before, part = (text.replace("FOLDER", str(tmp_path)) for text in DEEDS[what])
    parts, _ = audit(with_strategy(body, before), world)
    (name,) = [name for name in parts if name.endswith(part)]
    assert name in failed(parts), parts[name]
    finding = parts[name].findings[0]
    if part in ("asked twice", "dates", "other bars"):
        assert finding.column in ("score", "confidence", "signal")
        assert finding.symbol in ("AAA", "BBB")
        assert finding.instant in set(world.inputs.bars["time"])
    else:
        assert "mine.py" in finding.said or "table.py" in finding.said


def test_no_frame_above_a_strategy_holds_a_table_of_whoever_asks(
    with_strategy: Callable[..., RunFile], world: World
) -> None:
    # By an error's way back, which raises no event, and is put together from texts that no search for words finds.
    run = with_strategy(
        f"{NEWS_SCORE}\nframe, found = None, []\n"
        "try:\n    raise ValueError\n"
        "except ValueError as err:\n    frame = get('__trace' + 'back__.tb_fr' + 'ame.f_ba' + 'ck')(err)\n"
        "while frame is not None:\n"
        "    for value in list(get('f_lo' + 'cals')(frame).values()):\n"
        "        found.append(getattr(value, 'prices', getattr(getattr(value, 'inputs', None), 'prices', None)))\n"
        "        found.append(value if isinstance(value, pd.DataFrame) and 'close' in value else None)\n"
        "    frame = get('f_ba' + 'ck')(frame)\n"
        "score = score * 0 + any(value is not None for value in found)",
        "from operator import attrgetter as get",
    )
    decided = decide_world(run, world, make_settings(run, 120)[:1], Asker(run))[0]
    assert (decided.signals["score"] == 0).all()


def test_whether_anybody_watches_is_not_to_be_seen_from_the_module(
    with_strategy: Callable[..., RunFile], world: World
) -> None:
    kept = f"{NEWS_SCORE}\nscore = score * 0 + any(isinstance(v, str) and 'mine.py' in v for v in seen())"
    run = with_strategy(
        kept,
        "from finsignal.checking import asker\n\n\ndef seen():\n"
        "    for value in list(vars(asker).values()):\n"
        "        yield value\n        yield from getattr(value, '__dict__', {}).values()",
    )
    decided = decide_world(run, world, make_settings(run, 120)[:1], Asker(run))[0]
    assert (decided.signals["score"] == 0).all()


def take_state() -> dict[str, dict]:
    """Every name of pandas, numpy, finsignal and their classes that a strategy may have replaced or added."""
    owners = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "finsignal"}
    owners |= {"pandas": pd, "numpy": np, "numpy.random": np.random, "builtins": builtins}
    for kind in (pd.DataFrame, pd.Series, pd.Index, Split):
        owners |= {f"class {part.__name__}": part for part in kind.__mro__ if part is not object}
    return {name: dict(vars(owner)) for name, owner in owners.items()}


REPLACES = {
    **{name: DEEDS[name][:2] for name in ("code of pandas", "a method of finsignal", "a module of finsignal")},
    "what a class inherits, as it is loaded": (NEWS_SCORE, "pd.Series.shift = lambda self, *a, **k: self"),
    "a class that others inherit": (NEWS_SCORE, "pd.Series.__mro__[2].equals = lambda self, other: True"),
    "a comparison": (f"{NEWS_SCORE}\npd.Series.__eq__ = lambda self, other: self", ""),
    "an error as it is loaded": ("score = 1", "pd.Series.shift = None\nnp.mean = None\nraise ValueError"),
    "an error as it is asked": ("pd.DataFrame.shift = pd.Series.shift = None\nraise ValueError", ""),
    "an end as it is asked": ("pd.Series.shift = np.log = None\nraise SystemExit(0)", ""),
    "a memory of its own": (f"pd.kept = np.random.kept = 1\n{NEWS_SCORE}", "import builtins\nbuiltins.kept = 1"),
}


@pytest.mark.parametrize("what", mark(REPLACES, SOON))
def test_replaced_code_is_put_back_however_the_question_ends(
    with_strategy: Callable[..., RunFile], world: World, what: str
) -> None:
    run = with_strategy(*REPLACES[what])
    asker, honest = Asker(run), Asker(with_strategy(NEWS_SCORE))
    features = decide_world(honest.run, world, make_settings(run, 120)[:1], honest)[0].features
    run = with_strategy(*REPLACES[what])
    before, code = take_state(), run_account.__code__
    for _ in range(2):
        with contextlib.suppress(FinsignalError):
            asker.ask(features, {})
        after = take_state()
        assert after.keys() == before.keys()
        for name, held in before.items():
            assert [key for key in held.keys() | after[name].keys() if held.get(key) is not after[name].get(key)] == []
    assert run_account.__code__ is code
    assert asker.changed  # of the first question as well: nothing stays that would hide the next


def test_the_day_of_the_week_and_the_hour_are_no_dates(with_strategy: Callable[..., RunFile], world: World) -> None:
    run = with_strategy(
        "score = features['time'].dt.day_of_week.isin([0, 2]) * 0.5 - (features['time'].dt.hour > 12) * 0.2"
    )
    parts, _ = audit(run, world)
    assert {part.state for part in parts.values()} == {"passed"}


def test_a_rule_for_one_symbol_by_name_is_told(with_strategy: Callable[..., RunFile], world: World) -> None:
    parts, _ = audit(with_strategy("score = features['sent_score'].fillna(0) * (features['symbol'] == 'AAA')"), world)
    assert parts["the strategy and names"].state == "told"
    assert failed(parts) == []


@pytest.mark.slow
def test_the_day_of_the_year_is_told(with_strategy: Callable[..., RunFile], world: World) -> None:
    parts, _ = audit(with_strategy("score = (features['time'].dt.day == 5) * 1.0"), world)
    assert parts["the strategy and dates"].state == "told"
    assert failed(parts) == []


def test_what_the_strategy_opens_is_watched_only_while_it_is_asked(
    with_strategy: Callable[..., RunFile], world: World, tmp_path: Path
) -> None:
    (tmp_path / "mine.csv").write_text("x\n", encoding="utf-8")
    _, asker = audit(with_strategy(NEWS_SCORE), world)
    pd.read_csv(tmp_path / "mine.csv")
    assert (asker.opened, asker.imported, asker.changed) == ([], [], [])


# --- orders and what is stated ---------------------------------------------------------------------------------------


def test_orders_and_trades_of_an_honest_run_fit(tiny_run: RunFile, tiny_study: Study, world: World) -> None:
    part = check_fills(tiny_run, world, tiny_study.result)
    assert part.state == "passed"
    assert part.compared > len(tiny_study.result.orders) > 5


def test_an_order_at_another_price_or_in_the_past_fails(tiny_run: RunFile, tiny_study: Study, world: World) -> None:
    result = tiny_study.result
    cheap = replace(result, orders=result.orders.assign(price=result.orders["price"] * 0.999))
    part = check_fills(tiny_run, world, cheap)
    assert (part.state, part.findings[0].kind) == ("failed", "no such price")
    assert part.findings[0].instant == result.orders["open_time"].iloc[0]
    off = replace(result, orders=result.orders.assign(open_time=result.orders["open_time"] - pd.Timedelta("1min")))
    assert check_fills(tiny_run, world, off).findings[0].kind == "early fill"


def test_rows_that_count_as_known_too_early_fail(world: World) -> None:
    assert check_known(world).state == "passed"
    prices, news = world.inputs.prices, world.inputs.news
    hour = pd.Timedelta("1h")
    closes = replace(world.inputs, prices=prices.assign(time=prices["time"] - hour / 60))
    early = check_known(replace(world, inputs=closes))
    assert (early.state, early.findings[0].kind, early.findings[0].symbol) == ("failed", "early bar", "AAA")
    texts = replace(world.inputs, news=news.assign(time=news["published"].where(news.index != 3, news["time"] - hour)))
    early = check_known(replace(world, inputs=texts))
    assert (early.findings[0].kind, early.findings[0].instant) == ("early text", news["time"].iloc[3] - hour)


def test_no_orders_are_nothing_to_check(tiny_run: RunFile, world: World) -> None:
    never = replace(tiny_run, search={}, split=None, parameters={"buy_threshold": 2.0, "sell_threshold": 2.0})
    decided = decide_world(never, world, make_settings(never, 120), Asker(never))[0]
    part = check_fills(never, world, run_account(never, world.inputs, decided.weights))
    assert part.state == "could not be checked"


def test_what_a_run_allows_itself_is_told(tiny_run: RunFile, words: WordModel) -> None:
    free = replace(tiny_run, latency="0s", simulated=False, costs=replace(tiny_run.costs, fee=0.0, slippage=0.0))
    part = tell_stated(free, None)
    assert part.state == "told"
    for words_of in ("zero latency", "no fee and no slippage", "Scores from elsewhere"):
        assert words_of in part.said
    assert tell_stated(replace(tiny_run, simulated=False), words).state == "passed"


def test_a_model_that_has_seen_the_period_fails_unless_the_run_says_so(tiny_run: RunFile) -> None:
    late = make_model(trained_until="2026-03-05")
    assert tell_stated(tiny_run, late).findings[0].kind == "seen data"
    allowed = tell_stated(replace(tiny_run, allow_seen=True), late)
    assert (allowed.state, "training data ends" in allowed.said) == ("told", True)


@pytest.mark.slow
def test_a_look_ahead_of_the_chosen_setting_alone_is_met(tmp_path: Path, world: World, words: WordModel) -> None:
    (tmp_path / "run.toml").write_text(TINY_RUN, encoding="utf-8")
    (tmp_path / "mine.py").write_text(
        FILE.format(
            before="",
            body="    score = features['sent_score'] * 0\n    if min_texts == 3:\n"
            "        score = features.groupby('symbol')['ret_1'].shift(-1).fillna(0) * 50",
        ),
        encoding="utf-8",
    )
    # Of five values the check decides with the first, third and last; the fourth is chosen, for it alone trades.
    search = {"min_texts": (0.0, 1.0, 2.0, 3.0, 4.0)}
    run = replace(read_run(tmp_path / "run.toml"), strategy="mine.py", search=search)
    assert 3.0 not in [values["min_texts"] for values in make_settings(run, 120)]
    found = check_run(make_read(run, world, words), instants=2)
    assert "the strategy and other bars" in {part.name for part in found.parts if part.state == "failed"}


# --- whole -----------------------------------------------------------------------------------------------------------


def make_read(run: RunFile, world: World, words: WordModel) -> Read:
    return Read(Request(run, NOW), {}, world.inputs, {"words": world.sentiment}, {"words": words}, ())


@pytest.fixture(scope="module")
def checked(tiny_run: RunFile, tiny_inputs: Inputs, tiny_sentiment: pd.DataFrame, words: WordModel) -> Checked:
    return check_run(make_read(tiny_run, World(tiny_inputs, tiny_sentiment), words), instants=2)


def test_the_tiny_run_does_not_cheat(checked: Checked) -> None:
    assert checked.findings == ()
    assert not [part for part in checked.parts if part.state == "failed"]
    assert len({part.name for part in checked.parts}) == len(checked.parts) > 15


@pytest.mark.slow
def test_the_same_seed_finds_the_same(checked: Checked, tiny_run: RunFile, world: World, words: WordModel) -> None:
    assert check_run(make_read(tiny_run, world, words), instants=2) == checked


@pytest.mark.parametrize("instants", [0, -1, 120])
def test_instants_that_the_grid_has_no_room_for_are_refused(
    tiny_run: RunFile, world: World, words: WordModel, instants: int
) -> None:
    with pytest.raises(ConfigError, match=rf"check: {instants} instants in 120 bars"):
        check_run(make_read(tiny_run, world, words), instants=instants)


def test_check_on_the_command_line_says_that_nothing_cheats(
    run_cli: Cli, tiny: Path, checked: Checked, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, int, int]] = []

    def check(read: Read, *, instants: int, seed: int, progress: bool) -> Checked:
        asked.append((read.request.run.name, instants, seed))
        return checked

    monkeypatch.setattr(checking, "check_run", check)
    code, out, _ = run_cli("check", tiny / "run.toml", "--instants", 2, "--seed", 5)
    assert asked == [("tiny", 2, 5)]
    assert code == 0
    assert out.startswith("tiny: no part of ")
    assert "passed       the future cut off: 1 instants" in out
    assert "Not detected" in out
    assert max(map(len, out.splitlines())) <= WIDTH


@pytest.mark.slow
def test_check_on_the_command_line_names_what_cheats_and_ends_with_one(run_cli: Cli, tiny_copy: Path) -> None:
    text = (tiny_copy / "run.toml").read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if line.startswith("strategy ="))
    (tiny_copy / "run.toml").write_text(text.replace(line, "strategy = 'cheat.py'"), encoding="utf-8")
    body = "    score = features.groupby('symbol')['ret_1'].shift(-1) * 50"
    (tiny_copy / "cheat.py").write_text(FILE.format(body=body, before=""), encoding="utf-8")
    code, out, _ = run_cli("check", tiny_copy / "run.toml", "--instants", 2, "--json")
    found = json.loads(out)
    assert (code, found["cheats"]) == (1, True)
    assert found["findings"][0]["column"] in ("score", "confidence", "signal")
    assert found["findings"][0]["symbol"] in ("AAA", "BBB")
    assert pd.Timestamp(found["findings"][0]["instant"]).tzinfo is not None


def test_what_cheats_is_said_first_and_hostile_text_stays_on_its_line() -> None:
    said = "With the future cut off, signals.score of A\x1b[2J\nB is 1 instead of 2. " * 3
    finding = Finding("cut", "the future cut off", "score", "A\nB", INSTANT, said)
    parts = (
        Part("the future cut off", "failed", 3, "3 compared", (finding,)),
        Part("each text alone", "could not be checked", 0, "no model"),
    )
    lines = to_lines("mine", Checked((finding,), parts)).splitlines()
    assert lines[0] == "mine: cheats, by 1 of 2 parts (the future cut off)."
    assert lines[2].startswith("! With the future cut off, signals.score of A")
    assert "FAILED       the future cut off: 3 compared" in lines
    assert "not checked  each text alone: no model" in lines
    assert max(map(len, lines)) <= WIDTH
    assert "\x1b" not in "".join(lines)
    assert to_lines("mine", Checked((), parts[1:])).startswith("mine: no part of 1 says that it cheats; 1 could not be")


def test_the_guards_are_shown_without_a_run_file(run_cli: Cli) -> None:
    code, out, _ = run_cli("check", "--guards")
    assert code == 0
    assert "cannot be detected" in out


def test_a_run_file_that_is_not_there_is_one_sentence(run_cli: Cli, tmp_path: Path) -> None:
    code, out, err = run_cli("check", tmp_path / "none.toml")
    assert (code, out) == (1, "")
    assert "no such run file" in err
