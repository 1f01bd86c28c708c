"""Rows that were read, in order: the newest version of each key, taken with as few copies as can be."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from finsignal.lake.contracts import Kept
from finsignal.tables import INSTANT

_TAKEN = 262_144  # rows taken at once
_RUN = 16_384  # rows that follow one another, from which on they are worth a piece of their own


def to_codes(column: pa.ChunkedArray) -> np.ndarray:
    """Integers in the order of the column's values, equal where they are; without missing values."""
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.int64()).to_numpy()
    if pa.types.is_dictionary(column.type):
        words = column.unify_dictionaries().combine_chunks()
    elif pa.types.is_large_string(column.type):
        words = column.combine_chunks().dictionary_encode()
    else:
        return column.to_numpy()
    rank = np.empty(len(words.dictionary), dtype=np.int32)
    rank[pc.sort_indices(words.dictionary).to_numpy()] = np.arange(len(rank))
    return rank[words.indices.to_numpy()]


def newest(rows: pa.Table, key: Sequence[str]) -> np.ndarray:
    """Positions of the newest version of each key, in the order of keys.

    Of versions recorded at the same instant the one written later is newer.
    """
    joint = _join(rows, key)
    order = np.argsort(joint, kind="stable")
    ordered = joint[order]
    older = np.flatnonzero(ordered[1:] == ordered[:-1])
    if not len(older):
        return order
    recorded = to_codes(rows["recorded"])
    if (recorded[order[older]] > recorded[order[older + 1]]).any():
        order = np.lexsort((recorded, joint))
    return np.delete(order, older)


def order_by(rows: pa.Table, columns: Sequence[str]) -> np.ndarray:
    """Positions that sort the rows by these columns, equal ones as they stand."""
    return np.argsort(_join(rows, columns), kind="stable")


def _join(rows: pa.Table, columns: Sequence[str]) -> np.ndarray:
    """One integer a row, which orders rows as the columns together do.

    Parts are sorted: a stable sort of one integer finds their runs and only merges them.
    """
    joint, size = np.zeros(len(rows), dtype=np.int64), 1
    for name in columns if len(rows) else ():
        codes = to_codes(rows[name])
        if size * (int(codes.max()) - int(codes.min()) + 1) >= 2**63:
            # Ranks in place of values: there are no more of them than rows.
            joint, codes = (np.unique(values, return_inverse=True)[1] for values in (joint, codes))
        low, span = codes.min(), int(codes.max()) - int(codes.min()) + 1
        joint *= span  # in place, as below: new memory costs more than the sum
        joint += codes
        joint -= low
        size = int(joint.max()) + 1
    return joint


def order_once(rows: pa.Table, instant: str, text: str) -> np.ndarray:
    """Positions that sort rows by an instant, then by a text, quickly where they nearly lie so."""
    instants = to_codes(rows[instant])
    order = np.argsort(instants, kind="stable")
    instants = instants[order]
    equal = instants[1:] == instants[:-1]
    if not equal.any():
        return order
    tied = np.flatnonzero(np.append(equal, False) | np.insert(equal, 0, False))
    texts = take(rows.select([text]), order[tied])[text].combine_chunks()
    down = pc.less(texts[1:], texts[:-1]).to_numpy(zero_copy_only=False)
    if (down & (np.diff(instants[tied]) == 0)).any():
        order[tied] = order[tied][np.lexsort((to_codes(pa.chunked_array([texts])), instants[tied]))]
    return order


def take(rows: pa.Table, positions: np.ndarray) -> pa.Table:
    """The rows at these positions, in this order; long runs that follow one another as they lie are not copied."""
    starts = np.flatnonzero(np.diff(positions, prepend=-2) != 1)
    if len(starts) < 2:
        return rows.slice(positions[0] if len(positions) else 0, len(positions))
    ends = np.append(starts[1:], len(positions))
    long = ends - starts >= _RUN
    scattered = positions[~np.repeat(long, ends - starts)] if long.any() else positions
    low, high = (int(scattered.min()), int(scattered.max()) + 1) if len(scattered) else (0, 0)
    pieces: list[slice | pa.Array] = []
    done = 0
    for start, end in [*zip(starts[long].tolist(), ends[long].tolist(), strict=True), (len(positions), len(positions))]:
        where = [positions[at : min(at + _TAKEN, start)] for at in range(done, start, _TAKEN)]
        pieces += [pa.array(some - low if low else some) for some in where]
        pieces += [slice(positions[start], positions[start] + end - start)] if end > start else []
        done = end

    def gather(column: pa.ChunkedArray) -> pa.ChunkedArray:
        # Whole arrays are taken from many times faster than chunks are; but taken whole, half a gigabyte of text needs
        # its memory in one piece, which the system has to clear first.
        whole = column.slice(low, high - low).combine_chunks()
        chunks: list[pa.Array] = []
        for piece in pieces:
            chunks += column[piece].chunks if isinstance(piece, slice) else [whole.take(piece)]
        return pa.chunked_array(chunks, type=column.type)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        # The texts first: they take longest.
        columns = dict(zip(rows.column_names[::-1], pool.map(gather, rows.columns[::-1]), strict=True))
    return pa.table([columns[name] for name in rows.column_names], schema=rows.schema)


def to_frame(rows: pa.Table, positions: np.ndarray, kept: Kept) -> pd.DataFrame:
    """The contract's table of the rows at these positions; an optional column where any of the rows has a value."""
    contract = kept.contract
    if not len(positions):
        return contract.empty()
    idle = [n for n in contract.optional if n not in rows.column_names or rows[n].null_count == len(rows)]
    names = [n for n in [*contract.columns, *contract.optional] if n not in idle]
    floats = [n for n in names if pa.types.is_floating(rows[n].type)]
    instants = [n for n in names if pa.types.is_timestamp(rows[n].type) and not rows[n].null_count]
    others = [n for n in names if n not in floats and n not in instants]
    block, times = np.empty((len(floats), len(positions))), np.empty((len(instants), len(positions)), dtype=np.int64)

    def gather(name: str, into: np.ndarray) -> None:
        column = rows[name] if name in floats else rows[name].cast(pa.int64())
        # Straight to where pandas will have it. "clip" is what spares a copy, and changes no position.
        np.take(column.combine_chunks().to_numpy(zero_copy_only=False), positions, out=into, mode="clip")

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        gathered = pool.map(gather, [*floats, *instants], [*block, *times])
        plain = pa.schema([kept.schema.field(n) for n in others])
        other = take(rows.select(others), positions).cast(plain).to_pandas(ignore_metadata=True)
        list(gathered)
    frame = pd.DataFrame(block.T, columns=floats, copy=False)
    for at, name in enumerate(names):
        if name in instants:
            frame.insert(at, name, pd.DatetimeIndex(times[instants.index(name)], dtype=INSTANT, copy=False))
        elif name in others:
            frame.insert(at, name, other[name])
    return frame
