"""News from RSS and Atom feeds, read as if whoever wrote them meant harm."""

from __future__ import annotations

import base64
import html
import http.client
import io
import re
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit
from xml.parsers import expat

import pandas as pd

from finsignal.errors import ConfigError, SourceError
from finsignal.sources.capture import to_items
from finsignal.sources.feed_stamps import read_stamp
from finsignal.sources.news_files import to_digest
from finsignal.sources.rows import check_now
from finsignal.sources.service import PassingFaultError, check_status, redact, retry

CHUNK = 65_536  # bytes read at once
ELEMENT_LIMIT = 100_000  # of one feed; ten megabytes could hold millions, a gigabyte in memory
DEPTH_LIMIT = 200
_ROOTS = ("rss", "rdf", "feed")
_DECLARED = re.compile(rb"""^\s*<\?xml[^>]{0,200}?encoding\s*=\s*["']([A-Za-z0-9._-]{1,40})["']""")
_DECLARATION = re.compile(r"^\s*<\?xml[^>]*\?>")
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([A-Za-z0-9._-]{1,40})", re.IGNORECASE)
# Python knows more encodings than feeds do, among them some that are slow on purpose-made text.
_ENCODING = re.compile(r"utf|us-?ascii|iso|latin|windows|cp\d|koi8|shift|sjis|euc|gb|big5|mac", re.IGNORECASE)
_LOOSE = re.compile(r"&(?!#\d{1,7};|#x[0-9a-fA-F]{1,6};|(?:amp|lt|gt|quot|apos);)(?:([a-zA-Z][a-zA-Z0-9]{1,31});)?")
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


def fetch_feed(
    url: str,
    *,
    name: str,
    now: pd.Timestamp,
    about: str = "",
    tz: str | None = None,
    precision: str = "second",
    timeout: float = 30.0,
    limit_bytes: int = 10_000_000,
    sleep: Callable[[float], None] = time.sleep,
) -> pd.DataFrame:
    """The items of an RSS or Atom feed, as `capture.ITEMS`, in its order; for `capture.to_articles`.

    `name` stands before the items' identifiers. `about` is the symbol of all items, "*" for news of the market as a
    whole, or "" where symbols are looked for in the words. An item's text is its summary, else its content. Where it
    says when it was updated, that is its stamp if later: the words at hand are not older. `tz` is the zone of stamps
    that carry none; `precision` is what stamps with seconds are exact to ("second", "minute", "hour", "date").

    `timeout` is in seconds, for each wait; the whole answer may take ten times that. A busy server is asked again, see
    `service.retry`; `sleep` waits in between. No more than `limit_bytes` are read, before or after decompression.
    Addresses in the table have no secrets in them; only those of http and https are kept. `attrs["notes"]` says what
    was mended: an encoding other than declared, characters that XML does not have.

    Raises SourceError, with the feed's name and no secret, where it cannot be had, is longer, declares entities, is no
    whole XML, is no feed, or has a stamp without zone while `tz` is None; ConfigError for an address that is not of
    http or https. A feed without items gives an empty table.
    """
    check_now(now)
    where = f"feed {name}"
    _check_url(url, where=where)
    body, headers = retry(
        lambda: _download(url, where=where, timeout=timeout, limit_bytes=limit_bytes),
        source=where,
        subject=redact(url),
        sleep=sleep,
    )
    text, notes = _to_xml(body, headers, where=where)
    rows = [
        _to_row(entry, where=f"{where}, item {number}", url=url, tz=tz, precision=precision)
        for number, entry in enumerate(_entries(text, where=where), start=1)
    ]
    items = to_items([{**row, "symbols": (about,) if about else ()} for row in rows], feed=name)
    items.attrs["notes"] = tuple(f"{where}: {note}" for note in notes)
    return items


def _check_url(url: str, *, where: str) -> None:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not url.isascii() or not url.isprintable() or " " in url:
        raise ConfigError(f"{where}: the url must be a whole address of http or https, without spaces or accents.")


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        # urllib itself would follow to ftp, and tell the address in its error
        if urlsplit(newurl).scheme not in ("http", "https"):
            fp.close()
            raise SourceError("was sent on to an address that is not of http or https; look at its url.")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _download(url: str, *, where: str, timeout: float, limit_bytes: int) -> tuple[bytes, Mapping[str, str]]:
    """The body, decompressed, and the headers. Causes are left out of errors that could quote the address."""
    parts = urlsplit(url)
    bare = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, parts.query, ""))
    wanted = "application/rss+xml, application/atom+xml, application/xml;q=0.9, */*;q=0.5"
    headers = {"User-Agent": "finsignal", "Accept": wanted, "Accept-Encoding": "gzip"}
    request = urllib.request.Request(bare, headers=headers)
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        # unredirected: another host must not get the password
        request.add_unredirected_header("Authorization", "Basic " + base64.b64encode(pair.encode()).decode())
    try:
        with urllib.request.build_opener(_Redirects).open(request, timeout=timeout) as answer:
            chunks = _unpacked(_chunks(answer, timeout=timeout), answer.headers.get("Content-Encoding", ""))
            body = bytearray()
            for chunk in chunks:
                body += chunk
                if len(body) > limit_bytes:
                    raise SourceError(f"holds more than {limit_bytes} bytes; it was not read. Look at what it sends.")
            return bytes(body), dict(answer.headers)
    except SourceError as err:
        raise SourceError(f"{where}: {err}") from None
    except urllib.error.HTTPError as err:
        with err:
            check_status(err.code, dict(err.headers))
        raise SourceError(f"{where}: answered {err.code} for {redact(url)}; look at its url.") from None
    except (urllib.error.URLError, http.client.HTTPException, OSError, zlib.error) as err:
        reason = getattr(err, "reason", None) or err
        what = reason.strerror if isinstance(reason, OSError) and reason.strerror else type(reason).__name__
        raise PassingFaultError(f"no whole answer ({what})") from None


def _chunks(answer: Any, *, timeout: float) -> Iterator[bytes]:
    promised = answer.headers.get("Content-Length", "")
    deadline = time.monotonic() + 10 * timeout
    got = 0
    while chunk := answer.read1(CHUNK):
        got += len(chunk)
        yield chunk
        if time.monotonic() > deadline:
            raise PassingFaultError(f"no whole answer in {10 * timeout:g} seconds")
    # read and read1 with a size return what came before a cut as if it were all
    if promised.isdigit() and got < int(promised):
        raise PassingFaultError(f"the connection was cut after {got} of {promised} bytes")


def _unpacked(chunks: Iterator[bytes], coding: str) -> Iterator[bytes]:
    """The chunks decompressed, never more than a chunk at a time: a thousandth can stand for the whole."""
    if coding.strip().lower() in ("", "identity"):
        yield from chunks
        return
    if coding.strip().lower() not in ("gzip", "x-gzip", "deflate"):
        raise SourceError(f"came packed as {coding[:20]!r}, expected gzip or nothing; look for another address of it.")
    unpack = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    for chunk in chunks:
        while chunk and not unpack.eof:
            yield unpack.decompress(chunk, CHUNK)
            chunk = unpack.unconsumed_tail
        if unpack.eof:  # what a server sends after the end would be gathered in memory
            return
    raise PassingFaultError("the packed answer has no end")


def _to_xml(body: bytes, headers: Mapping[str, str], *, where: str) -> tuple[str, list[str]]:
    """The feed as XML text that was read through once, and what had to be mended for that."""
    if not body.strip():
        raise SourceError(f"{where}: the answer is empty; expected RSS or Atom.")
    text, notes = _decode(body, headers)
    try:
        _check_xml(text, where=where)
    except expat.ExpatError as err:
        mended = _NOT_XML.sub(" ", _LOOSE.sub(_mend, text))
        try:
            _check_xml(mended, where=where)
        except expat.ExpatError:
            kind = headers.get("Content-Type", "none stated")[:60]
            raise SourceError(
                f"{where}: is not whole XML ({expat.ErrorString(err.code)}, line {err.lineno}; type {kind!r}, "
                f"{len(body)} bytes); expected RSS or Atom. Look at its url."
            ) from err
        return mended, [*notes, "stray characters that XML does not allow were read as text."]
    return text, notes


def _decode(body: bytes, headers: Mapping[str, str]) -> tuple[str, list[str]]:
    """The text: as its byte order mark says, else the HTTP header, else itself, else UTF-8, else Windows-1252."""
    types = [value for key, value in headers.items() if key.lower() == "content-type"]
    stated = [*_CHARSET.findall(" ".join(types)), *(found.decode() for found in _DECLARED.findall(body))]
    marks = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
    marked = [encoding for mark, encoding in marks.items() if body.startswith(mark)]
    known = [encoding for encoding in stated if _ENCODING.match(encoding)]
    for encoding in [*marked, *known, "utf-8"]:
        try:
            text = body.decode(encoding)
        except (LookupError, UnicodeError):
            continue
        break
    else:
        encoding = "windows-1252"
        text = body.decode(encoding, "replace")
    as_stated = marked or encoding == (stated[0] if stated else "utf-8")
    notes = [] if as_stated else [f"says it is {stated[0] if stated else 'utf-8'}, but was read as {encoding}."]
    return _DECLARATION.sub("", text.removeprefix("\ufeff")), notes


def _mend(found: re.Match[str]) -> str:
    """What "&" that opens no entity of XML was meant for: an entity of HTML, or itself."""
    meant = html.unescape(found[0]) if found[1] else "&"
    return html.escape(meant)


def _check_xml(text: str, *, where: str) -> None:
    """Nothing. Raises SourceError for declared entities, too many elements, or no feed; ExpatError for broken XML."""
    depth = count = 0

    def open_doctype(_: str, __: str | None, ___: str | None, declares: int) -> None:
        if declares:
            refuse_entity()

    def refuse_entity(*_: Any) -> None:
        raise SourceError(f"{where}: declares XML entities, which can fill the memory or name files; it was not read.")

    def open_element(tag: str, _: Any) -> None:
        nonlocal depth, count
        root = tag.rpartition(" ")[2]  # without its namespace
        if count == 0 and root.lower() not in _ROOTS:
            raise SourceError(
                f"{where}: is XML of another kind (<{root[:40]}>); expected RSS or Atom. Look at its url."
            )
        depth, count = depth + 1, count + 1
        if depth > DEPTH_LIMIT or count > ELEMENT_LIMIT:
            raise SourceError(
                f"{where}: has more than {ELEMENT_LIMIT} elements, or {DEPTH_LIMIT} in one another; it was not read."
            )

    def close_element(_: str) -> None:
        nonlocal depth
        depth -= 1

    # With namespaces, as feedparser reads: what it cannot read strictly it would guess at, which can take minutes.
    parser = expat.ParserCreate("utf-8", " ")
    parser.StartDoctypeDeclHandler = open_doctype
    parser.EntityDeclHandler = refuse_entity
    parser.StartElementHandler = open_element
    parser.EndElementHandler = close_element
    parser.Parse(text.encode("utf-8", "replace"), True)


def _entries(text: str, *, where: str) -> list[Any]:
    import feedparser

    # As bytes in a stream: a string that looks like an address or a path would be opened. Its own cleaning of HTML is
    # left out, for it can be made to take minutes; capture makes plain text of everything.
    found = feedparser.parse(
        io.BytesIO(text.encode("utf-8", "replace")),
        response_headers={"content-type": "application/xml; charset=utf-8"},
        resolve_relative_uris=False,
        sanitize_html=False,
    )
    if found.bozo:
        raise SourceError(f"{where}: could not be read ({type(found.bozo_exception).__name__}); expected RSS or Atom.")
    return list(found.entries)


def _to_row(entry: Any, *, where: str, url: str, tz: str | None, precision: str) -> dict[str, Any]:
    # dict.get: feedparser's own invents "updated" from "published", with a warning
    words = {key: str(dict.get(entry, key) or "") for key in ("title", "summary", "link", "id")}
    content = [str(part.get("value") or "") for part in dict.get(entry, "content") or ()]
    stamps = [str(dict.get(entry, key) or "") for key in ("published", "updated")]
    read = [read_stamp(stamp, where=where, tz=tz, precision=precision) for stamp in stamps]
    published, until = max(
        ((at, end) for at, end in read if at is not None), key=lambda pair: pair[0], default=(None,) * 2
    )
    try:
        link = redact(urljoin(url, words["link"].strip())) if words["link"].strip() else ""
    except ValueError:  # such as an unclosed bracket
        link = ""
    return {
        "id": _without_secrets(words["id"].strip()) or link,
        "published": published,
        "until": until,
        "title": words["title"],
        "text": words["summary"] or next(iter(content), ""),
        "source": str((dict.get(entry, "source") or {}).get("title") or ""),
        "url": link if link.startswith(("http://", "https://")) else "",
    }


def _without_secrets(identifier: str) -> str:
    """The identifier; an address that holds a secret loses it, and has a digest that tells it from others instead."""
    whole, mark, fragment = identifier.partition("#")
    struck = redact(whole)
    kept = mark + fragment if fragment and "=" not in fragment else ""
    return (whole if struck == whole else f"{struck}~{to_digest(whole)}") + kept
