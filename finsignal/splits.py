"""Time splits: instants at which bars, news and labels are cut alike."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from finsignal.errors import ConfigError


@dataclass(frozen=True)
class Split:
    """Validation is [validation_start, validation_end), test is [test_start, test_end); the bars between are unused."""

    validation_start: pd.Timestamp
    validation_end: pd.Timestamp
    test_start: pd.Timestamp
    test_end: pd.Timestamp
    purge: int  # bars between validation and test

    def validation(self, bars: pd.DataFrame) -> pd.DataFrame:
        """The bars that open in the validation period."""
        return _between(bars, self.validation_start, self.validation_end)

    def test(self, bars: pd.DataFrame) -> pd.DataFrame:
        """The bars that open in the test period."""
        return _between(bars, self.test_start, self.test_end)


def make_split(bars: pd.DataFrame, *, validation_until: pd.Timestamp, holding: int, max_age: int) -> Split:
    """One cut in time: bars that open before `validation_until` choose the settings, later ones report.

    Between the two, `holding + max_age` bars are left out: so long can a position or a text of the validation period
    reach. The first test bar thus shares neither with it.

    Raises ConfigError where either side is left without bars.
    """
    purge = holding + max_age
    opens = bars["open_time"]
    before = int((opens < validation_until).sum())
    if before == 0:
        raise ConfigError(f"split: no bar opens before {validation_until}; the run begins {opens.iloc[0]}.")
    if before + purge >= len(bars):
        raise ConfigError(
            f"split: {len(bars)} bars less {before} for validation and {purge} purged (holding {holding} + max_age "
            f"{max_age}) leave none to test. Let validation end earlier, or the run later."
        )
    return Split(
        validation_start=opens.iloc[0],
        validation_end=opens.iloc[before],
        test_start=opens.iloc[before + purge],
        test_end=bars["close_time"].iloc[-1],
        purge=purge,
    )


def _between(bars: pd.DataFrame, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
    inside = (bars["open_time"] >= start) & (bars["open_time"] < end)
    return bars[inside].reset_index(drop=True)
