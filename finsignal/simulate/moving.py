"""How simulated prices move: noise, stretches that are calm or stormy, a drift, and what the news adds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from finsignal.errors import ConfigError
from finsignal.tables import PRICES, to_integers


@dataclass(frozen=True)
class Effect:
    """What one good story does to the log price of its company, and one bad story with the opposite sign.

    size: the whole of it. It comes between open and close of `bars` bars, the first of them `delay` bars after the
    first that could be traded on the story: in equal parts, or with a `half_life`, counted in bars, in parts that
    halve in so many. true_share: of the good and bad stories the share that moves anything; the others only say so.
    """

    size: float
    bars: int
    delay: int = 0
    half_life: float | None = None
    true_share: float = 1.0

    def __post_init__(self) -> None:
        if not (self.bars >= 1 and self.delay >= 0 and 0 <= self.true_share <= 1) or not np.isfinite(self.size):
            raise ConfigError(
                "simulate: expected an effect that is finite, effect_bars >= 1, delay >= 0, true_share in 0 to 1; got "
                f"{self.size}, {self.bars}, {self.delay}, {self.true_share}."
            )
        if self.half_life is not None and not 0 < self.half_life < float("inf"):
            raise ConfigError(f"simulate: half_life is {self.half_life} bars; expected more than 0, or None.")

    @property
    def parts(self) -> np.ndarray:
        """What share of it comes in each of its bars."""
        if self.half_life is None:
            return np.full(self.bars, 1 / self.bars)
        parts = 0.5 ** (np.arange(self.bars) / self.half_life)
        return parts / parts.sum()


@dataclass(frozen=True)
class Regimes:
    """Stretches that all companies have together: calm or stormy, and apart from that bull or bear.

    bars: the mean length of a stretch; each bar ends it with the same chance. calm, stormy: what the volatility is
    multiplied with. bull, bear: log return that each bar has on top, whatever the news says.
    """

    bars: float = 60.0
    calm: float = 0.6
    stormy: float = 1.6
    bull: float = 0.0
    bear: float = 0.0

    def __post_init__(self) -> None:
        if not (self.bars >= 1 and 0 <= self.calm <= self.stormy < float("inf")):
            raise ConfigError(
                f"simulate: regimes last 1 bar or more and 0 <= calm <= stormy; got {self.bars}, {self.calm}, "
                f"{self.stormy}."
            )
        if not (np.isfinite(self.bull) and np.isfinite(self.bear)):
            raise ConfigError(f"simulate: bull and bear are log returns a bar, got {self.bull} and {self.bear}.")


def draw_stretches(rng: np.random.Generator, regimes: Regimes | None, drift: float, bars: int) -> pd.DataFrame:
    """Of each bar: storm (whether it is stormy), bull, volatility (a multiple) and drift (log return)."""
    if not -1 < drift < float("inf"):
        raise ConfigError(f"simulate: drift is a simple return a bar, above -1; got {drift}.")
    base = np.log1p(drift)
    if regimes is None:
        return pd.DataFrame({"storm": False, "bull": True, "volatility": 1.0, "drift": base}, index=range(bars))
    # Two states that change at every bar with chance 1 / bars: their number of changes is odd or even.
    turns = rng.random((2, bars)) < 1 / regimes.bars
    turns[:, 0] = rng.random(2) < 0.5
    storm, bull = turns.cumsum(axis=1) % 2 == 1
    return pd.DataFrame(
        {
            "storm": storm,
            "bull": bull,
            "volatility": np.where(storm, regimes.stormy, regimes.calm),
            "drift": base + np.where(bull, regimes.bull, regimes.bear),
        }
    )


@dataclass(frozen=True)
class Noise:
    """All of the prices that no story has a part in: log returns over the gap before each bar and inside it.

    gap, inside and volume have the shape (symbols, bars), wick (2, symbols, bars), start (symbols, 1) in logs.
    """

    gap: np.ndarray
    inside: np.ndarray
    start: np.ndarray
    wick: np.ndarray
    volume: np.ndarray


def draw_noise(
    rng: np.random.Generator,
    symbols: int,
    bars: pd.DataFrame,
    stretches: pd.DataFrame,
    volatility: float,
    common: float,
) -> Noise:
    """The noise of a market whose expected simple return of a bar is its drift, and 0 over a gap."""
    shape = (symbols, len(bars))
    opens, closes = to_integers(bars["open_time"]), to_integers(bars["close_time"])
    scale = volatility * stretches["volatility"].to_numpy()
    jump = np.r_[0.0, np.where(opens[1:] > closes[:-1], 1.5, 0.1)] * scale

    def draw(size: np.ndarray) -> np.ndarray:
        """Log returns of mean simple return 0: half the variance is taken off."""
        z = np.sqrt(common) * rng.standard_normal(shape[1]) + np.sqrt(1 - common) * rng.standard_normal(shape)
        return size * z - np.square(size) / 2

    gap, inside = draw(jump), draw(scale)
    start = np.log(rng.uniform(40, 160, (symbols, 1)))
    wick = scale * np.abs(rng.standard_normal((2, *shape))) / 2
    volume = np.floor(np.exp(rng.normal(11, 0.5, shape)))
    return Noise(gap, inside + stretches["drift"].to_numpy(), start, wick, volume)


def make_prices(
    noise: Noise,
    names: Sequence[str],
    bars: pd.DataFrame,
    code: np.ndarray,
    first: np.ndarray,
    size: np.ndarray,
    effect: Effect,
) -> pd.DataFrame:
    """PRICES of the noise and of what each story adds: of the symbol `code`, known before bar `first`, and its size."""
    count = noise.inside.shape[1]
    moved = np.zeros((len(names), count + 1))  # the last column takes what would come after the grid
    for k, part in enumerate(effect.parts):
        np.add.at(moved, (code, np.minimum(first + effect.delay + k, count)), size * part)
    inside = noise.inside + moved[:, :-1]
    close = noise.start + (noise.gap + inside).cumsum(axis=1)
    open_ = close - inside
    frame = pd.DataFrame(
        {
            "open_time": pd.concat([bars["open_time"]] * len(names), ignore_index=True),
            "time": pd.concat([bars["close_time"]] * len(names), ignore_index=True),
            "symbol": pd.Series(np.repeat(np.array(names, dtype=object), count), dtype="str"),
            "open": np.exp(open_).ravel(),
            "high": np.exp(np.maximum(open_, close) + noise.wick[0]).ravel(),
            "low": np.exp(np.minimum(open_, close) - noise.wick[1]).ravel(),
            "close": np.exp(close).ravel(),
            "volume": noise.volume.ravel(),
        }
    )
    return PRICES.to_table(frame)
