"""What a run takes for granted is said: what is charged, and what is left out."""

from dataclasses import replace

from finsignal.backtest import OrderRules
from finsignal.config import RunFile
from finsignal.signals import ExitRules
from finsignal.study import Inputs
from finsignal.study.assumptions import list_assumptions


def test_what_is_not_charged_is_named(tiny_run: RunFile, tiny_inputs: Inputs) -> None:
    said = " ".join(list_assumptions(tiny_run, tiny_inputs))
    assert "Not counted: the size of orders beside the bar's volume, interest on cash." in said
    short = replace(tiny_run, weights=replace(tiny_run.weights, short=True), market="XNYS")
    said = " ".join(list_assumptions(short, tiny_inputs))
    assert "the cost of borrowing shares, margin calls, dividends" in said


def test_what_is_charged_is_said_with_its_figures_and_not_named_as_left_out(
    tiny_run: RunFile, tiny_inputs: Inputs
) -> None:
    costs = replace(
        tiny_run.costs, fee_per_share=0.005, min_fee=1.0, impact=0.5, interest=0.02, borrow=0.01, maintenance=0.25
    )
    run = replace(
        tiny_run, costs=costs, orders=OrderRules(volume_share=0.025), weights=replace(tiny_run.weights, short=True)
    )
    said = " ".join(list_assumptions(run, tiny_inputs))
    assert "On top 0.005 for each unit; an order pays 1 at least." in said
    assert "by 0.5 times that volatility times the root of the order's share" in said
    assert "at most 2.50% of a bar's mean volume" in said
    assert "Not counted" not in said


def test_resting_stops_are_said_to_be_no_jobs(tiny_run: RunFile, tiny_inputs: Inputs) -> None:
    resting = replace(tiny_run, exits=ExitRules(stop_loss=0.1, resting=True))
    assert "a model that no job" in " ".join(list_assumptions(resting, tiny_inputs))
