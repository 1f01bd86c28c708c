"""Scoring: a model folder and text to probabilities, with ONNX Runtime and tokenizers alone.

A text's probabilities never depend on its neighbours: each is run by itself, unpadded, on one thread. (Dynamic INT8
takes its scale from the whole batch: in a padded batch a probability moved by up to 0.33.) The graph takes one text a
run, so it cannot be done otherwise; texts run side by side on all cores.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from finsignal.errors import ModelError, TableError
from finsignal.sentiment.calibrate import softmax
from finsignal.sentiment.folder import CARD as CARD
from finsignal.sentiment.folder import GRAPH, KINDS, LABELS, TOKENIZER, read_card, read_verified, to_order
from finsignal.sentiment.prompt import clean, to_input, to_named, to_pairs

if TYPE_CHECKING:
    import pandas as pd

DEFAULT = Path(__file__).parent / "default"
CHUNK = 16  # texts handed to a thread at once

SLOW_FUSIONS = ["SkipLayerNormFusion", "EmbedLayerNormFusion"]  # slower on CPUs than the operators they replace
NOTHING = np.array([0.0, 1.0, 0.0])


@dataclass(frozen=True)
class Model:
    """A loaded model folder.

    name: the model's name, @, and the first 12 digits of the SHA-256 over graph, tokenizer and scoring settings, so
    that rows scored by different models never mix. temperature: what the graph's logits are divided by. card: the whole
    card. Probabilities come in the order of LABELS.
    """

    name: str
    temperature: float
    card: dict[str, Any] = field(repr=False, compare=False)
    order: tuple[int, ...] = field(repr=False)  # column of the graph that holds each of LABELS
    session: Any = field(repr=False, compare=False)
    tokenizer: Any = field(repr=False, compare=False)
    digest: str = field(default="", repr=False)  # SHA-256 that `name` begins; "" where there is no folder behind it

    @property
    def trained_until(self) -> pd.Timestamp:
        """The latest time or stated cut-off of the rows that it learned from, UTC."""
        return _to_instant(self.card["trained_until"])

    @property
    def target_aware(self) -> bool:
        """Whether it was trained to say what a text means for one company, and so may be asked about one."""
        return bool(self.card.get("target_aware", False))

    @property
    def base_cutoff(self) -> pd.Timestamp:
        """The end of what its base can know, UTC."""
        return _to_instant(self.card["base"]["known_until"])

    def predict_logits(
        self, texts: Iterable[str], targets: Iterable[str] | None = None, *, progress: bool = False
    ) -> np.ndarray:
        """The graph's logits before the temperature, float64 (n, 3), in the order of LABELS; each text is cleaned."""
        cleaned = [clean(text) for text in texts]
        return self._run(self._to_pairs(cleaned, targets), progress=progress)

    def _to_pairs(self, cleaned: list[str], targets: Iterable[str] | None) -> list[str | tuple[str, str]]:
        return list(cleaned) if targets is None or not self.target_aware else to_pairs(cleaned, list(targets))

    def _run(self, pairs: list[str | tuple[str, str]], *, progress: bool) -> np.ndarray:
        out = np.empty((len(pairs), len(LABELS)))

        def run(start: int) -> int:
            rows = self.tokenizer.encode_batch_fast(pairs[start : start + CHUNK])
            for row, tokens in enumerate(rows, start):
                ids = np.array([tokens.ids], dtype=np.int64)
                out[row] = self.session.run(None, {"input_ids": ids})[0][0, self.order]
            return len(rows)

        with show_bar(len(pairs), progress) as bar:
            if len(pairs) <= CHUNK:  # starting threads would cost a single text half as much again
                bar.update(run(0))
                return out
            with ThreadPoolExecutor(_cores()) as pool:
                for done in pool.map(run, range(0, len(pairs), CHUNK)):
                    bar.update(done)
        return out

    def predict_proba(
        self, texts: Iterable[str], targets: Iterable[str] | None = None, *, progress: bool = False
    ) -> np.ndarray:
        """Calibrated probabilities, float64 (n, 3), rows sum to 1, columns in the order of LABELS.

        Each text is cleaned by prompt.clean and cut at the card's max_tokens. A text with nothing left after cleaning
        tells nothing: it is neutral with probability 1, without asking the model. targets: for each text the company
        that is asked about, "" for the text as a whole; a model that is not `target_aware` reads the text alone.
        progress: a bar on stderr.

        Raises TableError where an element is not text, or the targets are not as many as the texts.
        """
        texts = list(texts)
        targets = [""] * len(texts) if targets is None else list(targets)
        for name, values in (("texts", texts), ("targets", targets)):
            for row, text in enumerate(values):
                if not isinstance(text, str):
                    raise TableError(
                        f"{name}: row {row} is {type(text).__name__}; expected text. Fill missing text with ''."
                    )
        if len(targets) != len(texts):
            raise TableError(f"targets: {len(targets)} for {len(texts)} texts; expected one for each, '' for none.")
        cleaned = [clean(text) for text in texts]
        filled = [row for row, text in enumerate(cleaned) if text]
        out = np.tile(NOTHING, (len(texts), 1))
        if filled:
            pairs = self._to_pairs([cleaned[row] for row in filled], [targets[row] for row in filled])
            out[filled] = softmax(self._run(pairs, progress=progress), self.temperature)
        return out


def load_model(
    folder: Path | str | None = None, *, label_map: Mapping[str, str] | None = None, base: Path | str | None = None
) -> Model:
    """The model of a folder, of any kind; without one, the model that ships.

    The card says the kind: "onnx", where it says nothing; "torch", a base with what tuning changed (see
    tuned.load_tuned_model, which `base` is for); or "tfidf" (see tfidf.load_tfidf_model).

    The card lists the folder's files with their SHA-256, and its label names in the order of the model's outputs, in
    any order. label_map turns other label names into negative, neutral and positive. Each file is read once, and what
    was verified is what runs, whatever becomes of the folder meanwhile; but for the weights of kind "torch", which are
    verified and then loaded.

    Raises ModelError, naming the file, where one is missing, altered, or a pickle, which could run code when read.
    """
    folder = DEFAULT if folder is None else Path(folder)
    card = read_card(folder)
    kind = card.get("kind", "onnx")
    if kind == "torch":
        from finsignal.sentiment.tuned import load_tuned_model

        return load_tuned_model(folder, label_map=label_map, base=base)
    if base is not None:
        raise ModelError(f"{folder}: a base was given, but the model is of kind {kind!r}, which has none to put it on.")
    if kind == "tfidf":
        from finsignal.sentiment.tfidf import load_tfidf_model

        return load_tfidf_model(folder, label_map=label_map)
    order = to_order([str(name) for name in card["labels"]], label_map, folder)
    files = read_verified(folder, card["files"], keep=KINDS[kind])
    import onnxruntime
    from tokenizers import Tokenizer

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    # A graph may name files beside it for its weights. Their bytes are not those verified, so none is found.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    tokenizer = Tokenizer.from_buffer(files[TOKENIZER])
    runtime = onnxruntime.capi.onnxruntime_pybind11_state
    try:
        session = onnxruntime.InferenceSession(
            files.pop(GRAPH), options, providers=["CPUExecutionProvider"], disabled_optimizers=SLOW_FUSIONS
        )
    except (runtime.Fail, runtime.InvalidGraph, runtime.InvalidProtobuf, runtime.NotImplemented) as err:
        raise ModelError(f"{folder}: {GRAPH} cannot be loaded ({err}).") from err
    session._model_bytes = None  # the session has weights of its own, and would hold the file's bytes beside them
    tokenizer.no_padding()
    tokenizer.enable_truncation(int(card["max_tokens"]))
    digest = digest_of(card)
    return Model(
        name=f"{card['name']}@{digest[:12]}",
        temperature=float(card["temperature"]),
        card=card,
        order=order,
        session=session,
        tokenizer=tokenizer,
        digest=digest,
    )


def digest_of(card: Mapping[str, Any]) -> str:
    """SHA-256, 64 hex digits, of all that decides a probability: graph, tokenizer, labels, cut length, temperature."""
    settings = {
        "files": {name: card["files"][name] for name in (GRAPH, TOKENIZER)},
        "labels": list(card["labels"]),
        "max_tokens": card["max_tokens"],
        "temperature": card["temperature"],
    }
    if card.get("target_aware", False):
        settings["target_aware"] = True
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def score_texts(
    texts: Iterable[str], model: Model, progress: bool = False, *, targets: Iterable[str] | None = None
) -> pd.DataFrame:
    """p_negative, p_neutral and p_positive of each text, float64, in the order given; equal texts are run once.

    targets: for each text the company that is asked about, or ""; see `Model.predict_proba`.
    """
    import pandas as pd

    from finsignal.tables import PROBABILITIES

    texts = list(texts)
    asked = list(targets) if targets is not None and model.target_aware else [""] * len(texts)
    if len(asked) != len(texts):
        raise TableError(f"targets: {len(asked)} for {len(texts)} texts; expected one for each, '' for none.")
    rows = pd.Series(list(zip(texts, asked, strict=True)), dtype="object")
    codes, distinct = pd.factorize(rows, use_na_sentinel=False)
    found = model.predict_proba(
        [text for text, _ in distinct], [target for _, target in distinct] if any(asked) else None, progress=progress
    )
    return pd.DataFrame(found[codes] if len(rows) else np.empty((0, len(LABELS))), columns=list(PROBABILITIES))


def to_inputs(news: pd.DataFrame, model: Model, names: Mapping[str, Sequence[str]] | None) -> list[tuple[str, str]]:
    """For each news row the text that is read and the company that is asked about, either of which may be "".

    The text is prompt.to_input of title and text. The company is the first of the symbol's names that stands in it, and
    nothing where none does, for a text that does not name a company says nothing about it in particular; nor where the
    model is not target-aware. Raises TableError where a symbol has one text in place of a list of names: its letters
    would be read as names.
    """
    for symbol, listed in (names or {}).items():
        if isinstance(listed, str):
            raise TableError(f"names: {symbol} has {listed!r}; expected a list of names, such as [{listed!r}].")
    texts = [to_input(title, text) for title, text in zip(news["title"], news["text"], strict=True)]
    if not names or not model.target_aware:
        return [(text, "") for text in texts]
    return [(text, to_named(text, names.get(symbol, ()))) for text, symbol in zip(texts, news["symbol"], strict=True)]


def score_news(
    news: pd.DataFrame, model: Model, progress: bool = False, *, names: Mapping[str, Sequence[str]] | None = None
) -> pd.DataFrame:
    """The sentiment table of a news table, known when the news was: one row for each news row with something to read.

    names: the names of each symbol, as in a run file; a target-aware model is asked what the text means for that
    company, and without them, or where none of them stands in the text, how the text sounds as a whole. Each distinct
    input is run once. A news row with nothing to read, such as a post of a bare link, gets no row: it says nothing, and
    a neutral with probability 1 would outweigh texts that do. Raises TableError where `news` breaks its contract.
    """
    import pandas as pd

    from finsignal.tables import NEWS, SENTIMENT

    NEWS.check(news)
    inputs = to_inputs(news, model, names)
    table = news.loc[[text != "" for text, _ in inputs], ["article_id", "time", "symbol"]].reset_index(drop=True)
    read = [(text, target) for text, target in inputs if text]
    scores = score_texts([text for text, _ in read], model, progress=progress, targets=[target for _, target in read])
    table = pd.concat([table, scores], axis=1)
    table["model"] = pd.Series([model.name] * len(table), dtype="str")
    return SENTIMENT.to_table(table)


def _to_instant(stamp: str) -> pd.Timestamp:
    import pandas as pd

    return pd.Timestamp(datetime.fromisoformat(stamp)).tz_convert("UTC").as_unit("us")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def show_bar(total: int, progress: bool) -> Any:
    from tqdm import tqdm

    return tqdm(total=total, desc="scoring", unit="text", disable=not progress)
