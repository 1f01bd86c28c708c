"""Labelled text: published sets and users' files to one table, cleaned, counted, and split without shared texts.

Each reader gives the table of tables.LABELLED in file order and a dict of counts: what was read and what was left out,
and why. A row has a target where its label is the text's sentiment about one of several it names, and '' where the
label is that of the text as a whole.
"""

from __future__ import annotations

from finsignal.sentiment.labelled.auditing import audit
from finsignal.sentiment.labelled.cleaning import clean_labelled, split_by_text, split_by_time, stands_in
from finsignal.sentiment.labelled.files import read_labelled
from finsignal.sentiment.labelled.label_maps import guess_label_map, map_labels
from finsignal.sentiment.labelled.layouts import (
    READERS,
    read_any_labelled,
    read_instructions,
    read_prepared,
    read_sujet,
)
from finsignal.sentiment.labelled.preparing import Prepared, prepare, write_prepared
from finsignal.sentiment.labelled.published import (
    CUTOFFS,
    read_fiqa,
    read_kaggle,
    read_phrasebank,
    read_sentfin,
    read_sentfin_targets,
    read_surge,
    read_tfns,
)
from finsignal.sentiment.labelled.rows import Counted, to_cutoff

__all__ = [
    "CUTOFFS",
    "READERS",
    "Counted",
    "Prepared",
    "audit",
    "clean_labelled",
    "guess_label_map",
    "map_labels",
    "prepare",
    "read_any_labelled",
    "read_fiqa",
    "read_instructions",
    "read_kaggle",
    "read_labelled",
    "read_phrasebank",
    "read_prepared",
    "read_sentfin",
    "read_sentfin_targets",
    "read_sujet",
    "read_surge",
    "read_tfns",
    "split_by_text",
    "split_by_time",
    "stands_in",
    "to_cutoff",
    "write_prepared",
]
