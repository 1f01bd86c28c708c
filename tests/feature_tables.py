"""Small tables of bars, news and sentiment, and the check that features do not see the future."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from finsignal.tables import BARS, INSTANT, NEWS, SENTIMENT

HOUR, MINUTE = pd.Timedelta(hours=1), pd.Timedelta(minutes=1)
START = pd.Timestamp("2024-03-04", tz="UTC")


def make_grid(opens: pd.DatetimeIndex | int) -> pd.DataFrame:
    """Hourly bars that decide a minute before they open."""
    if isinstance(opens, int):
        opens = pd.date_range(START, periods=opens, freq="1h")
    return BARS.to_table(
        pd.DataFrame(
            {"open_time": opens, "close_time": opens + HOUR, "time": opens - MINUTE, "session": opens.strftime("%F")}
        )
    )


def make_texts(rows: list[dict]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """News and sentiment of rows with `at` (hours after START) and `p`; the rest has defaults."""
    full = [
        {"id": f"t{n:04d}", "symbol": "A", "relevance": 1.0, "source": "wire", "story": f"s{n}"} | row
        for n, row in enumerate(rows)
    ]
    frame = pd.DataFrame(full)
    at = pd.Series([START + pd.Timedelta(hours=h) for h in frame["at"]], dtype=INSTANT)
    news = NEWS.to_table(
        pd.DataFrame(
            {
                "article_id": frame["id"],
                "published": at - MINUTE,
                "first_seen": pd.Series(pd.NaT, index=at.index, dtype=INSTANT),
                "recorded": pd.Series(pd.NaT, index=at.index, dtype=INSTANT),
                "time": at,
                "title": "title",
                "text": "text",
                "source": frame["source"],
                "url": "",
                "story": frame["story"],
                "symbol": frame["symbol"],
                "relevance": frame["relevance"],
            }
        )
    )
    p = np.array(frame["p"].tolist(), dtype=float)
    sentiment = SENTIMENT.to_table(
        pd.DataFrame(
            {
                "article_id": frame["id"],
                "time": at,
                "symbol": frame["symbol"],
                "p_negative": p[:, 0],
                "p_neutral": p[:, 1],
                "p_positive": p[:, 2],
                "model": "fake",
            }
        )
    )
    return news, sentiment


def random_texts(seed: int, size: int, hours: int, symbols: tuple[str, ...] = ("A", "B")) -> list[dict]:
    rng = np.random.default_rng(seed)
    return [
        {
            "at": float(rng.uniform(-2, hours)),
            "p": rng.dirichlet([1, 1, 1]),
            "symbol": str(rng.choice(symbols)),
            "relevance": float(rng.uniform(0, 1)),
            "source": str(rng.choice(["wire", "blog"])),
            "story": f"s{rng.integers(size // 2)}",
        }
        for _ in range(size)
    ]


def of(features: pd.DataFrame, column: str, symbol: str = "A") -> np.ndarray:
    return features.loc[features["symbol"] == symbol, column].to_numpy()


def truncated_equals(
    function: Callable[[pd.DataFrame], pd.DataFrame],
    table: pd.DataFrame,
    noise: Callable[[pd.DataFrame, pd.Series], pd.DataFrame],
    cut: pd.Timestamp,
) -> bool:
    """Whether rows decided by `cut` are the same bits with the future cut off, and with it replaced by noise."""
    full = function(table)
    past = full[full["time"] <= cut].reset_index(drop=True)
    for changed in (table[table["time"] <= cut].reset_index(drop=True), noise(table, table["time"] > cut)):
        again = function(changed)
        if not past.equals(again[again["time"] <= cut].reset_index(drop=True)):
            return False
    return True
