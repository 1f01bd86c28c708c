"""A market of companies that do not exist, with a news effect of known size planted in it, or with none.

The proof that the rest of the library can find what is there, and does not find what is not. Run as a module it writes
the bundled sample: `python -m finsignal.simulate --out data/sample`.
"""

from finsignal.simulate.markets import Market, make_market, make_oracle_sentiment
from finsignal.simulate.moving import Effect, Regimes
from finsignal.simulate.sample import SAMPLE_SYMBOLS, main, make_index, make_sample, write_sample
from finsignal.simulate.small import SmallMarket, make_small_market

__all__ = [
    "SAMPLE_SYMBOLS",
    "Effect",
    "Market",
    "Regimes",
    "SmallMarket",
    "main",
    "make_index",
    "make_market",
    "make_oracle_sentiment",
    "make_sample",
    "make_small_market",
    "write_sample",
]
