"""Verbs about labelled text: data get, data prepare, data audit."""

from __future__ import annotations

import argparse
from collections.abc import Callable

AddVerb = Callable[..., argparse.ArgumentParser]


def add_verbs(verb: AddVerb) -> None:
    """Adds them to the command line, each with an example."""
