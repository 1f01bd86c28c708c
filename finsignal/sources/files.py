"""Prices, news and scores from files of your own: a layout says every column, zone and stamp; nothing is guessed.

The functions stand in the modules that this one gathers: one import place for a run, which needs most of them.
"""

from finsignal.sources.grid import check_on_grid
from finsignal.sources.news_files import NewsLayout, read_news
from finsignal.sources.price_files import PriceLayout, read_prices
from finsignal.sources.relevance import count_relevance, join_news, longest_silences, make_links, score_relevance
from finsignal.sources.rows import Counts
from finsignal.sources.score_files import SentimentLayout, read_sentiment

__all__ = [
    "Counts",
    "NewsLayout",
    "PriceLayout",
    "SentimentLayout",
    "check_on_grid",
    "count_relevance",
    "join_news",
    "longest_silences",
    "make_links",
    "read_news",
    "read_prices",
    "read_sentiment",
    "score_relevance",
]
