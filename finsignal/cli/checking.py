"""The verb that checks a run for cheating: check."""

from __future__ import annotations

import argparse
import dataclasses
import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from finsignal.cli import shared
from finsignal.cli.shared import print_json, printable
from finsignal.cli.study import add_inputs, read_options

if TYPE_CHECKING:
    from finsignal.checking import Checked, Finding

AddVerb = Callable[..., argparse.ArgumentParser]
WIDTH = 100
SHOWN = {"passed": "passed", "failed": "FAILED", "could not be checked": "not checked", "told": "told"}
BLIND = (
    "Not detected: a run file chosen after its result was seen, prices and scores that were altered as a whole, and "
    "what a model learned from the period. See finsignal check --guards."
)


class ShowGuards(argparse.Action):
    """Prints the table of cheats and guards and ends, as --help does; no run file is needed for it."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        from finsignal.checking.guards import to_text

        print(to_text())
        parser.exit()


def add_verbs(verb: AddVerb) -> None:
    """Adds it to the command line, with an example."""
    sub = verb(
        "check",
        check_file,
        "does a run cheat: cut its future off or replace it by noise, and look whether its past changes",
        "finsignal check strategies/apple_hourly.toml --news news.csv --prices AAPL=aapl.csv",
    )
    add_inputs(sub)
    sub.add_argument("--instants", type=int, default=8, help="instants at which the future is another (default 8)")
    sub.add_argument("--seed", type=int, default=7, help="decides the instants and the noise (default 7)")
    sub.add_argument(
        "--guards", action=ShowGuards, nargs=0, help="print which guard catches which cheat, and what none does"
    )


def check_file(options: argparse.Namespace) -> int:
    """The run of the options checked and printed; 1 where something of it cheats, else 0."""
    from finsignal.checking import check_run
    from finsignal.errors import require

    require("vectorbt", extra="backtest", work="a check")  # before anything is read or scored
    from finsignal.study import Request
    from finsignal.study.request import read_request

    run = read_options(options)
    request = Request(run, now=shared.read_clock(), model=options.model, sentiment=options.sentiment)
    checked = check_run(
        read_request(request, progress=True), instants=options.instants, seed=options.seed, progress=True
    )
    if options.json:
        print_json({"run": run.name, **to_plain(checked)})
    else:
        print(to_lines(run.name, checked))
    return int(is_cheating(checked))


def is_cheating(checked: Checked) -> bool:
    """Whether a part of it failed."""
    return any(part.state == "failed" for part in checked.parts)


def to_plain(checked: Checked) -> dict[str, Any]:
    """For JSON: cheats, the findings in order, and the parts."""
    return {
        "cheats": is_cheating(checked),
        "findings": [_to_plain(finding) for finding in checked.findings],
        "parts": [
            {**dataclasses.asdict(part), "findings": [_to_plain(finding) for finding in part.findings]}
            for part in checked.parts
        ],
    }


def _to_plain(finding: Finding) -> dict[str, Any]:
    instant = finding.instant.isoformat() if finding.instant is not None else None
    return {**dataclasses.asdict(finding), "instant": instant}


def to_lines(name: str, checked: Checked) -> str:
    """The check as text: what it says in a word, the first finding, a line for each part, and what is not detected."""
    skipped = sum(part.state == "could not be checked" for part in checked.parts)
    failed = [part.name for part in checked.parts if part.state == "failed"]
    if failed:
        said = f"{name}: cheats, by {len(failed)} of {len(checked.parts)} parts ({', '.join(failed)})."
    else:
        more = f"; {skipped} could not be checked" if skipped else ""
        said = f"{name}: no part of {len(checked.parts)} says that it cheats{more}."
    lines = [*_wrap(said, ""), ""]
    for number, finding in enumerate(checked.findings):
        lines += _wrap(f"{'!' if number == 0 else '-'} {finding.said}", "  ")
    if checked.findings:
        lines.append("")
    for part in checked.parts:
        lines += _wrap(f"{SHOWN[part.state]:<12} {part.name}: {part.said}", " " * 13)
    return "\n".join([*lines, "", *_wrap(BLIND, "")])


def _wrap(text: str, indent: str) -> list[str]:
    return textwrap.wrap(printable(text), WIDTH, subsequent_indent=indent, break_long_words=False) or [""]
