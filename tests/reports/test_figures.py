"""The figures of a trial, and the styles of the methods."""

import math

import pytest

from letsam.results import Results, Run
from report_cases import make_run, trial

pytest.importorskip("matplotlib")

from letsam.reports import figures
from letsam.reports.html import render_report
from letsam.reports.styles import method_styles


def lines_of(figure):
    return [(line.get_color(), list(line.get_xdata()), list(line.get_ydata())) for line in figure.axes[0].lines]


def test_learning_curves_draw_the_mean_over_seeds(five):
    figure = figures.learning_curves(five)
    styles = method_styles(five)
    color, epochs, accuracy = lines_of(figure)[0]
    assert color == styles["sgd"].color
    assert epochs == [1, 2, 3]
    assert accuracy == pytest.approx([50, 70, 71])
    assert len(figure.axes[0].collections) == 5  # a band for each method
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == list(five.methods)
    assert figures.learning_curves(five, legend=False).legends == []


def test_a_curve_stops_where_a_seed_diverges_and_does_not_flatten_the_others(broken):
    figure = figures.learning_curves(broken, "test_loss")
    _, epochs, _ = lines_of(figure)[1]
    assert epochs == [1, 2]
    assert figure.axes[0].get_ylim()[1] < 100
    assert [text.get_text() for text in figure.axes[0].texts] == ["values beyond the edge are cut off"]


def test_the_radius_of_every_seed_is_drawn_step_by_step(five):
    figure = figures.radius_over_time(five)
    assert figure.axes[0].get_yscale() == "log"
    lines = lines_of(figure)
    assert len(lines) == 12  # 4 methods with a radius x 3 seeds
    _, epochs, rho = lines[6]
    assert (epochs[0], epochs[-1]) == pytest.approx((1 / 3, 3))
    assert (rho[0], rho[-1], len(rho)) == (pytest.approx(0.05), pytest.approx(0.2), 9)


def test_a_long_schedule_is_thinned_but_keeps_its_end():
    run = make_run("lets-sam", 0, 0.9)
    schedule = [0.05 + step * 1e-5 for step in range(10_007)]
    run = Run(**{**vars(run), "history": {**run.history, "rho_schedule": schedule}})
    _, epochs, rho = lines_of(figures.radius_over_time(Results("t", {}, {}, (run,))))[0]
    assert len(rho) < 300
    assert (epochs[-1], rho[-1]) == (3, schedule[-1])


def test_of_many_radii_the_mean_is_drawn():
    run = make_run("lets-sam-per-layer", 0, 0.9)
    schedule = [[0.1, 0.1], [0.1, 0.3], [math.nan, 0.3], [0.2, 0.6]]
    run = Run(**{**vars(run), "history": {**run.history, "rho_schedule": schedule}})
    (line,) = lines_of(figures.radius_over_time(Results("t", {}, {}, (run,))))
    assert line[1] == pytest.approx([3 / 4, 6 / 4, 3])
    assert line[2] == pytest.approx([0.1, 0.2, 0.4])


def test_the_gap_and_the_hypergradient_are_drawn(five):
    assert lines_of(figures.gap_over_time(five))[0][2] == pytest.approx([0.1, 0.2, 0.2])
    figure = figures.hypergradient_over_time(five)
    assert figure.axes[0].get_yscale() == "symlog"
    assert lines_of(figure)[0][2] == [-1.0, 0.001, 0.0]


def test_without_a_radius_there_is_no_figure():
    sgd = trial({"sgd": [0.7, 0.8]})
    assert figures.radius_over_time(sgd) is None
    assert figures.hypergradient_over_time(sgd) is None
    assert figures.learning_curves(Results("t", {}, {}, ())) is None
    assert figures.method_comparison(Results("t", {}, {}, ())) is None


def test_the_comparison_puts_the_best_on_top_and_emphasises_learned_ones(five):
    axes = figures.method_comparison(five).axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["sgd", "sam", "sam:0.1", "lets-sam+refit", "lets-sam"]
    weights = [label.get_fontweight() for label in axes.get_yticklabels()]
    assert weights == ["normal", "normal", "normal", "bold", "bold"]
    assert list(axes.lines[0].get_xdata()) == pytest.approx([70, 71, 72])  # the seeds of sgd
    assert list(axes.lines[1].get_xdata()) == pytest.approx([71, 71])  # and their mean
    labels = [label.get_text() for label in figures.method_comparison(five, "test_loss").axes[0].get_yticklabels()]
    assert len(labels) == 5


def test_a_method_that_learned_nothing_does_not_squeeze_the_others():
    results = trial({"sgd": [0.9], "sam:0.1": [0.91], "sam:0.2": [0.92], "asam": [0.93], "sam:9": [0.1]})
    axes = figures.method_comparison(results).axes[0]
    assert axes.get_xlim()[0] > 70
    assert any("mean 10.0" in text.get_text() for text in axes.texts)


def test_styles_tell_methods_apart_and_tie_a_refit_to_its_search():
    grid = [f"sam:{rho}" for rho in ("0.01", "0.02", "0.05", "0.1", "0.2", "0.5", "1.0")]
    learned = ["lets-sam:0.02", "lets-sam:0.1", "lets-asam"]
    runs = [make_run(m, 0, 0.9, rho=float(m.split(":")[1]) if ":" in m else 0.5) for m in ["sgd", *grid, *learned]]
    runs += [make_run("lets-sam:0.1+refit", 0, 0.9, rho=0.1), make_run("odd", 0, 0.9), make_run("odder", 0, 0.9)]
    styles = method_styles(Results("t", {}, {}, tuple(runs)))
    colors = [style.color for method, style in styles.items() if "+" not in method]
    assert len(set(colors)) == len(colors)
    assert styles["lets-sam:0.1+refit"].color == styles["lets-sam:0.1"].color
    assert styles["lets-sam:0.1+refit"].linestyle != styles["lets-sam:0.1"].linestyle
    assert styles["lets-sam:0.1"].linewidth > styles["sam:0.1"].linewidth
    brightness = [sum(int(styles[m].color[i : i + 2], 16) for i in (1, 3, 5)) for m in grid]
    assert brightness == sorted(brightness, reverse=True)  # a larger radius is darker


EXTREMES = [1e308, -1e308, 5e-324]


def with_numbers(run, value):
    """The run with this value in place of every number."""
    columns = {name: [value] * len(column) for name, column in run.history.items() if column[0] is not None}
    numbers = {name: value for name, number in vars(run).items() if isinstance(number, float)}
    return Run(**{**vars(run), **numbers, "history": {**run.history, **columns, "epoch": run.history["epoch"]}})


@pytest.mark.parametrize("values", [[value] for value in EXTREMES] + [[*EXTREMES, 1e150, 1e-320, 0.0]])
def test_no_finite_number_breaks_the_report(values):
    """In every number of all runs, and another number in each run next to an ordinary one."""
    found = trial({"sgd": [0.7, 0.71], "sam": [0.7, 0.8], "sam:0.1": [0.8, 0.8], "lets-sam": [0.9, 0.1]})
    runs = [with_numbers(run, value) for run, value in zip(found.runs, values * len(found.runs), strict=False)]
    if len(values) > 1:
        runs[6] = found.runs[6]
    page = render_report(Results("digits", found.config, {}, tuple(runs)))
    assert "</html>" in page
    assert "lets-sam" in page


def test_what_is_too_large_to_draw_is_left_out(five):
    runs = [run if run.method != "sam" else Run(**{**vars(run), "test_loss": 1e308}) for run in five.runs]
    history = {**runs[0].history, "test_loss": [1.0, 1e200, 0.5]}
    runs[0] = Run(**{**vars(runs[0]), "history": history})
    figure = figures.learning_curves(Results("digits", {}, {}, tuple(runs)), "test_loss")
    assert lines_of(figure)[0][1] == [1, 3]


def test_names_with_dollars_are_no_formulas(five):
    runs = tuple(
        Run(**{**vars(run), "metric": "a $x_1$ $\\frac$", "method": run.method.replace("sgd", "s$^$d$")})
        for run in five.runs
    )
    page = render_report(Results("digits", {}, {}, runs))
    assert page.count(">Test a $x_1$ $\\frac$</text>") == 2
    assert ">s$^$d$</text>" in page
