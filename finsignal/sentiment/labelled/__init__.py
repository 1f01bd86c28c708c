"""Labelled text: published sets and users' files to one table, cleaned, counted, and split without shared texts.

Each reader gives the table of tables.LABELLED in file order and a dict of counts: what was read and what was left out,
and why. A row has a target where its label is the text's sentiment about one of several it names, and '' where the
label is that of the text as a whole.
"""

from __future__ import annotations

from typing import Any

from finsignal.sentiment.labelled.cleaning import clean_labelled, split_by_text, stands_in
from finsignal.sentiment.labelled.files import read_labelled
from finsignal.sentiment.labelled.published import (
    CUTOFFS,
    read_fiqa,
    read_phrasebank,
    read_sentfin,
    read_sentfin_targets,
    read_surge,
    read_tfns,
)
from finsignal.sentiment.labelled.rows import Counted, to_cutoff

READERS: dict[str, Any] = {
    "tfns": read_tfns,
    "sentfin": read_sentfin,
    "sentfin_targets": read_sentfin_targets,
    "surge": read_surge,
    "phrasebank": read_phrasebank,
    "fiqa": read_fiqa,
    "file": read_labelled,
}

__all__ = [
    "CUTOFFS",
    "READERS",
    "Counted",
    "clean_labelled",
    "read_fiqa",
    "read_labelled",
    "read_phrasebank",
    "read_sentfin",
    "read_sentfin_targets",
    "read_surge",
    "read_tfns",
    "split_by_text",
    "stands_in",
    "to_cutoff",
]
