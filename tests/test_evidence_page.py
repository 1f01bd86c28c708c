"""Evidence on the page and in the terminal: verdict and facts first, every figure there, foreign text stays text."""

import base64
import hashlib
import json
import re
import shutil
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from evidence_answers import make_evidence
from test_report import HOSTILE, Reader, make_run

from finsignal.report import make_report, write_report
from finsignal.report.answer_curves import curves_part, draw_curves, draw_small
from finsignal.report.evidence import figures_table
from finsignal.report.intervals import draw_interval, to_scales
from finsignal.report.terminal import WIDTH, to_evidence_text
from finsignal.report.text import escape, in_unit

pytest.importorskip("plotly", reason="needs plotly: pip install 'finsignal[backtest]'")

FIGURE = {"key": "ic", "name": "IC", "unit": "correlation", "n": 40, "of": "stories", "value": 0.05, "low": -0.02,
          "high": 0.12, "p": 0.2, "draws": 0, "needs": "", "said": "", "source": ""}  # fmt: skip
CURVE = {"key": "c", "name": "C", "x": [1.0, 2.0, 3.0], "y": [0.1, 0.2, 0.3], "x_name": "bars", "y_name": "return",
         "unit": "ratio", "kind": "line", "low": [], "high": [], "n": [], "labels": [], "marks": []}  # fmt: skip


def judged_run(word: str = "cannot tell", *, bars: int = 400) -> dict[str, Any]:
    """The arguments of make_report for a run that never happened, with its evidence."""
    run = make_run(bars=bars, symbols=["AAPL", "MSFT"], trades=9)
    summary = run["summary"]
    summary["evidence"], summary["account"] = make_evidence(word), summary["verdict"]
    return run


def hostile_evidence() -> dict[str, Any]:
    """Every string of the evidence would like to be a script."""
    evil = " ".join(HOSTILE)

    def spoil(value: Any, name: str = "") -> Any:
        if isinstance(value, dict):
            return {key: spoil(item, key) for key, item in value.items()}
        if isinstance(value, list):
            return [spoil(item, name) for item in value]
        return evil if isinstance(value, str) and name not in ("unit", "units", "kind", "key") else value

    evidence = spoil(make_evidence())
    for answer in evidence["answers"]:
        answer["key"] = evil
        for figure in answer["figures"]:
            figure["needs"] = "" if figure["value"] is not None else evil
    return evidence


@pytest.fixture(scope="module")
def page() -> str:
    return make_report(**judged_run())


def test_verdict_and_facts_come_first_then_the_account_then_the_questions(page: str) -> None:
    text = Reader(page).text
    evidence = make_evidence()
    order = [
        "Is it real?", evidence["verdict"]["word"], *evidence["verdict"]["facts"], "Equity and drawdown", "Net return",
        *(answer["question"] for answer in evidence["answers"]), "Positions", "Trades and the news",
    ]  # fmt: skip
    start = text.index(order[0])
    for words in order:
        start = text.index(words, start)
    title = re.search("<title>(.*?)</title>", page)
    assert title is not None
    assert title[1].endswith(": cannot tell")


def test_every_figure_with_its_interval_p_value_and_observations_is_on_the_page(page: str) -> None:
    text = Reader(page).text
    seen = 0
    for answer in make_evidence()["answers"]:
        assert answer["said"] in text
        rows = re.findall(r"<tr.*?</tr>", section(page, answer["key"]), re.DOTALL)
        for figure in answer["figures"]:
            row = next(row for row in rows if f"<b>{escape(figure['name'])}</b>" in row)
            shown = Reader(row).text
            expected = [f"{figure['n']:,} {figure['of']}", figure["said"], figure["needs"]]
            for name in ("value", "low", "high"):
                if figure[name] is not None:
                    expected.append(in_unit(figure[name], figure["unit"]).replace("\xa0", " "))
            if figure["p"] is not None:
                expected.append(in_unit(figure["p"], "p"))
            if figure["draws"]:
                expected.append(f"{figure['draws']:,} draws")
            for words in expected:
                assert words in re.sub(r"\s+", " ", shown), (figure["key"], words)
            assert figure["source"] in text
            seen += 1
    assert seen > 30


def section(page: str, key: str) -> str:
    found = re.search(f'<section id="q-{key}".*?</section>', page, re.DOTALL)
    assert found is not None
    return found[0]


def test_tables_notes_curves_and_marks_are_in_their_section(page: str) -> None:
    predicts, lasts = Reader(section(page, "predicts")).text, Reader(section(page, "lasts")).text
    for words in ("positive texts", "negative texts", "bars from the news", "holding", "lowest", "−0.19 %", "0.72"):
        assert words in predicts
    assert "All parts: 15 rows" in lasts
    assert "A market rises where its past 60 days did" in lasts
    assert section(page, "predicts").count('<svg class="answer"') == 3  # both kinds of texts share one


def test_tests_have_a_mark_each_and_the_rule_is_there(page: str) -> None:
    verdict = re.search('<section id="verdict".*?</section>', page, re.DOTALL)
    assert verdict is not None
    marks = re.search('<ul class="marks">.*?</ul>', verdict[0], re.DOTALL)
    assert marks is not None
    assert re.findall('class="mark (\\w+)"', marks[0]) == ["open", "passed", "passed", "passed", "failed", "passed"]
    assert "It is called real where all of this holds" in verdict[0]


@pytest.mark.parametrize(("word", "tone"), [("real", "good"), ("not real", "bad"), ("cannot tell", "open")])
def test_the_word_has_its_colour(word: str, tone: str) -> None:
    assert f'class="verdict whole {tone}"' in make_report(**judged_run(word, bars=40))


def test_without_evidence_the_page_has_nothing_of_it() -> None:
    run = make_run(bars=40, symbols=["AAPL"], trades=2)
    page = make_report(**run)
    for words in ("Question 1", "Is it real", "q-luck", ".facts-of", "trained until</"):
        assert words not in page
    assert page.index('id="verdict"') < page.index('class="tiles"') < page.index('id="equity"')


def test_the_account_alone_is_told_only_where_it_says_something_else() -> None:
    run = judged_run(bars=40)
    assert "By its account alone: cannot tell" in make_report(**run)
    run["summary"]["account"] = {"word": "cannot tell", "reasons": run["summary"]["evidence"]["verdict"]["facts"]}
    assert "By its account alone" not in make_report(**run)


def drawn(run: dict[str, Any]) -> dict[str, Any]:
    found = re.search('id="drawings">(.*?)</script>', make_report(**run), re.DOTALL)
    assert found is not None
    return next(drawing for drawing in json.loads(found[1]) if drawing["id"] == "equity")


def test_cut_offs_within_the_bars_are_lines_and_others_are_told() -> None:
    run = judged_run()
    within = run["result"].equity.index[100]
    run["summary"]["model"] |= {"trained_until": within.isoformat(), "base_cutoff": "2021-09-30"}
    layout = drawn(run)["layout"]
    line = next(shape for shape in layout["shapes"] if shape["type"] == "line")
    assert pd.Timestamp(line["x0"], tz="UTC") == within
    assert "the model was trained until" in [note["text"] for note in layout["annotations"]]
    assert "Its base knows until 2021-09-30, before these bars." in make_report(**run)
    del run["summary"]["evidence"]
    assert "the model was trained until" not in [note["text"] for note in drawn(run)["layout"]["annotations"]]


def test_a_model_that_nobody_knows_has_no_cut_off() -> None:
    run = judged_run(bars=40)
    run["summary"]["model"] = {"name": "own scores", "trained_until": None, "base_cutoff": None, "trained_on": ["?"]}
    assert "before these bars" not in make_report(**run)


@pytest.mark.parametrize("evil", HOSTILE)
def test_foreign_text_in_the_evidence_stays_text(evil: str) -> None:
    run = judged_run(bars=40)
    harmless = Reader(make_report(**run))
    tags = {tag for tag, _ in harmless.elements}
    run["summary"]["evidence"] = hostile_evidence()
    page = make_report(**run)
    hostile = Reader(page)
    assert {tag for tag, _ in hostile.elements} <= tags
    assert sum(tag == "script" for tag, _ in hostile.elements) == 3
    assert not any(name.startswith("on") for _, had in hostile.elements for name in had)
    # A tag left open would swallow what follows, up to the end of one of the page's own.
    count = {name: sum(tag == name for tag, _ in harmless.elements) for name in ("section", "svg", "text", "table")}
    assert count == {name: sum(tag == name for tag, _ in hostile.elements) for name in count}
    assert all(re.fullmatch("[a-z0-9-]*", str(had["id"])) for _, had in hostile.elements if "id" in had)
    assert hostile.text.count(re.sub(r"\s+", " ", evil.replace("\x00", "\ufffd"))) > 20


def test_a_figure_is_drawn_in_proportion_over_its_zero() -> None:
    figure = {**FIGURE, "value": 0.5, "low": 0.0, "high": 1.0}
    svg = draw_interval(figure, (-1.0, 1.0))  # 240 wide, 8 at each edge: -1 at 8, 0 at 120, 1 at 232
    assert re.findall('<circle cx="([0-9.]+)"', svg) == ["176.0"]
    assert '<rect x="120.0" y="7" width="112.0"' in svg
    assert '<line x1="120.0" x2="120.0" y1="1"' in svg
    assert "95 % interval 0.000 to 1.000" in svg


@pytest.mark.parametrize(
    ("values", "shade"),
    [
        ({"low": 0.01, "high": 0.1}, "#1f5fa8"),
        ({"low": -0.1, "high": -0.01, "value": -0.05}, "#b4531b"),
        ({"low": -0.1, "high": 0.1}, "#7b8794"),
        ({"low": None, "high": None, "p": 0.04}, "#1f5fa8"),
        ({"low": None, "high": None, "p": 0.06}, "#7b8794"),
        ({"unit": "p", "value": 0.96, "low": None, "high": None}, "#1f5fa8"),
        ({"unit": "p", "value": 0.94, "low": None, "high": None}, "#7b8794"),
    ],
)
def test_only_what_is_told_from_zero_has_a_colour(values: dict[str, Any], shade: str) -> None:
    assert f'r="5" fill="{shade}"' in draw_interval({**FIGURE, **values}, (-1.0, 1.0))


def test_figures_that_mean_the_same_share_a_scale_and_others_do_not() -> None:
    lags = [{**FIGURE, "key": f"lag_{at}", "low": None, "high": at * 0.1, "value": at * 0.1} for at in (1, 2, 3)]
    other = {**FIGURE, "low": 0.0, "high": 9.0}
    scales = to_scales([*lags, other])
    assert scales["lag_1"] == scales["lag_2"] == scales["lag_3"]
    assert scales["lag_1"][1] == pytest.approx(0.3 * 1.04)
    assert scales["ic"][1] == pytest.approx(9.0 * 1.04)
    together = to_scales([*lags, other], together=True)
    assert set(together.values()) == {scales["ic"]}
    assert to_scales([{**FIGURE, "low": None, "high": None}]) == {}  # its own length would be all of it
    assert to_scales([{**FIGURE, "unit": "p", "low": None}]) == {"ic": (0.0, 1.0)}


def test_a_figure_that_lacks_data_says_what_it_needs_and_has_no_number() -> None:
    row = figures_table(
        [{**FIGURE, "value": None, "low": None, "high": None, "p": None, "needs": "30 days; there are 9"}]
    )
    text = Reader(row).text
    assert "needs 30 days; there are 9" in text
    assert "None" not in text
    assert "nan" not in text


def test_a_histogram_marks_the_own_value_and_colours_what_did_as_well() -> None:
    curve = {**CURVE, "kind": "histogram", "unit": "count", "y": [5.0, 3.0, 1.0], "marks": [[2.6, "own"]]}
    shades = re.findall(
        '<rect x="[^"]*" y="[^"]*" width="[^"]*" height="[^"]*" fill="(#[0-9a-f]+)"', draw_curves([curve])
    )
    assert shades == ["#c3cbd3", "#c3cbd3", "#b4531b"]
    assert re.findall('fill="(#[0-9a-f]+)"', draw_small(curve)) == shades
    assert ">own</text>" in draw_curves([curve])


def test_four_histograms_stand_in_a_row_and_other_curves_are_wider() -> None:
    worlds = [{**CURVE, "key": f"w{at}", "kind": "histogram", "unit": "count"} for at in range(4)]
    assert curves_part(worlds).count('viewBox="0 0 270 176"') == 4
    assert "of-4" in curves_part(worlds)
    assert "of-3" in curves_part(worlds[:3])
    assert 'viewBox="0 0 400 232"' in curves_part([CURVE])


def test_what_a_deflated_ratio_takes_is_a_level_of_its_curve() -> None:
    curve = {**CURVE, "key": "deflated_by_trials", "unit": "percent", "y": [0.99, 0.8, 0.6]}
    level = 192 + (12 - 192) * 0.95  # between the foot and the top of 232, with 40 and 12 left
    assert f'y1="{level:.1f}" y2="{level:.1f}"' in draw_curves([curve])
    assert f'y1="{level:.1f}" y2="{level:.1f}"' not in draw_curves([{**curve, "key": "other"}])


def test_gaps_in_a_curve_are_not_bridged() -> None:
    gap = {**CURVE, "x": [1.0, 2.0, 3.0, 4.0, 5.0], "y": [0.1, 0.2, None, 0.4, 0.5], "low": [0.0, 0.1, None, 0.3, 0.4],
           "high": [0.2, 0.3, None, 0.5, 0.6]}  # fmt: skip
    svg = draw_curves([gap])
    assert svg.count("<polyline") == 2
    assert svg.count("<polygon") == 2
    assert svg.count("<circle") == 4


@pytest.mark.parametrize(
    "change",
    [
        {"x": [1.0], "y": [0.1]},
        {"x": [2.0, 2.0, 2.0], "y": [0.0, 0.0, 0.0]},
        {"kind": "bars", "labels": ["a", "b" * 60, "c"], "y": [-1.0, 0.0, None]},
        {"kind": "histogram", "x": [3.0], "y": [199.0], "marks": [[3.0, "own"]]},
        {"kind": "histogram", "marks": [[-400.0, "own"]]},
        {"x": [1e2, 1e5, 1e9], "unit": "cash", "y": [1e3, -1e9, 1e12]},
        {"labels": ["a", "b", "c"], "marks": [[2.0, "m"], [3.0, "n"]]},
        {"unit": "p", "y": [0.0, 1.0, 0.5]},
        {"y": [0.0, 0.0, 1e-9], "unit": "percent"},
    ],
)
def test_odd_curves_are_drawn_within_their_frame(change: dict[str, Any]) -> None:
    svg = draw_curves([{**CURVE, **change}])
    assert "nan" not in svg
    for place in re.findall(r'\b(?:x|x1|x2|cx)="(-?[0-9.]+)"', svg):
        assert -1 <= float(place) <= 401
    for place in re.findall(r'\b(?:y1|y2|cy)="(-?[0-9.]+)"', svg):
        assert -1 <= float(place) <= 320


def test_a_curve_without_a_value_is_not_drawn() -> None:
    assert curves_part([{**CURVE, "y": [None, None, None]}]) == ""


@pytest.mark.parametrize(
    ("value", "unit", "written"),
    [
        (0.123, "percent", "12.3\xa0%"), (-1.5, "ratio", "−1.50"), (1738.0, "count", "1,738"), (0.0001, "p", "< 0.001"),
        (0.99991, "p", "> 0.999"), (0.05, "p", "0.050"), (1.0, "bars", "1\xa0bar"), (-0.0001, "correlation", "0.000"),
        (2.5e6, "cash", "2,500,000"), (0.0123, "ratio", "0.012"), (None, "ratio", "–"),
    ],
)  # fmt: skip
def test_figures_are_written_in_their_unit(value: float | None, unit: str, written: str) -> None:
    assert in_unit(value, unit) == written


def test_the_terminal_says_the_same_in_a_hundred_columns() -> None:
    evidence = make_evidence("not real")
    text = to_evidence_text(evidence)
    lines = text.splitlines()
    assert lines[0] == "IS IT REAL? NOT REAL"
    assert max(map(len, lines)) <= WIDTH
    assert not [line for line in lines if line != line.rstrip()]
    assert text.isascii()
    words = re.sub(r"\s+", " ", text)
    for answer in evidence["answers"]:
        assert answer["question"].upper() in text
        assert answer["said"] in words
        for figure in answer["figures"]:
            assert figure["name"] in words
            assert figure["needs"] in words
            assert f"{figure['n']:,} {figure['of']}" in words
    assert re.search(r"Net return +14.6%  2.10% to 31.5% +437 days", text)
    assert re.search(r"Labels flipped +1.41 +p 0.015  212 stories", text)
    assert re.search(r"failed +survives the search", text)


def test_a_long_name_on_the_terminal_stands_whole_above_what_the_figure_needs() -> None:
    evidence = make_evidence()
    name, needs = "Return a year beyond the same with names hidden, in worlds", "a model; these scores come from " * 4
    evidence["answers"][0]["figures"][0] |= {"name": name, "value": None, "needs": needs.strip(), "n": 0}
    lines = to_evidence_text(evidence).splitlines()
    at = lines.index("  Return a year beyond the same with")
    assert lines[at + 1] == "  names hidden, in worlds"
    assert lines[at + 2].startswith(" " * 42 + "needs a model; ")
    assert all(line.startswith(" " * 42) for line in lines[at + 2 : at + 5])
    assert " ".join(" ".join(lines[at + 2 : at + 5]).split()) == f"needs {needs.strip()} (n = 0 days)"
    assert max(map(len, lines)) <= WIDTH


@pytest.mark.parametrize(("of", "one"), [("trials", "1 trial"), ("stories", "1 story"), ("days", "1 day")])
def test_a_figure_that_rests_on_one_says_so_in_the_singular(of: str, one: str) -> None:
    evidence = make_evidence()
    evidence["answers"][0]["figures"][0] |= {"n": 1, "of": of}
    assert re.search(rf"Net return .* {one}$", to_evidence_text(evidence), flags=re.MULTILINE)
    shown = figures_table(evidence["answers"][0]["figures"][:1])
    assert f"{one[:2]}<bdi>{one[2:]}</bdi>" in shown


def test_the_terminal_is_not_steered_by_foreign_text() -> None:
    evidence = make_evidence()
    evidence["answers"][0]["said"] = "\x1b[31mred\x07\r\u202eback"
    evidence["answers"][0]["figures"][0] |= {
        "name": "a name\nof two lines " * 4,
        "of": "stories of\x1b the whole market",
    }
    text = to_evidence_text(evidence)
    assert not [letter for letter in text if not letter.isprintable() and letter != "\n"]
    assert max(map(len, text.splitlines())) <= WIDTH


# --- in a browser ----------------------------------------------------------------------------------------

WATCH = """addEventListener("load", function () { setTimeout(function () {
  var wide = [];
  document.querySelectorAll("body *").forEach(function (part) {
    if (part.closest(".scroll, details:not([open])")) { return; }
    if (part.getBoundingClientRect().right > innerWidth + 1) { wide.push(part.tagName + " " + part.className); }
  });
  parent.postMessage([innerWidth, document.documentElement.scrollWidth, wide.slice(0, 5).join("; ")].join("|"), "*");
}, 1500); });"""


@pytest.fixture
def chromium(tmp_path: Path) -> list[str]:
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("needs Chromium (chromium or google-chrome on the path)")
    return [
        *(program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars"),
        *("--enable-logging=stderr", "--v=0", f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=6000"),
    ]


@pytest.mark.slow
def test_chromium_runs_no_foreign_script_and_sends_no_request(chromium: list[str], tmp_path: Path) -> None:
    visits: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        here = f"http://127.0.0.1:{server.getsockname()[1]}/"

        def listen() -> None:
            while True:
                try:
                    caller, _ = server.accept()
                except OSError:
                    return
                visits.append(caller.recv(100))
                caller.close()

        threading.Thread(target=listen, daemon=True).start()
        run = judged_run(bars=40)
        evidence = run["summary"]["evidence"] = hostile_evidence()
        tracked = f'<img src="{here}a"><script src="{here}b"></script><svg><image href="{here}c"/></svg>'
        evidence["verdict"]["facts"][0] += tracked
        for answer in evidence["answers"]:
            answer["said"] += tracked
            for curve in answer["curves"]:
                curve["name"] += tracked
                curve["labels"] = [tracked for _ in curve["labels"]]
        path = write_report(tmp_path / "report.html", **run)
        command = [*chromium, "--dump-dom", path.as_uri()]
        seen = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
        server.shutdown(socket.SHUT_RDWR)
    assert visits == []
    assert [line for line in seen.stderr.splitlines() if "CONSOLE" in line] == []
    title = re.search("<title>(.*?)</title>", seen.stdout, re.DOTALL)
    assert title is not None
    assert title[1] != "owned"


@pytest.mark.slow
@pytest.mark.parametrize("width", [400, 1280])
def test_chromium_shows_the_page_without_anything_beyond_its_edge(
    width: int, chromium: list[str], tmp_path: Path
) -> None:
    """In a frame of that width, because a window of Chromium is never less than 500 wide."""
    page = make_report(**judged_run())
    digest = base64.b64encode(hashlib.sha256(WATCH.encode()).digest()).decode()
    page = page.replace("script-src ", f"script-src 'sha256-{digest}' ", 1)
    (tmp_path / "page.html").write_text(page.replace("</body>", f"<script>{WATCH}</script></body>"), encoding="utf-8")
    frame = tmp_path / "frame.html"
    frame.write_text(
        "<script>onmessage = function (told) { document.title = told.data; }</script>"
        f'<iframe src="page.html" style="width:{width}px;height:900px;border:0"></iframe>',
        encoding="utf-8",
    )
    command = [*chromium, "--window-size=1500,900", "--dump-dom", frame.as_uri()]
    seen = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    title = re.search("<title>(.*?)</title>", seen.stdout, re.DOTALL)
    assert title is not None
    assert title[1] == f"{width}|{width}|"


@pytest.mark.slow
def test_chromium_prints_the_page(chromium: list[str], tmp_path: Path) -> None:
    path = write_report(tmp_path / "report.html", **judged_run())
    paper = tmp_path / "report.pdf"
    command = [*chromium, f"--print-to-pdf={paper}", path.as_uri()]
    subprocess.run(command, capture_output=True, timeout=300, check=True)
    content = paper.read_bytes()
    assert content.startswith(b"%PDF")
    assert 4 <= len(re.findall(rb"/Type\s*/Page\b", content)) <= 20
