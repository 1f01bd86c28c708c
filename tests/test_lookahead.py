"""What is decided at an instant never depends on what came after it: over the whole path, with the model in it.

From files to weights: the rows of the files that were not yet known at an instant are cut off, or replaced by noise,
and everything decided up to that instant must be the same, bit for bit.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import REPO

from finsignal.config import ALWAYS, RunFile, read_run, to_parameters
from finsignal.sentiment.score import Model, load_model, score_news
from finsignal.signals import Decided, Limits, decide, make_flat_state
from finsignal.study import read_inputs

NOW = pd.Timestamp("2026-01-01", tz="UTC").as_unit("us")
SAMPLE = REPO / "data" / "sample"
Future = Callable[[pd.DataFrame, np.random.Generator], pd.DataFrame]  # what becomes of the rows not yet known


@dataclass
class Remembering:
    """The model that ships, asked once for each text."""

    model: Model = field(default_factory=load_model)
    memory: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def target_aware(self) -> bool:
        return self.model.target_aware

    def predict_proba(
        self, texts: Iterable[str], targets: Iterable[str] | None = None, *, progress: bool = False
    ) -> np.ndarray:
        texts = list(texts)
        pairs = list(zip(texts, list(targets) if targets is not None else [""] * len(texts), strict=True))
        new = [pair for pair in dict.fromkeys(pairs) if pair not in self.memory]
        found = self.model.predict_proba([text for text, _ in new], [target for _, target in new])
        self.memory.update(zip(new, found, strict=True))
        return np.array([self.memory[pair] for pair in pairs]).reshape(len(texts), 3)


@dataclass(frozen=True)
class World:
    """A run and the raw rows of its two files, with the instant from which each row was known."""

    run: RunFile
    prices: pd.DataFrame
    news: pd.DataFrame
    prices_known: pd.Series
    news_known: pd.Series
    write_prices: Callable[[pd.DataFrame, Path], None]


@pytest.fixture(scope="module")
def model() -> Remembering:
    return Remembering()


def state_values(run: RunFile, **changes: float) -> RunFile:
    """The run without a search, on the first of the values it would try."""
    first = {name: values[0] for name, values in run.search.items()}
    return replace(run, search={}, split=None, baseline="", parameters={**run.parameters, **first, **changes})


def write_plain(frame: pd.DataFrame, path: Path) -> None:
    frame.to_csv(path, index=False)


def sample_world(folder: Path, *, end: str, strategy: Path | None = None) -> World:
    prices = pd.read_csv(SAMPLE / "prices.csv", dtype="str", keep_default_na=False)
    news = pd.read_csv(SAMPLE / "news.csv", dtype="str", keep_default_na=False)
    prices, news = prices[prices["time"] < end], news[news["published"] < end]
    run = read_run(
        REPO / "strategies" / "news_sentiment.toml",
        end=end,
        prices_path=[str(folder / "prices.csv")],
        news_path=str(folder / "news.csv"),
        strategy=str(strategy) if strategy else None,
    )
    run = state_values(run) if strategy is None else replace(run, search={}, split=None, baseline="", parameters={})
    return World(
        run=run,
        prices=prices,
        news=news,
        # A bar of the sample is known when it ends: an hour after its open, or less where the session's close cuts it,
        # and in neither case is there a decision in between.
        prices_known=pd.to_datetime(prices["time"], utc=True) + pd.Timedelta(hours=1),
        # The end of the second, and a minute until it could be had.
        news_known=pd.to_datetime(news["published"], utc=True) + pd.Timedelta(seconds=61),
        write_prices=write_plain,
    )


def decide_files(world: World, folder: Path, model: Remembering) -> Decided:
    """The whole path: files, inputs, model, features, strategy, weights."""
    inputs = read_inputs(world.run, now=NOW)
    return decide(
        inputs.news,
        inputs.prices,
        score_news(inputs.news, model, names=world.run.names),  # type: ignore[arg-type]
        make_flat_state(world.run.symbols),
        strategy=world.run.load_strategy(),
        parameters=to_parameters(world.run.parameters, known=ALWAYS),
        bars=inputs.bars,
        symbols=world.run.symbols,
        news_rules=world.run.features,
        weight_rules=world.run.weights,
        limits=Limits(stale_prices=0, silent_news=3),
    )


def cut(rows: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return rows.iloc[:0]


def noise(rows: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Other prices, other texts about others, and a third of the rows gone; the stamps, which stand first, stay."""
    rows = rows[rng.random(len(rows)) > 1 / 3].copy()
    names = {name.lower(): name for name in rows.columns}
    if "close" not in names:
        for name in rows.columns[1:]:
            rows[name] = rng.permutation(rows[name].to_numpy(dtype=object))
        return rows
    level = rng.uniform(1, 500, len(rows))
    for name, factor in (("open", 1.0), ("close", 1.01), ("high", 1.2), ("low", 0.8)):
        rows[names[name]] = (level * factor).astype(str)
    rows[names["volume"]] = rng.integers(1, 10**7, len(rows)).astype(str)
    return rows


def differing_past(
    world: World, folder: Path, model: Remembering, instants: Sequence[pd.Timestamp], future: Future
) -> tuple[int, int]:
    """(rows of features, signals and weights up to each instant that differ in another future, rows compared)."""
    rng = np.random.default_rng(11)

    def run(prices: pd.DataFrame, news: pd.DataFrame) -> Decided:
        world.write_prices(prices, folder / "prices.csv")
        write_plain(news, folder / "news.csv")
        return decide_files(world, folder, model)

    whole = run(world.prices, world.news)
    assert (whole.signals["signal"] != "HOLD").sum() > 10, "nothing is decided, so nothing is checked"
    assert whole.signals["reason"].nunique() > 10, "nothing is too old, so no reason is checked"
    differing = compared = 0
    for instant in instants:
        parts = []
        for rows, known in ((world.prices, world.prices_known), (world.news, world.news_known)):
            later = (known > instant).to_numpy()
            assert later.any()
            parts.append(pd.concat([rows[~later], future(rows[later], rng)]))
        other = run(*parts)
        for name in ("features", "signals", "weights"):
            before, after = getattr(whole, name), getattr(other, name)
            past = (before["time"] <= instant).to_numpy()
            assert after["time"].equals(before["time"])
            left, right = before[past], after[past]
            equal = (left == right) | (left.isna() & right.isna())
            differing += int((~equal).any(axis=1).sum())
            compared += int(past.sum())
    return differing, compared


def at(*stamps: str) -> list[pd.Timestamp]:
    return [pd.Timestamp(stamp, tz="UTC") for stamp in stamps]


# At a decision, within a bar, over a night and over a weekend.
FEW = at("2024-01-12T15:29", "2024-01-18T17:00:30", "2024-01-28T12:00")


@pytest.mark.parametrize("future", [cut, noise])
def test_six_weeks_of_the_sample_decide_the_same_whatever_comes(
    tmp_path: Path, model: Remembering, future: Future
) -> None:
    world = sample_world(tmp_path, end="2024-02-13")
    differing, compared = differing_past(world, tmp_path, model, FEW, future)
    assert differing == 0
    assert compared > 3 * 3 * 5 * 50  # three tables, three instants, five symbols


def test_the_noise_is_another_future(tmp_path: Path, model: Remembering) -> None:
    # Without this, a noise that changes no decision would prove nothing.
    world = sample_world(tmp_path, end="2024-02-13")
    instant, rng, signals = FEW[0], np.random.default_rng(11), []
    for future in (lambda rows, rng: rows, noise):
        for name, rows, known in (
            ("prices.csv", world.prices, world.prices_known),
            ("news.csv", world.news, world.news_known),
        ):
            later = (known > instant).to_numpy()
            write_plain(pd.concat([rows[~later], future(rows[later], rng)]), tmp_path / name)
        signals.append(decide_files(world, tmp_path, model).signals)
    after = (signals[0]["time"] > instant).to_numpy()
    assert (signals[0].loc[after, "signal"] != signals[1].loc[after, "signal"]).sum() > 20


CHEATS = {
    "a statistic of the whole sample": "features['sent_score'] - features['sent_score'].mean()",
    "the next bar's return": "features.groupby('symbol')['ret_1'].shift(-1) * 50",
    "the rank among all bars": "features['ret_5'].rank(pct=True) - 0.5",
}


@pytest.mark.parametrize("cheat", CHEATS)
@pytest.mark.parametrize("future", [cut, noise])
def test_the_check_fails_for_a_strategy_that_looks_ahead(
    tmp_path: Path, model: Remembering, cheat: str, future: Future
) -> None:
    (tmp_path / "cheat.py").write_text(
        "from finsignal import to_signal\n\n\n"
        "def strategy(features):\n"
        f"    score = ({CHEATS[cheat]}).clip(-1, 1)\n"
        "    limits = dict(buy_threshold=0.1, sell_threshold=0.1, confidence_threshold=0.0)\n"
        "    return to_signal(score, score.abs(), **limits)\n",
        encoding="utf-8",
    )
    world = sample_world(tmp_path, end="2024-02-13", strategy=tmp_path / "cheat.py")
    differing, _ = differing_past(world, tmp_path, model, FEW[:1], future)
    assert differing > 0


@pytest.mark.slow
@pytest.mark.parametrize("future", [cut, noise])
def test_the_whole_sample_decides_the_same_whatever_comes(tmp_path: Path, model: Remembering, future: Future) -> None:
    world = sample_world(tmp_path, end="2025-01-01")
    rng = np.random.default_rng(3)
    start, length = pd.Timestamp("2024-01-10", tz="UTC"), 350 * 86_400
    instants = [start + pd.Timedelta(seconds=int(s)) for s in np.sort(rng.integers(0, length, 8))]
    assert differing_past(world, tmp_path, model, instants, future)[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize("future", [cut, noise])
def test_a_slice_of_apple_decides_the_same_whatever_comes(
    tmp_path: Path, shared: Path, model: Remembering, future: Future
) -> None:
    files = shared / "apple_hourly"
    start, end = "2024-03-04", "2024-05-01"
    lines = (files / "AAPL_1h_ohlcv.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    names = lines[0].strip().split(",")
    prices = pd.DataFrame([line.strip().split(",") for line in lines[3:]], columns=names)
    prices = prices[(prices["Price"] >= start) & (prices["Price"] < end)]
    news = pd.read_csv(files / "massive_news_basic.csv", dtype="str", keep_default_na=False)
    news = news[(news["news_time"] >= start) & (news["news_time"] < end) & (news["description"] != "")]

    def write_prices(frame: pd.DataFrame, path: Path) -> None:
        # The run file leaves out the last row, which may be of an open bar: one row more stands for it.
        rows = [",".join(row) for row in [*frame.to_numpy().tolist(), ["2025-11-19 20:30:00+00:00", *"11111"]]]
        path.write_text("".join(lines[:3]) + "\n".join(rows) + "\n", encoding="utf-8")

    run = read_run(
        REPO / "strategies" / "apple_hourly.toml",
        start=start,
        end=end,
        prices_path=[str(tmp_path / "prices.csv")],
        news_path=str(tmp_path / "news.csv"),
    )
    world = World(
        run=state_values(run),
        prices=prices,
        news=news,
        prices_known=pd.to_datetime(prices["Price"], utc=True) + pd.Timedelta(hours=1),
        news_known=pd.to_datetime(news["news_time"], utc=True, format="ISO8601") + pd.Timedelta(seconds=61),
        write_prices=write_prices,
    )
    instants = at("2024-03-12T14:29", "2024-03-28T20:30", "2024-04-06T09:00", "2024-04-15T17:29:30", "2024-04-29T13:30")
    differing, compared = differing_past(world, tmp_path, model, instants, future)
    assert differing == 0
    assert compared > 500
