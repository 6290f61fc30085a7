"""Tests of charts: the geometry of the columns and axes, and the short forms of numbers and names."""

import pytest

from gateway.web.dashboard import charts, words

SLOTS = [charts.Slot(f"Day {number}", str(number), "", "", "") for number in range(3)]


def drawn(series, **more):
    return charts.stacked(SLOTS, series, str, str, **more)


@pytest.mark.parametrize(
    ("highest", "end", "step"), [(0, 1, 1), (1, 1, 1), (7, 8, 2), (40, 40, 10), (41, 60, 20), (10**13, 10**13, None)]
)
def test_an_axis_ends_at_a_round_number_above_the_highest(highest, end, step):
    top, actual = charts.scale(highest)
    assert top >= max(highest, 1)
    assert (top, actual) == (end, step or actual)


def test_segments_stand_on_each_other_and_fill_the_column():
    chart = drawn([charts.Series("a", (1, 2, 0)), charts.Series("b", (3, 0, 0))])
    lower, upper = chart.columns[0].segments
    assert lower.y + lower.height == chart.base
    assert upper.y + upper.height == pytest.approx(lower.y)
    assert [len(column.segments) for column in chart.columns] == [2, 1, 0]


def test_a_hidden_series_leaves_the_columns_and_stays_in_the_legend():
    chart = drawn([charts.Series("a", (1, 2, 3)), charts.Series("b", (30, 0, 0), hidden=True)])
    assert [key.hidden for key in chart.legend] == [False, True]
    assert chart.columns[0].lines == (("Total", "1"),)
    assert chart.ticks[-1].label == "3"


def test_unknown_costs_have_a_mark_even_where_nothing_is_known():
    chart = drawn([charts.Series("a", (5, 0, 0))], unpriced=(0, 0, 4))
    assert [column.unpriced_y is None for column in chart.columns] == [True, True, False]
    assert chart.columns[2].lines == (("Total", "0"), ("Calls with an unknown cost", "4"))
    assert chart.unpriced


def test_the_period_before_is_a_line_within_the_plot():
    chart = drawn([charts.Series("a", (1, 1, 1))], before=(0, 10, 5))
    heights = [float(point.split(",")[1]) for point in chart.before.split()]
    assert heights == [charts.PLOT, 0, charts.PLOT / 2]


def test_names_without_a_colour_are_added_up():
    amounts = {str(number): (number, 1) for number in range(10)}
    named, others = charts.largest(amounts, 6)
    assert [name for name, _ in named] == ["9", "8", "7", "6", "5", "4", ""]
    assert named[-1][1] == (0 + 1 + 2 + 3, 4)
    assert others == 4


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (9_999, "9,999"), (10_000, "10.0k"), (999_949, "1.00M"), (1_234_567, "1.23M"), (12_345_678_901, "12.3B"),
     (-12_345, "-12.3k"), (10**15, "1,000T")],
)  # fmt: skip
def test_a_large_number_is_short(number, text):
    assert words.short(number) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [(None, "–"), (0, "0%"), (0.0001, "< 0.1%"), (0.034, "3.4%"), (0.099, "9.9%"), (0.5, "50%"), (1, "100%")],
)
def test_a_share_has_the_digits_that_say_something(share, text):
    assert words.percent(share) == text


@pytest.mark.parametrize(("nanodollars", "text"), [(-1, "> -$0.0001"), (-1_500_000_000, "-$1.50")])
def test_a_loss_is_negative(nanodollars, text):
    assert words.money(nanodollars) == text


def test_a_long_name_keeps_its_beginning_and_its_end():
    name = "a" * 5_000 + "-end"
    assert len(words.brief(name)) == 72
    assert words.brief(name).startswith("aaa")
    assert words.brief(name).endswith("-end")
    assert words.brief("short") == "short"
