"""The verb that brings a published labelled set: data get."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finsignal.cli.shared import print_json

if TYPE_CHECKING:
    from finsignal.sentiment.labelled.places import PublishedSet

AddVerb = Callable[..., argparse.ArgumentParser]
USES = {"ship": "a model that is given away may be trained on it", "research": "research only"}


def add_verbs(verb: AddVerb) -> None:
    """Adds it to the command line, with an example."""
    sub = verb(
        "data get",
        get_published,
        "bring a published labelled set from where it is published; without a name, list them",
        "finsignal data get\n"
        "  finsignal data get phrasebank                       (shows the licence)\n"
        "  finsignal data get phrasebank --to data --accept-licence",
    )
    sub.add_argument("name", nargs="?", metavar="NAME", help="the set")
    sub.add_argument("--to", type=Path, default=Path("data"), metavar="DIR", help="the data folder (default data)")
    sub.add_argument("--accept-licence", action="store_true", help="the licence of the set was read and is accepted")


def get_published(options: argparse.Namespace) -> None:
    """The set below the folder, or its licence, or the list of sets."""
    from finsignal.sentiment.labelled.getting import PUBLISHED, find_set, get_data_set

    if options.name is None:
        list_sets(list(PUBLISHED.values()), as_json=options.json)
        return
    chosen = find_set(options.name)
    if not options.json:
        print(to_page(chosen), flush=True)
    got = get_data_set(chosen.name, to=options.to, accept_licence=options.accept_licence, progress=sys.stderr.isatty())
    if options.json:
        files = [{"path": str(path), "fetched": came} for path, came in got.items()]
        print_json({**to_record(chosen), "files": files})
        return
    print()
    for path, came in got.items():
        print(f"{'fetched' if came else 'there':<9}{path}")


def list_sets(sets: list[PublishedSet], *, as_json: bool) -> None:
    """One line a set: its name, what it may be used for, and what it is."""
    if as_json:
        print_json([to_record(published) for published in sets])
        return
    for published in sets:
        print(f"{published.name:<12}{published.use:<10}{published.licence:<49}{published.about}")
    print("\nship: a model that is given away may be trained on it. finsignal data get NAME shows the licence in full.")


def to_record(published: PublishedSet) -> dict[str, Any]:
    """The set as JSON, without its files."""
    names = ("name", "about", "licence", "page", "use", "citation", "verified")
    return {name: getattr(published, name) for name in names}


def to_page(published: PublishedSet) -> str:
    """The set as it is shown before it is fetched."""
    lines = {
        "licence": published.licence,
        "use": USES[published.use],
        "see": published.page,
        "cite": published.citation,
        "digests": published.verified,
    }
    return "\n".join([f"{published.name}: {published.about}", *(f"  {name:<9}{line}" for name, line in lines.items())])
