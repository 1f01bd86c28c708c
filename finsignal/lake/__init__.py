"""An append-only store of prices, articles, links and scores, which can say what was known at any past instant."""

from finsignal.lake.appending import append, seal
from finsignal.lake.contracts import FETCHES, KEPT, SCORES
from finsignal.lake.coverage import make_lake_status
from finsignal.lake.knowing import as_of, read_articles, read_dividends, read_links, read_scores, to_digest
from finsignal.lake.store import Lake, open_lake

__all__ = [
    "FETCHES",
    "KEPT",
    "SCORES",
    "Lake",
    "append",
    "as_of",
    "make_lake_status",
    "open_lake",
    "read_articles",
    "read_dividends",
    "read_links",
    "read_scores",
    "seal",
    "to_digest",
]
