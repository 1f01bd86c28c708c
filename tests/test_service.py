"""Asking again, and never telling a secret."""

import pytest

from finsignal.errors import SourceError
from finsignal.sources.service import PassingFaultError, check_status, redact, retry, to_wait


class Flaky:
    """Fails with each of the given faults in turn, then answers 42."""

    def __init__(self, *faults: Exception) -> None:
        self.faults = list(faults)

    def __call__(self) -> int:
        if self.faults:
            raise self.faults.pop(0)
        return 42


def test_a_passing_fault_is_tried_again_after_longer_and_longer_waits() -> None:
    waits: list[float] = []
    call = Flaky(*[PassingFaultError("server error (500)")] * 4)
    assert retry(call, source="yahoo", subject="AAPL", sleep=waits.append) == 42
    assert waits == [1, 2, 4, 8]


def test_the_wait_a_service_asks_for_is_kept_and_bounded() -> None:
    waits: list[float] = []
    call = Flaky(*[PassingFaultError("rate limited (429)", wait=wait) for wait in (7.0, 86_400.0, -3.0)])
    assert retry(call, source="yahoo", subject="AAPL", sleep=waits.append) == 42
    assert waits == [7, 60, 0]


def test_the_last_fault_is_told_in_the_sentence_of_the_house() -> None:
    waits: list[float] = []
    call = Flaky(*[PassingFaultError("rate limited (429)")] * 9)
    with pytest.raises(SourceError) as raised:
        retry(call, source="yahoo", subject="AAPL 1h from 2023-01-01", sleep=waits.append)
    assert str(raised.value) == (
        "yahoo: rate limited (429) after 5 tries for AAPL 1h from 2023-01-01. Nothing was written."
    )
    assert len(waits) == 4
    with pytest.raises(SourceError, match="1 or more"):
        retry(call, source="yahoo", subject="AAPL", tries=0)


def test_another_error_goes_through_at_once() -> None:
    with pytest.raises(SourceError, match="no such symbol"):
        retry(Flaky(SourceError("no such symbol")), source="yahoo", subject="X", sleep=lambda _: pytest.fail("waited"))


def test_what_is_a_passing_fault() -> None:
    for status in (200, 301, 400, 401, 404, 422):
        check_status(status, {"Retry-After": "5"})
    with pytest.raises(PassingFaultError, match=r"rate limited \(429\)") as raised:
        check_status(429, {"retry-after": "5"})
    assert raised.value.wait == 5
    for status in (500, 502, 503, 504):
        with pytest.raises(PassingFaultError, match=str(status)):
            check_status(status, {})


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"RETRY-AFTER": " 12 "}, 12),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-5"}, None),
        ({"Retry-After": "Sat, 21 Nov 2026 02:00:30 GMT"}, None),  # without the service's own time it says nothing
        ({"Retry-After": "Sat, 21 Nov 2026 02:00:30 GMT", "Date": "Sat, 21 Nov 2026 02:00:00 GMT"}, 30),
        ({"Retry-After": "Sat, 21 Nov 2026 02:00:30 -0000", "Date": "Sat, 21 Nov 2026 02:00:00 GMT"}, None),
    ],
)
def test_retry_after_is_a_number_or_a_date(headers: dict[str, str], seconds: float | None) -> None:
    assert to_wait(headers) == seconds


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("https://host.test/feed.xml?page=2", "https://host.test/feed.xml?page=2"),
        ("https://host.test/@desk/feed", "https://host.test/@desk/feed"),
        ("https://u:s3cret@host.test/a", "https://***@host.test/a"),
        ("https://s3cret@host.test", "https://***@host.test"),
        ("https://u:s3cr@et@host.test/a", "https://***@host.test/a"),
        ("https://u:s3/cret@host.test/a", "https://***@host.test/a"),
        ("https://u:s3?cret@host.test/a", "https://***@host.test/a"),
        ("https://h.test/a?apikey=s3cret&q=1&Access%5FToken=s3cret", "https://h.test/a?apikey=***&q=1&Access%5FToken=***"),
        ("https://h.test/a?q=1;sig=s3cret", "https://h.test/a?q=1;sig=***"),
        ("https://h.test/a#access_token=s3cret", "https://h.test/a"),
        ("HTTPS://u:s3cret@h.test:8443/a", "HTTPS://***@h.test:8443/a"),
        ("postgresql+psycopg://u:s3cret@db.test:5432/x", "postgresql+psycopg://***@db.test:5432/x"),
        ("got 'https://u:s3cret@h.test/a' and https://h.test/?key=s3cret.", "got 'https://***@h.test/a' and https://h.test/?key=***"),
        ("https://[::1/a?token=s3cret", "https://[::1/a?token=***"),
        ("https://u:s3cret@[::1/a", "https://***@[::1/a"),
        ("https://[::1]:80/a", "https://[::1]:80/a"),
        ("no address here: a@b.test", "no address here: a@b.test"),
    ],
)  # fmt: skip
def test_a_secret_in_an_address_is_struck_out(text: str, told: str) -> None:
    assert redact(text) == told


def test_a_secret_does_not_reach_the_error() -> None:
    with pytest.raises(SourceError) as raised:
        retry(Flaky(PassingFaultError("cannot reach https://u:s3cret@h.test")), source="feed", subject="f", tries=1)
    assert "s3cret" not in str(raised.value)
    assert "after 1 try for f" in str(raised.value)
