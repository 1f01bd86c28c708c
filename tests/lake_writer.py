"""A process that writes to a lake: `python lake_writer.py FOLDER NAME COUNT`, for the tests of writers at once.

It appends COUNT times two rows: one of its own, one that every such process writes. It merges parts from four on.
"""

import sys
from pathlib import Path

from lake_tables import BARS_HERE, hours, make_prices, ts

from finsignal.lake import append, appending, open_lake

if __name__ == "__main__":
    appending.MERGE_ABOVE = 4
    folder, name, count = sys.argv[1:]
    lake = open_lake(Path(folder), create=True)
    for number in range(int(count)):
        for symbol in (name, "shared"):
            row = make_prices(symbol, hours("2026-11-01", int(count))[number : number + 1], [1 + number])
            append(lake, "prices", row, recorded=ts("2026-12-01"), **BARS_HERE)
