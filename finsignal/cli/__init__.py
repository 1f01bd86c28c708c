"""The command line: one function a verb. Results go to stdout, progress and logs to stderr."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence

from finsignal.cli import checking, data, evaluating, getting, job, study, texts, training
from finsignal.errors import FinsignalError

GROUPS = {
    "data": "labelled text: check it, and make it ready to learn from",
    "fetch": "bring prices and news from outside into the lake",
    "lake": "what the lake holds",
}
Verb = Callable[[argparse.Namespace], int | None]


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 done, 1 an error in one line on stderr, 2 wrong usage, 130 stopped from the keyboard.

    A verb may return a code of its own, as the job does: 3 partly decided, 4 refused, 5 locked, 6 source down.
    """
    parser = make_parser()
    options = parser.parse_args(arguments)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        code = options.verb(options) or 0
        sys.stdout.flush()
    except FinsignalError as err:
        if options.debug:
            raise
        print(f"finsignal: {err}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the interpreter complains at its end
        return 0
    except KeyboardInterrupt:
        print("finsignal: stopped.", file=sys.stderr)
        return 130
    return code


def make_parser() -> argparse.ArgumentParser:
    """The parser of every verb, each with an example."""
    what = "Financial news to trading signals, and an honest answer whether they are worth anything."
    parser = argparse.ArgumentParser(prog="finsignal", description=what)
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB")

    groups: dict[str, argparse._SubParsersAction[argparse.ArgumentParser]] = {}

    def verb(name: str, run: Verb, what: str, example: str) -> argparse.ArgumentParser:
        """The parser of one verb; "lake status" is the verb status of the group lake."""
        group, _, last = name.rpartition(" ")
        if group and group not in groups:
            parent = verbs.add_parser(
                group, help=GROUPS[group], description=GROUPS[group][0].upper() + GROUPS[group][1:]
            )
            groups[group] = parent.add_subparsers(title="verbs", required=True, metavar="VERB")
        sub = (groups[group] if group else verbs).add_parser(
            last,
            help=what,
            description=what[0].upper() + what[1:] + ".",
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.add_argument("--json", action="store_true", help="print the result as JSON")
        sub.add_argument("--debug", action="store_true", help="show the traceback of an error")
        sub.set_defaults(verb=run)
        return sub

    for module in (study, checking, texts, training, evaluating, getting, data, job):
        module.add_verbs(verb)
    return parser
