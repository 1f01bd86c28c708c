"""RSS and Atom as servers send them, with the faults of servers and of those who mean harm."""

import gzip
import io
import json
import os
import socket
import traceback
import tracemalloc
from collections.abc import Callable
from typing import Any

import feedparser
import pandas as pd
import pytest
from feed_answers import to_atom, to_feed_answer, to_rss, to_rss1, to_stamp
from replay_server import Answer, Request, serve

from finsignal.errors import ConfigError, FinsignalError, SourceError
from finsignal.sources.capture import ITEMS, to_articles
from finsignal.sources.feed_stamps import read_stamp
from finsignal.sources.feeds import fetch_feed
from finsignal.tables import ARTICLES

NOW = pd.Timestamp("2026-11-20T12:00Z")
ROW = {
    "id": "item-1",
    "title": "Apple & Co <b>beats</b>",
    "text": "<p>One.</p><script>steal()</script><p>Two.</p>",
    "url": "https://news.invalid/1?page=2",
    "published": "2026-11-20T11:30:00Z",
}
RSS_ROW = {**ROW, "published": to_stamp(ROW["published"])}


def fetch(
    answer: Answer | str | Callable[[Request], Answer],
    *,
    path: str = "/feed.xml",
    waits: list | None = None,
    **options: Any,
) -> pd.DataFrame:
    def give(request: Request) -> Answer:
        if isinstance(answer, str):
            return to_feed_answer(answer)
        return answer if isinstance(answer, Answer) else answer(request)

    sleep = (lambda _: None) if waits is None else waits.append
    with serve(give) as server:
        return fetch_feed(server.url + path, **{"name": "wire", "now": NOW, "sleep": sleep, "timeout": 5.0} | options)


def error_of(answer: Any, **options: Any) -> str:
    with pytest.raises(SourceError) as caught:
        fetch(answer, **options)
    assert "wire" in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("text", [to_rss([RSS_ROW]), to_rss1([ROW]), to_atom([ROW])], ids=["rss", "rss1", "atom"])
def test_rss_and_atom_give_the_same_items(text):
    items = fetch(text)
    ITEMS.check(items)
    row = items.iloc[0]
    assert row["id"] == "wire:item-1"
    assert row["published"] == pd.Timestamp(ROW["published"])
    assert row["until"] is pd.NaT
    assert (row["url"], row["source"], row["symbols"]) == (ROW["url"], "wire", ())
    articles, links, _ = to_articles(
        items, now=NOW, polled=None, known=ARTICLES.empty(), latency=pd.Timedelta(0), names={"AAPL": ["Apple"]}
    )
    assert articles["title"].tolist() == ["Apple & Co beats"]
    assert articles["text"].tolist() == ["One. Two."]
    assert links["symbol"].tolist() == ["AAPL"]


def test_a_feed_is_about_the_market_or_one_symbol_if_so_told():
    assert fetch(to_rss([RSS_ROW]), about="*")["symbols"].tolist() == [("*",)]
    assert fetch(to_rss([RSS_ROW]), about="AAPL")["symbols"].tolist() == [("AAPL",)]


def test_what_an_item_lacks_is_made_up_for():
    rows = [
        {"title": "No identifier", "url": "/relative"},
        {"title": "Nothing but words"},
        {"title": "No words of address"},
    ]
    items = fetch(to_rss(rows))
    assert items["id"].is_unique
    assert items["published"].isna().all()
    assert items["url"].iloc[0].endswith("/relative")
    assert items["url"].iloc[0].startswith("http://127.0.0.1")
    assert items["url"].iloc[1] == ""
    atom = to_atom([ROW]).replace("summary>", "content>")
    assert "Two." in fetch(atom)["text"].iloc[0]


def test_an_item_that_was_updated_has_the_stamp_of_its_words():
    items = fetch(to_atom([{**ROW, "updated": "2026-11-20T11:45:00Z"}, {**ROW, "updated": "2026-11-20T09:00:00Z"}]))
    assert items["published"].dt.strftime("%H:%M").tolist() == ["11:45", "11:30"]


def test_only_addresses_of_the_web_are_kept():
    rows = [
        {**RSS_ROW, "url": url}
        for url in ("javascript:alert(1)", "data:text/html,x", "file:///etc/passwd", "http://[x")
    ]
    assert fetch(to_rss(rows))["url"].tolist() == ["", "", "", ""]


def test_a_feed_without_items_is_truly_nothing():
    for text in (to_rss([]), to_atom([]), to_rss1([])):
        items = fetch(text)
        ITEMS.check(items)
        assert items.empty


def test_busy_servers_are_asked_again_after_the_time_they_ask_for():
    answers = iter(
        [Answer(status=429, headers={"Retry-After": "7"}), Answer(status=500), to_feed_answer(to_rss([RSS_ROW]))]
    )
    waits: list[float] = []
    assert len(fetch(lambda _: next(answers), waits=waits)) == 1
    assert waits == [7.0, 2.0]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(status=429), r"rate limited \(429\) after 5 tries"),
        (Answer(status=500), r"server error \(500\) after 5 tries"),
        (Answer(to_rss([RSS_ROW]).encode(), cut=100), r"connection was cut after 100 of \d+ bytes after 5 tries"),
        (Answer(status=404), "answered 404"),
        (Answer(status=401), "answered 401"),
    ],
)
def test_a_server_that_stays_faulty_is_an_error(answer, said):
    waits: list[float] = []
    with pytest.raises(SourceError, match=said):
        fetch(answer, waits=waits)
    assert len(waits) == (4 if "tries" in said else 0)


def test_a_server_that_is_not_there_is_an_error():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/feed?token=hush"
        with pytest.raises(
            SourceError, match=r"feed wire: no whole answer \(Connection refused\) after 5 tries for http"
        ):
            fetch_feed(url, name="wire", now=NOW, sleep=lambda _: None)


def test_a_server_that_says_nothing_is_given_up():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with pytest.raises(SourceError, match=r"no whole answer \(.*[Tt]ime.*\) after 5 tries"):
            fetch_feed(url, name="wire", now=NOW, sleep=lambda _: None, timeout=0.05)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "the answer is empty"),
        (b"  \n ", "the answer is empty"),
        (
            b"<!DOCTYPE html><html><head><title>Sign in</title></head><body><p>Hi<br></body></html>",
            "XML of another kind",
        ),
        (b'<html xmlns="http://www.w3.org/1999/xhtml"><body/></html>', r"another kind \(<html>\)"),
        (json.dumps({"items": [ROW]}).encode(), "is not whole XML"),
        (b"Too many requests", "is not whole XML"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "is not whole XML"),
        (to_rss([RSS_ROW]).encode()[:-30], "is not whole XML"),
        (to_atom([ROW]).encode()[:200], "is not whole XML"),
        (b"<!DOCTYPE rss SYSTEM 'a>b'><rss version='2.0'><channel/></rss>", "could not be read"),
        (b"<opml version='2.0'><body/></opml>", r"another kind \(<opml>\)"),
        (b"<rss><channel><item><media:title>x</media:title></item></channel></rss>", "unbound prefix"),
    ],
)
def test_what_is_no_whole_feed_is_an_error_and_not_zero_items(body, said):
    with pytest.raises(SourceError, match=f"feed wire: .*{said}"):
        fetch(Answer(body, headers={"Content-Type": "text/html"}))


LAUGHS = '<!ENTITY a "ha">' + "".join(
    f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "declared",
    [
        LAUGHS,
        '<!ENTITY i SYSTEM "file:///etc/passwd">',
        '<!ENTITY i PUBLIC "x" "http://127.0.0.1/secret">',
        '<!ENTITY % i SYSTEM "file:///etc/passwd"> %i;',
        '<!ENTITY i "harmless">',
        "<!ELEMENT rss ANY>",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_declared_entities_are_refused_before_anything_is_read(declared, encoding):
    text = f"<!DOCTYPE rss [{declared}]><rss version='2.0'><channel><item><title>&i;</title></item></channel></rss>"
    said = error_of(Answer(text.encode(encoding), headers={"Content-Type": "application/xml"}))
    assert "declares XML entities" in said


def test_a_doctype_that_declares_nothing_is_read_and_not_fetched():
    asked = []

    def answer(request: Request) -> Answer:
        asked.append(request.path)
        doctype = f'<!DOCTYPE rss PUBLIC "x" "http://{request.headers["Host"]}/rss.dtd">'
        return to_feed_answer(to_rss([RSS_ROW]).replace("<rss", f"{doctype}<rss"))

    assert len(fetch(answer)) == 1
    assert asked == ["/feed.xml"]


def test_fifty_megabytes_are_refused_without_being_held():
    item = {**RSS_ROW, "text": "x" * 50_000_000}
    text = to_rss([item])
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        body = text.encode()
        held = tracemalloc.get_traced_memory()[0] - before  # by the server
        with serve(lambda _: Answer(body)) as server:
            tracemalloc.reset_peak()
            with pytest.raises(SourceError, match="feed wire: holds more than 10000000 bytes"):
                fetch_feed(server.url, name="wire", now=NOW, sleep=lambda _: None)
            peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert peak - held < 25_000_000  # the limit, and a buffer that grows


def test_a_small_answer_that_unpacks_to_a_hundred_megabytes_is_refused_without_being_held():
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as file:
        for _ in range(100):
            file.write(b"<!--" + b" " * 1_000_000 + b"-->")
    tracemalloc.start()
    try:
        said = error_of(Answer(packed.getvalue(), headers={"Content-Encoding": "gzip"}), limit_bytes=1_000_000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "holds more than 1000000 bytes" in said
    assert peak < 5_000_000


def test_packed_answers_are_read_and_their_cuts_found():
    body = gzip.compress(to_rss([RSS_ROW]).encode())
    headers = {"Content-Encoding": "gzip"}
    assert len(fetch(Answer(body, headers=headers))) == 1
    assert len(fetch(Answer(body + b"garbage", headers=headers))) == 1
    assert "the packed answer has no end" in error_of(Answer(body[:-20], headers=headers))
    assert "no whole answer" in error_of(Answer(b"not packed", headers=headers))
    assert "came packed as 'br'" in error_of(Answer(body, headers={"Content-Encoding": "br"}))


def test_too_many_elements_and_too_deep_ones_are_refused():
    assert "elements" in error_of("<rss version='2.0'><channel>" + "<item/>" * 100_001 + "</channel></rss>")
    assert "elements" in error_of("<rss>" + "<a>" * 1000 + "</a>" * 1000 + "</rss>")


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://host/feed",
        "data:,x",
        "feed.xml",
        "http://",
        "http://a b/",
        "http://h:x/",
        "http://é.test/",
    ],
)
def test_only_addresses_of_the_web_are_fetched(url):
    with pytest.raises(ConfigError, match="feed wire: the url must be a whole address of http or https"):
        fetch_feed(url, name="wire", now=NOW)


def test_redirects_are_followed_to_the_web_alone_and_carry_no_password():
    seen: list[Request] = []

    def answer(request: Request) -> Answer:
        seen.append(request)
        if request.path == "/old":
            return Answer(status=302, headers={"Location": "/new"})
        if request.path == "/local":
            return Answer(status=302, headers={"Location": "file:///etc/passwd?token=hush"})
        if request.path == "/ftp":
            return Answer(status=301, headers={"Location": "ftp://127.0.0.1/x"})
        if request.path == "/loop":
            return Answer(status=302, headers={"Location": "/loop"})
        return to_feed_answer(to_rss([RSS_ROW]))

    assert len(fetch(answer, path="/old")) == 1
    assert "was sent on to an address that is not of http or https" in error_of(answer, path="/ftp")
    for path in ("/local", "/loop"):
        assert "answered 302" in error_of(answer, path=path)
    with serve(answer) as server:
        fetch_feed(server.url.replace("//", "//me:pa%20ss@") + "/old", name="wire", now=NOW)
    first, second = seen[-2:]
    assert first.headers["Authorization"] == "Basic bWU6cGEgc3M="  # me:pa ss
    assert "Authorization" not in second.headers


SECRETS = ("hush", "pa%20ss", "pa ss", "apikeyvalue")


def everything_said(err: FinsignalError) -> str:
    return "".join(traceback.format_exception(err)) + repr(err)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(status=404),
        Answer(status=429),
        Answer(b"no feed"),
        Answer(b"<rss/>", cut=2),
        Answer(status=302, headers={"Location": "ftp://me:hush@host/?token=hush"}),
        Answer(status=302, headers={"Location": "http://me:hush@127.0.0.1:1/?token=hush"}),
        Answer(status=302, headers={"Location": "http://127.0.0.1:hush/"}),
        Answer(status=302, headers={"Location": "/?token=hush"}),
        Answer(to_rss([{**RSS_ROW, "published": "2026-11-20T11:30:00"}]).encode()),
        Answer(b"<!DOCTYPE rss [<!ENTITY a 'hush'>]><rss/>"),
        Answer(b"<rss/>" * 10),
    ],
)
def test_no_error_tells_a_secret(answer, caplog):
    with serve(lambda _: answer) as server:
        url = server.url.replace("//", "//me:pa%20ss@") + "/feed?token=hush&apikey=apikeyvalue"
        with pytest.raises(FinsignalError) as caught:
            fetch_feed(url, name="wire", now=NOW, sleep=lambda _: None, limit_bytes=1000)
    said = everything_said(caught.value) + caplog.text
    assert [secret for secret in SECRETS if secret in said] == []


def test_no_unusable_url_is_told_either():
    for url in ("ftp://me:hush@host/", "http://me:hush@host:port/", "http://host/?token=hush hush"):
        with pytest.raises(ConfigError) as caught:
            fetch_feed(url, name="wire", now=NOW)
        assert "hush" not in everything_said(caught.value)


def test_no_table_and_no_note_holds_a_secret():
    rows = [
        {
            **RSS_ROW,
            "id": "https://n.invalid/a?token=hush&id=1",
            "url": "https://me:hush@n.invalid/a?apikey=apikeyvalue#hush",
        },
        {**RSS_ROW, "id": "https://n.invalid/a?token=hush&id=2", "url": "/relative?token=hush"},
        {**RSS_ROW, "id": "https://n.invalid/b#1", "url": ""},
        {**RSS_ROW, "id": "https://n.invalid/b#access=hush"},
        {"title": "Link alone", "url": "https://n.invalid/c?token=hush"},
        {**RSS_ROW, "id": "https://n.invalid/a?newskey=1"},
        {**RSS_ROW, "id": "https://n.invalid/a?newskey=2"},
    ]
    text = to_rss(rows).encode().replace(b"beats", b"b\xe9ats")
    with serve(lambda _: Answer(text)) as server:
        url = server.url.replace("//", "//me:pa%20ss@") + "/feed?token=hush&apikey=apikeyvalue"
        items = fetch_feed(url, name="wire", now=NOW)
    assert items.attrs["notes"]
    said = items.to_csv() + str(items.attrs)
    assert [secret for secret in SECRETS if secret in said] == []
    assert items["id"].is_unique
    assert items["id"].tolist()[2] == "wire:https://n.invalid/b#1"


def test_another_encoding_than_stated_is_mended_and_noted():
    text = to_rss([{**RSS_ROW, "title": "Café"}])
    assert fetch(Answer(text.encode("windows-1252"))).attrs["notes"] == (
        "feed wire: says it is utf-8, but was read as windows-1252.",
    )
    latin = text.replace('encoding="utf-8"', 'encoding="iso-8859-1"')
    for body in (latin.encode("iso-8859-1"), text.encode("utf-8-sig"), text.encode("utf-16")):
        items = fetch(Answer(body))
        assert items["title"].tolist() == ["Café"]
        assert items.attrs["notes"] == ()
    for encoding in ("idna", "raw_unicode_escape", "unheard-of"):
        strange = text.replace('encoding="utf-8"', f'encoding="{encoding}"')
        assert fetch(Answer(strange.encode()))["title"].tolist() == ["Café"]


def test_stray_characters_are_read_as_text_and_noted():
    text = to_rss([{**RSS_ROW, "title": "TITLE"}])
    items = fetch(text.replace("TITLE", "AT&T caf&eacute; \x0b&LT;b> &unknown; &lt;i&gt; &#8364;"))
    assert items.attrs["notes"] == ("feed wire: stray characters that XML does not allow were read as text.",)
    articles, _, counts = to_articles(
        items, now=NOW, polled=None, known=ARTICLES.empty(), latency=pd.Timedelta(0), names={}
    )
    assert articles["title"].tolist() == ["AT&T café &unknown; €"]
    assert counts.notes == items.attrs["notes"]


@pytest.mark.parametrize(
    ("stamp", "at", "until"),
    [
        ("Fri, 20 Nov 2026 11:30:00 GMT", "2026-11-20T11:30:00Z", None),
        ("20 Nov 2026 06:30:00 EST", "2026-11-20T11:30:00Z", None),
        ("Fri, 20 Nov 2026 11:30:00 +0530", "2026-11-20T06:00:00Z", None),
        ("Fri, 20 Nov 26 11:30:00 Z", "2026-11-20T11:30:00Z", None),
        ("Fri, 20 Nov 2026 11:30:00 GMT+01:00", "2026-11-20T10:30:00Z", None),
        ("Fri, 20 Nov 2026 11:30:00 +0000 (UTC)", "2026-11-20T11:30:00Z", None),
        ("2026-11-20T11:30:00.5-05:00", "2026-11-20T16:30:00Z", None),
        ("2026-11-20 11:30:00Z", "2026-11-20T11:30:00Z", None),
        ("Fri, 20 Nov 2026 11:30 GMT", "2026-11-20T11:30:00Z", "2026-11-20T11:31:00Z"),
        ("2026-11-20T11:30Z", "2026-11-20T11:30:00Z", "2026-11-20T11:31:00Z"),
        ("no stamp", None, None),
        ("", None, None),
        ("Fri, 99 Nov 2026 11:30:00 GMT", None, None),
        ("2026-13-20T11:30:00Z", None, None),
        ("2026", None, None),
        ("now", None, None),
        ("Fri, 20 Foo 2026 11:30:00 GMT", None, None),
    ],
)
def test_stamps_are_read_with_their_own_zone_and_precision(stamp, at, until):
    expected = tuple(None if text is None else pd.Timestamp(text) for text in (at, until))
    assert read_stamp(stamp, where="x", tz=None, precision="second") == expected
    assert read_stamp(stamp, where="x", tz="Asia/Tokyo", precision="second") == expected
    if at is not None and until is None and ".5" not in stamp and "Nov 26" not in stamp:
        parsed = (
            feedparser.parse(io.BytesIO(to_rss([{**ROW, "published": stamp}]).encode())).entries[0].published_parsed
        )
        assert pd.Timestamp(*parsed[:6], tz="UTC") == pd.Timestamp(at)


@pytest.mark.parametrize(
    "stamp",
    ["2026-11-20T11:30:00", "Fri, 20 Nov 2026 11:30:00", "Fri, 20 Nov 2026 11:30:00 CET", "2026-11-20", "20 Nov 2026"],
)
def test_a_stamp_without_a_clear_zone_is_refused_until_the_zone_is_told(stamp):
    text = to_rss([RSS_ROW, {**RSS_ROW, "published": stamp}])
    with pytest.raises(SourceError, match=r"feed wire, item 2: time '.*' has no zone that is clear. Set tz"):
        fetch(text)
    row = fetch(text, tz="Europe/Berlin").iloc[1]
    if ":" in stamp:
        assert (row["published"], row["until"] is pd.NaT) == (pd.Timestamp("2026-11-20T10:30Z"), True)
    else:
        assert (row["published"], row["until"]) == (
            pd.Timestamp("2026-11-19T23:00Z"),
            pd.Timestamp("2026-11-20T23:00Z"),
        )


def test_a_feed_that_stamps_dates_as_midnights_is_told_so():
    items = fetch(to_rss([{**RSS_ROW, "published": "Thu, 19 Nov 2026 00:00:00 GMT"}]), precision="date", tz="UTC")
    assert items["until"].tolist() == [pd.Timestamp("2026-11-20T00:00Z")]
    with pytest.raises(ConfigError, match="precision: 'day' is not one of"):
        fetch(to_rss([RSS_ROW]), precision="day")


def test_hostile_headlines_are_plain_text_in_the_articles():
    titles = [
        "<script>alert(1)</script>Apple",
        "&lt;img src=x onerror=alert(1)&gt;Apple",
        "Apple\u202egnp.exe",
        "=cmd|' /C calc'!A0 Apple",
        "'; DROP TABLE articles; -- Apple",
        "{{7*7}} ${jndi:ldap://x} Apple",
    ]
    rows = [{**RSS_ROW, "id": str(i), "title": title} for i, title in enumerate(titles)]
    articles, links, _ = to_articles(
        fetch(to_rss(rows)),
        now=NOW,
        polled=None,
        known=ARTICLES.empty(),
        latency=pd.Timedelta(0),
        names={"AAPL": ["Apple"]},
    )
    assert articles["title"].tolist()[:3] == ["Apple", "Apple", "Apple gnp.exe"]
    assert articles["title"].tolist()[3:] == titles[3:]
    assert len(links) == 6


def test_two_polls_of_a_feed_with_a_late_item_and_an_edit():
    def poll(rows: list[dict], now: str, polled: str | None, known: pd.DataFrame) -> pd.DataFrame:
        articles, _, _ = to_articles(
            fetch(to_rss(rows), now=pd.Timestamp(now)),
            now=pd.Timestamp(now),
            polled=None if polled is None else pd.Timestamp(polled),
            known=known,
            latency=pd.Timedelta(minutes=1),
            names={},
        )
        return articles

    first = {**RSS_ROW, "id": "a", "title": "First", "published": to_stamp("2026-11-20T08:00Z")}
    late = {**RSS_ROW, "id": "b", "title": "Late", "published": to_stamp("2026-11-20T08:30Z")}
    new = {**RSS_ROW, "id": "c", "title": "New", "published": to_stamp("2026-11-20T09:30Z")}
    one = poll([first], "2026-11-20T09:00Z", None, ARTICLES.empty())
    two = poll([{**first, "title": "Edited"}, late, new], "2026-11-20T10:00Z", "2026-11-20T09:00Z", one)
    assert one["time"].dt.strftime("%H:%M").tolist() == ["08:01"]
    assert one["first_seen"].isna().all()
    assert dict(zip(two["title"], two["time"].dt.strftime("%H:%M"), strict=True)) == {
        "Edited": "10:01",
        "Late": "10:01",
        "New": "09:31",
    }
    assert (two["first_seen"] == pd.Timestamp("2026-11-20T10:00Z")).all()


@pytest.mark.live
def test_a_real_feed_is_read():
    url = os.environ.get("FINSIGNAL_LIVE_FEED", "https://www.sec.gov/news/pressreleases.rss")
    try:
        items = fetch_feed(url, name="live", now=pd.Timestamp.now("UTC"), sleep=lambda _: None, timeout=5.0)
    except SourceError as err:
        if "no whole answer" in str(err):
            pytest.skip(f"no network: {err}")
        raise
    ITEMS.check(items)
    assert len(items) > 0
