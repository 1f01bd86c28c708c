"""Does a run cheat? Its future cut off and replaced by noise, its strategy asked twice, its stamps looked at."""

from finsignal.checking.findings import Finding, Part

__all__ = ["Finding", "Part"]
