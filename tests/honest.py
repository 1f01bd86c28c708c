"""Honest strategies: each decides from its rows alone, in one of the ways that people do. None may be accused."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from cheats import by_body, by_score, make_prices, read_world, to_bars, write_world
from conftest import REPO

from finsignal.study.request import Read

STRATEGIES = REPO / "strategies"
BY_SYMBOL = "features.groupby('symbol')"
BY_TIME = "features.groupby('time')"


def with_strategy(text: str, *, days: int = 10) -> Callable[[Path], Read]:
    return lambda folder: read_world(write_world(folder, text, days=days))


def from_repository(name: str) -> Callable[[Path], Read]:
    """One of the strategies of the repository, with thresholds that every one of them has."""

    def plant(folder: Path) -> Read:
        text = (STRATEGIES / f"{name}.py").read_text(encoding="utf-8")
        return read_world(write_world(folder, text))

    return plant


SECTORS = {"AAA": "a", "BBB": "a", "CCC": "b"} | {f"S{n:03d}": f"sector {n % 10}" for n in range(90)}


def plant_noisy_opens(folder: Path) -> Read:
    """Opens that are off by as much as the market moves, as where little is traded."""
    prices = make_prices(30)
    noise = np.exp(np.random.default_rng(2).normal(0, 0.012, len(prices)))
    return read_world(write_world(folder, prices=to_bars(prices.assign(open=prices["open"] * noise)), days=30))


HONEST: dict[str, Callable[[Path], Read]] = {
    "news": from_repository("news_sentiment"),
    "news that prices confirm": from_repository("news_momentum"),
    "news that went too far": from_repository("news_reversal"),
    "symbols ranked by their news": from_repository("cross_sectional"),
    "news on crowded futures": from_repository("crypto_news"),
    "price features": from_repository("price_features"),
    "momentum": with_strategy(by_score("features['ret_20'] * 20")),
    "reversal": with_strategy(by_score("-features['ret_1'] * 50")),
    "an index of strength": with_strategy(by_score("(50 - features['rsi_14']) / 50")),
    "bands": with_strategy(by_score("(0.5 - features['bollinger_20'])")),
    "the return's rank at its instant": with_strategy(by_score(f"{BY_TIME}['ret_5'].rank(pct=True) - 0.5")),
    "more than the mean of all at its instant": with_strategy(
        by_score(f"(features['ret_5'] - {BY_TIME}['ret_5'].transform('mean')) * 40")
    ),
    "Mondays": with_strategy(by_score("(features['open_time'].dt.day_of_week == 0).astype(float)")),
    "the morning": with_strategy(by_score("features['open_time'].dt.hour.between(6, 9).astype(float)")),
    "March": with_strategy(by_score("(features['open_time'].dt.month == 3).astype(float)")),
    "the turn of the month": with_strategy(by_score("(features['open_time'].dt.day <= 3).astype(float)")),
    "always long": with_strategy(by_body("score = pd.Series(1.0, index=features.index)")),
    "never": with_strategy(by_body("score = pd.Series(0.0, index=features.index)")),
    "a score against its own last twenty": with_strategy(
        by_body(
            f"""
mean = {BY_SYMBOL}['ret_1'].transform(lambda r: r.rolling(20).mean())
score = (features['ret_1'] - mean) / {BY_SYMBOL}['ret_1'].transform(lambda r: r.rolling(20).std()) / 3
"""
        )
    ),
    "a score against all that was before": with_strategy(
        by_score(f"(features['ret_5'] - {BY_SYMBOL}['ret_5'].transform(lambda r: r.expanding(20).median())) * 30")
    ),
    "smoothed news": with_strategy(
        by_score(f"{BY_SYMBOL}['sent_score'].transform(lambda s: s.fillna(0).ewm(halflife=4).mean())")
    ),
    "yesterday's news": with_strategy(by_score(f"{BY_SYMBOL}['sent_score'].shift(5)")),
    "new news alone": with_strategy(by_score("features['sent_score'].where(features['sent_novelty'] > 0.9)")),
    "news in quiet times": with_strategy(
        by_score(
            f"features['sent_score'].where(features['vol_20'] < {BY_SYMBOL}['vol_20'].transform("
            "lambda v: v.rolling(50, min_periods=10).median()))"
        )
    ),
    "a threshold at the very score that texts have": with_strategy(
        by_score("features['sent_score'].where(features['sent_score'].abs() >= 0.88)")
    ),
    "news in high volume": with_strategy(by_score("features['sent_score'].where(features['volume_ratio_20'] > 1.1)")),
    "one symbol leads another": with_strategy(by_score(f"{BY_TIME}['ret_1'].transform('first') * 40")),
    "every fifth bar": with_strategy(by_score(f"features['sent_score'].where({BY_SYMBOL}.cumcount() % 5 == 0)")),
    "a loop that waits after each signal": with_strategy(
        by_body(
            """
score = pd.Series(0.0, index=features.index)
for _, rows in features.groupby('symbol'):
    wait = 0
    for n, value in rows['sent_score'].fillna(0).items():
        wait = max(wait - 1, 0)
        if abs(value) > 0.5 and wait == 0:
            score[n], wait = value, 6
"""
        )
    ),
    "weights stated in the file": with_strategy(
        by_body(
            """
parts = pd.DataFrame({name: features[name].fillna(0) * weight for name, weight in WEIGHTS.items()})
score = parts.sum(axis=1)
""",
            before="WEIGHTS = {'ret_1': -12.5, 'ret_5': 3.25, 'ret_20': 1.5, 'sent_score': 0.4, 'gap': -2.0}",
        )
    ),
    "the hours of the exchange": with_strategy(
        by_body(
            """
clock = features['open_time'].dt.time
score = features['sent_score'].where((clock >= datetime.time(9, 30)) & (clock < datetime.time(16)))
""",
            before="import datetime\nimport math\nimport sys\n\nTINY = sys.float_info.epsilon * math.pi",
        )
    ),
    "out before the market is closed for long": with_strategy(
        by_body(
            f"""
ahead = {BY_SYMBOL}['open_time'].shift(-1) - features['open_time']
score = features['sent_score'].where(~(ahead > pd.Timedelta(hours=2)))
"""
        )
    ),
    "the last bar of each day": with_strategy(
        by_body(
            """
day = features['open_time'].dt.date
last = features.groupby(['symbol', day])['open_time'].transform('max') == features['open_time']
score = features['sent_score'].where(last | (features['sent_count'].astype(int) > 1))
"""
        )
    ),
    "news against the mean of its sector": with_strategy(
        by_body(
            """
sector = features['symbol'].map(SECTORS).fillna('other')
score = features['sent_score'] - features.groupby(['time', sector])['sent_score'].transform('mean')
""",
            before=f"SECTORS = {SECTORS}",
        )
    ),
    "a new choice every 22 bars": with_strategy(
        by_body(
            f"""
score = features['ret_20'].where({BY_SYMBOL}.cumcount() % 22 == 0) * 30
score = score.groupby(features['symbol']).ffill()
"""
        )
    ),
    "a class with a method named load": with_strategy(
        by_body(
            "score = features['sent_score'] * Model().load()",
            before="MODE = 'abort'\n\n\nclass Model:\n    def load(self):\n        return 0.9",
        )
    ),
    "thin names with noisy opens": plant_noisy_opens,
    "symbols that its author prefers": with_strategy(
        by_score("features['sent_score'].where(features['symbol'].isin(['AAA', 'BBB']))")
    ),
}
