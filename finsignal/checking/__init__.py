"""Does a run cheat? Its future cut off and replaced by noise, its strategy questioned, its stamps looked at."""

from finsignal.checking.findings import Checked, Finding, Part
from finsignal.checking.guards import GUARDS
from finsignal.checking.whole import FEWEST_BARS, check_run

__all__ = ["FEWEST_BARS", "GUARDS", "Checked", "Finding", "Part", "check_run"]
