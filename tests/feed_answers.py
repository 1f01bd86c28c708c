"""Feeds as servers send them, made from rows: RSS 2.0, RSS 1.0 and Atom."""

from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape, quoteattr

import pandas as pd
from replay_server import Answer

Row = Mapping[str, str]  # id, title, text, url, published and updated; all but the title may be missing


def to_stamp(at: str) -> str:
    """An instant as RSS 2.0 writes it: "Fri, 20 Nov 2026 15:30:00 GMT"."""
    return pd.Timestamp(at).tz_convert("UTC").strftime("%a, %d %b %Y %H:%M:%S GMT")


def to_rss(rows: Sequence[Row]) -> str:
    """RSS 2.0. `published` stands as it is given."""
    tags = {"id": "guid", "title": "title", "text": "description", "url": "link", "published": "pubDate"}
    items = "".join(f"<item>{_elements(row, tags)}</item>" for row in rows)
    return (
        f'<?xml version="1.0" encoding="utf-8"?><rss version="2.0"><channel><title>Wire</title>{items}</channel></rss>'
    )


def to_rss1(rows: Sequence[Row]) -> str:
    """RSS 1.0, which is RDF; the identifier is an attribute, the stamp is of Dublin Core."""
    tags = {"title": "title", "text": "description", "url": "link", "published": "dc:date"}
    items = "".join(f"<item rdf:about={quoteattr(row['id'])}>{_elements(row, tags)}</item>" for row in rows)
    return (
        '<?xml version="1.0"?><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"'
        ' xmlns="http://purl.org/rss/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f"<channel><title>Wire</title></channel>{items}</rdf:RDF>"
    )


def to_atom(rows: Sequence[Row]) -> str:
    """Atom 1.0."""
    tags = {"id": "id", "title": "title", "text": "summary", "published": "published", "updated": "updated"}
    items = "".join(
        f"<entry>{_elements(row, tags)}<link href={quoteattr(row.get('url', ''))}/></entry>" for row in rows
    )
    return f'<?xml version="1.0" encoding="utf-8"?><feed xmlns="http://www.w3.org/2005/Atom"><title>W</title>{items}</feed>'


def to_feed_answer(text: str, **headers: str) -> Answer:
    """The feed as a server's answer."""
    return Answer(text.encode(), 200, {"Content-Type": "application/xml; charset=utf-8", **headers})


def _elements(row: Row, tags: Mapping[str, str]) -> str:
    return "".join(f"<{tag}>{escape(row[key])}</{tag}>" for key, tag in tags.items() if row.get(key))
