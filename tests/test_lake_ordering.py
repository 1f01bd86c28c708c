"""Rows of the lake in order: the same rows as a plain sort gives, however they lie in chunks and runs."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from finsignal.lake import ordering

INSTANTS = pa.timestamp("us", "UTC")


def make_rows(sizes: list[int], *, seed: int) -> pa.Table:
    """Rows in chunks of these sizes: symbol, instants over 200 years with repeats, when recorded, where it stands."""
    random = np.random.default_rng(seed)
    times = np.sort(random.integers(-(10**15), 5 * 10**15, 6))
    chunks = [
        pa.table(
            {
                "symbol": pa.array(random.choice(["B", "A", "CC"], size), pa.large_string()).dictionary_encode(),
                "time": pa.array(random.choice(times, size), INSTANTS),
                "end": pa.array(random.choice(times, size), INSTANTS),
                "recorded": pa.array(random.integers(0, 3, size), INSTANTS),
                "word": pa.array(random.choice(["y", "x#1", "x", ""], size), pa.large_string()),
            }
        )
        for size in sizes
    ]
    rows = pa.concat_tables(chunks)
    return rows.append_column("at", pa.array(np.arange(len(rows))))


@pytest.mark.parametrize("seed", range(5))
def test_of_each_key_the_newest_is_taken_of_equal_ones_the_last(seed: int) -> None:
    rows = make_rows([7, 1, 30, 12], seed=seed)
    # three columns whose ranges together are beyond 64 bits
    key = ["symbol", "time", "end"]
    frame = rows.to_pandas().astype({"symbol": "str"})
    expected = frame.sort_values([*key, "recorded", "at"]).drop_duplicates(key, keep="last")["at"]
    assert ordering.newest(rows, key).tolist() == expected.tolist()
    assert ordering.order_by(rows, key).tolist() == frame.sort_values([*key, "at"])["at"].tolist()
    assert ordering.newest(rows.slice(0, 0), key).tolist() == []


@pytest.mark.parametrize("seed", range(5))
def test_rows_of_one_instant_are_in_the_order_of_their_text(seed: int) -> None:
    rows = make_rows([7, 1, 30, 12], seed=seed)
    expected = rows.to_pandas().sort_values(["time", "word", "at"])["at"].tolist()
    assert ordering.order_once(rows, "time", "word").tolist() == expected
    lies_so = rows.take(expected)
    assert ordering.order_once(lies_so, "time", "word").tolist() == list(range(len(rows)))


@pytest.mark.parametrize(
    "positions",
    [
        [],
        [4],
        list(range(20)),
        list(range(3, 17)),
        list(range(19, -1, -1)),
        [0, 1, 2, 3, 9, 7, 10, 11, 12, 13, 14, 4],  # runs of which the long ones are not copied
        [19, 0, 1, 2, 3, 4, 5, 6, 7, 8],
        [5, 6, 7, 8, 9, 2, 2, 1, 18, 13, 12],
    ],
    ids=str,
)
def test_what_is_taken_is_what_stands_there(monkeypatch: pytest.MonkeyPatch, positions: list[int]) -> None:
    monkeypatch.setattr(ordering, "_RUN", 4)
    monkeypatch.setattr(ordering, "_TAKEN", 3)
    rows = make_rows([6, 1, 13], seed=0)
    taken = ordering.take(rows, np.array(positions, dtype=np.int64))
    assert taken.schema == rows.schema
    assert taken.to_pylist() == [rows.to_pylist()[p] for p in positions]
