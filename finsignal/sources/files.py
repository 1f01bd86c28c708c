"""Prices, news and scores from files of your own: a layout says every column, zone and stamp; nothing is guessed."""

from finsignal.sources.grid import check_on_grid
from finsignal.sources.news_files import NewsLayout, read_news
from finsignal.sources.price_files import PriceLayout, read_prices
from finsignal.sources.rows import Counts
from finsignal.sources.score_files import SentimentLayout, read_sentiment

__all__ = [
    "Counts",
    "NewsLayout",
    "PriceLayout",
    "SentimentLayout",
    "check_on_grid",
    "read_news",
    "read_prices",
    "read_sentiment",
]
