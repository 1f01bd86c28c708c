"""Probabilities of news, each text asked of a model once: what was scored before comes from the lake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from finsignal.lake import Lake, append, read_scores, to_digest
from finsignal.sentiment.score import Model, score_texts, to_inputs
from finsignal.tables import PROBABILITIES, SENTIMENT


def score_known(
    lake: Lake,
    news: pd.DataFrame,
    model: Model,
    *,
    now: pd.Timestamp,
    names: Mapping[str, Sequence[str]] | None = None,
    progress: bool = False,
) -> tuple[pd.DataFrame, int]:
    """The sentiment table of `news`, to the bit that of `score_news`, and how many texts the model had to read for it.

    The lake keeps probabilities by what the model reads (title and text, cleaned, and the company asked about) and by
    the model's digest: the same words under another address or symbol are not read again, and another model never
    answers for this one.
    """
    inputs = to_inputs(news, model, names)
    filled = [text != "" for text, _ in inputs]
    table = news.loc[filled, ["article_id", "time", "symbol"]].reset_index(drop=True)
    read = [pair for pair in inputs if pair[0]]
    digests = pd.Series([to_digest(f"{text}\x1f{target}" if target else text) for text, target in read], dtype="str")
    words = dict(zip(digests, read, strict=True))
    known = read_scores(lake, list(words), model=model.name)
    missing = [digest for digest in words if digest not in set(known["input"])]
    if missing:
        asked = [words[digest] for digest in missing]
        scores = score_texts(
            [text for text, _ in asked], model, progress=progress, targets=[target for _, target in asked]
        )
        fresh = scores.assign(input=pd.Series(missing, dtype="str"), model=model.name).astype({"model": "str"})
        append(lake, "scores", fresh, recorded=now)
        known = pd.concat([known, fresh], ignore_index=True)
    by_input = known.set_index("input")[list(PROBABILITIES)]
    table = pd.concat([table, by_input.reindex(digests).reset_index(drop=True)], axis=1)
    return SENTIMENT.to_table(table.assign(model=pd.Series([model.name] * len(table), dtype="str"))), len(missing)
