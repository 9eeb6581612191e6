import ast
import io
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from letsam.results import Results, Run

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")
rich_console = pytest.importorskip("rich.console")

from letsam.reports import figures  # noqa: E402
from letsam.reports import table as tables  # noqa: E402
from letsam.reports.html import render_report, write_report  # noqa: E402
from letsam.reports.styles import method_styles  # noqa: E402
from letsam.reports.verdict import missing_runs, verdict  # noqa: E402


def make_run(method, seed, accuracy, *, passes=100, rho=0.05, loss=0.5):
    learned = method.startswith("lets-")
    rho = None if method == "sgd" else rho
    final = rho * 4 if learned else rho
    return Run(
        method=method,
        seed=seed,
        rho_initial=rho,
        rho_final=final,
        test_accuracy=accuracy,
        test_loss=loss,
        train_loss=0.3,
        validation_loss=0.6 if learned else None,
        generalization_gap=loss - 0.3,
        gradient_passes=passes,
        seconds=2.0,
        history={
            "epoch": [1.0, 2.0, 3.0],
            "train_loss": [0.9, 0.5, 0.3],
            "test_loss": [1.0, 0.7, loss],
            "test_accuracy": [0.5, 0.7, accuracy],
            "validation_loss": [1.1, 0.8, 0.6] if learned else [None] * 3,
            "generalization_gap": [0.1, 0.2, loss - 0.3],
            "rho": [rho, rho, final],
            "hypergradient": [-1.0, 0.001, 0.0] if learned else [None] * 3,
            **({"rho_schedule": [rho + (final - rho) * step / 8 for step in range(9)]} if learned else {}),
        },
    )


def trial(accuracies, **options):
    """Results from {method: accuracy of each seed}; a passes_{method} option sets the cost."""
    passes = {"sgd": 100, "sam": 200, "asam": 200}
    runs = tuple(
        make_run(method, seed, accuracy, passes=passes.get(method.split(":")[0], 300))
        for method, row in accuracies.items()
        for seed, accuracy in enumerate(row)
    )
    return Results("digits", {"methods": list(accuracies), "epochs": 3, **options}, {"torch": "2.9"}, runs)


@pytest.fixture
def five():
    return trial(
        {
            "sgd": [0.70, 0.71, 0.72],
            "sam": [0.80, 0.81, 0.82],
            "sam:0.1": [0.85, 0.86, 0.87],
            "lets-sam": [0.90, 0.91, 0.92],
            "lets-sam+refit": [0.86, 0.865, 0.87],
        }
    )


@pytest.fixture
def broken():
    """The second seed of the second method explodes and ends in NaN."""
    results = trial({"sgd": [0.7, 0.71], "lets-sam": [0.9, 0.1]})
    run = make_run("lets-sam", 1, 0.1, loss=math.nan)
    history = {**run.history, "test_loss": [1.0, 1e9, math.nan], "generalization_gap": [0.1, 1e9, math.nan]}
    return results.with_run(Run(**{**vars(run), "history": history}))


# --- the table ---------------------------------------------------------------------------------------------


def test_the_markdown_table_shows_means_and_marks_the_best(five):
    lines = tables.markdown_table(five).splitlines()
    assert lines[0] == (
        "| method | test accuracy % | test loss | gap | rho initial → final | gradient passes | seconds |"
    )
    assert lines[2] == "| sgd | 71.00 ± 1.00 | 0.500 | 0.200 | \N{EN DASH} | 100 | 2.0 |"
    assert lines[3] == "| sam | 81.00 ± 1.00 | 0.500 | 0.200 | 0.05 | 200 | 2.0 |"
    assert lines[5] == (
        "| **lets-sam** | **91.00 ± 1.00** | **0.500** | **0.200** | **0.05 → 0.2** | **300** | **2.0** |"
    )
    assert len(lines) == 7
    assert sum("**" in line for line in lines) == 1


def test_another_metric_goes_by_its_name_everywhere(five):
    runs = tuple(Run(**{**vars(run), "metric": "BLEU"}) for run in five.runs)
    bleu = Results(five.task, five.config, five.environment, runs)
    assert tables.markdown_table(bleu).startswith("| method | test BLEU | test loss |")
    assert "91.00 ± 1.00 |" in tables.markdown_table(bleu).replace("*", "")  # times 100 all the same
    assert "lets-sam reached the highest mean test BLEU: 91.00 ± 1.00 over 3 seeds." in verdict(bleu).headline
    for draw in (figures.learning_curves, figures.method_comparison):
        assert draw(bleu).axes[0].get_title(loc="left") == "Test BLEU"
        assert draw(five).axes[0].get_title(loc="left") == "Test accuracy (%)"
    page = render_report(bleu)
    assert "The BLEU of the test samples times 100" in page
    assert "accuracy" not in re.sub(r"<svg.*?</svg>", "", page, flags=re.DOTALL).lower()


def rendered(table, width):
    console = rich_console.Console(file=io.StringIO(), width=width, force_terminal=True, color_system="standard")
    console.print(table)
    return console.file.getvalue()


def test_the_terminal_table_fits_80_columns_and_bolds_the_best_row_only(five):
    text = rendered(tables.results_table(five), 80)
    assert "…" not in text
    assert "71.00 ± 1.00" in text
    rows = [line for line in text.splitlines() if "±" in line]
    assert [line.startswith("\x1b[1m") for line in rows] == [False, False, False, True, False]


def test_a_method_name_is_not_taken_for_markup():
    results = trial({"sgd": [0.5], "[red]|x": [0.6]})
    assert "[red]|x" in rendered(tables.results_table(results), 100)
    assert r"[red]\|x" in tables.markdown_table(results)


def test_diverged_and_missing_runs_are_told_in_the_table(broken):
    sgd, learned = tables.table_rows(broken)
    assert learned.cells[1].endswith("(1 diverged)")
    assert learned.cells[2:4] == ("diverged", "diverged")
    assert (sgd.best, learned.best) == (True, False)
    short = Results(broken.task, {}, {}, broken.runs[:3])
    assert tables.table_rows(short)[1].cells[0] == "lets-sam (1/2 seeds)"


def test_nothing_is_best_when_every_accuracy_is_nan():
    assert [row.best for row in tables.table_rows(trial({"sgd": [math.nan], "sam": [math.nan]}))] == [False, False]


# --- the verdict -------------------------------------------------------------------------------------------


def test_a_clear_winner(five):
    found = verdict(five)
    assert found.headline == (
        "Of the 5 methods compared on digits, lets-sam reached the highest mean test accuracy: 91.00 ± 1.00 % over "
        "3 seeds. Its lead over each of the others is at least one standard deviation over seeds."
    )
    assert found.comparisons[0] == (
        "lets-sam",
        "+5.00 points against sam:0.1, the best fixed radius here, at 1.50 times its gradient passes; "
        "+20.00 points against sgd, at 3.00 times its gradient passes.",
    )


def test_a_difference_below_one_standard_deviation_is_hedged(five):
    method, sentence = verdict(five).comparisons[1]
    assert method == "lets-sam+refit"
    assert sentence.startswith("no clear difference (+0.50 points, one standard deviation is 1.00) against sam:0.1")


def test_a_learned_method_that_loses_is_said_to_lose():
    found = verdict(trial({"sgd": [0.70, 0.71], "sam": [0.90, 0.91], "lets-sam": [0.80, 0.81]}))
    assert found.headline.startswith("Of the 3 methods compared on digits, sam reached")
    assert found.comparisons == (
        (
            "lets-sam",
            "-10.00 points against sam, at 1.50 times its gradient passes; "
            "+10.00 points against sgd, at 3.00 times its gradient passes.",
        ),
    )


def test_a_narrow_lead_is_not_called_one():
    headline = verdict(trial({"sgd": [0.70, 0.72], "sam": [0.705, 0.725]})).headline
    assert "sam reached" in headline
    assert "It is not clearly ahead of sgd" in headline


def test_equal_methods_are_not_separated():
    assert "not clearly ahead of sam" in verdict(trial({"sgd": [0.7, 0.7], "sam": [0.7, 0.7]})).headline


def test_one_seed_allows_no_claim():
    found = verdict(trial({"sgd": [0.7], "sam": [0.8], "lets-sam": [0.9]}))
    assert "lets-sam reached the highest mean test accuracy: 90.00 % (one seed)." in found.headline
    assert "Whether it is really ahead of sgd and sam cannot be told" in found.headline
    assert "at least one standard deviation" not in found.headline
    assert found.comparisons[0][1].count("(one seed only, so it may be chance)") == 2


def test_only_shared_seeds_are_compared():
    # Over all seeds lets-sam would lead by 5 points; over the two that both have finished it is 20.
    results = trial({"sgd": [0.6, 0.62, 0.93], "lets-sam": [0.8, 0.82]}, seeds=[0, 1, 2])
    found = verdict(results)
    assert found.comparisons[0][1].startswith("+20.00 points against sgd")
    assert found.caveats[0].startswith("The trial is incomplete: 1 of 6 runs are missing.")


def test_seeds_that_only_the_learned_method_has_are_left_out():
    assert verdict(trial({"sgd": [0.6, 0.62], "lets-sam": [0.8, 0.82, 0.1]})).comparisons[0][1].startswith("+20.00 ")
    apart = Results("t", {}, {}, (make_run("sgd", 0, 0.5), make_run("lets-sam", 1, 0.6)))
    assert verdict(apart).comparisons == (("lets-sam", "no seed shared with sgd."),)


def test_missing_runs_include_the_refits():
    results = trial({"sgd": [0.6, 0.6], "lets-sam": [0.8]}, seeds=[0, 1], refit=True)
    assert missing_runs(results) == (("lets-sam", 1), ("lets-sam+refit", 0), ("lets-sam+refit", 1))
    many = trial({"lets-sam-per-layer": [0.8, 0.8]}, seeds=[0, 1], refit=True)
    assert missing_runs(many) == (("lets-sam-per-layer+refit", 0), ("lets-sam-per-layer+refit", 1))


def test_a_single_method_is_compared_with_nothing():
    found = verdict(trial({"sgd": [0.7, 0.8]}))
    assert found.headline.startswith(
        "Only sgd has been run; it reached a test accuracy of 75.00 ± 7.07 % over 2 seeds."
    )
    assert found.comparisons == ()


def test_divergence_is_reported(broken):
    assert any("lets-sam (1 of 2)" in caveat for caveat in verdict(broken).caveats)
    found = verdict(trial({"sgd": [0.7, 0.7], "lets-sam": [0.9, math.nan]}))
    assert "sgd reached the highest" in found.headline
    assert "at least one standard deviation" not in found.headline
    assert found.comparisons[0][1] == "not compared with sgd, because a run diverged."
    assert "no method can be called the best" in verdict(trial({"sgd": [math.nan], "sam": [math.nan]})).headline


def test_the_advantage_of_choosing_among_fixed_radii_is_told(five):
    assert any("The best of the 2 fixed radii is chosen by its test accuracy" in text for text in verdict(five).caveats)
    assert not any("fixed radii" in text for text in verdict(trial({"sam": [0.7], "lets-sam": [0.8]})).caveats)


# --- the figures -------------------------------------------------------------------------------------------


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


# --- the page ----------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Collects what a browser would see."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.ids, self.loads, self.text = [], [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            if name in {"src", "href", "xlink:href", "data", "srcset", "action"} and not value.startswith("#"):
                self.loads.append(value)
            if name.startswith("on"):
                self.loads.append(f"{name}={value}")

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_is_one_self_contained_file_without_scripts(five, tmp_path):
    path = tmp_path / "out" / "report.html"
    write_report(five, path)
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]
    html = path.read_text(encoding="utf-8")
    page = Page(html)
    assert page.loads == []
    assert not {"script", "link", "img", "iframe", "object", "embed"} & set(page.tags)
    assert set(re.findall(r"https?://[^\s\"'<]*", html)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert not re.search(r"@import|url\((?!#)", html)
    assert page.tags.count("figure") == 8
    assert len(page.ids) == len(set(page.ids))


def test_every_reference_within_the_page_has_a_target(five):
    html = render_report(five)
    ids = set(Page(html).ids)
    targets = set(re.findall(r'href="#([^"]+)"', html)) | set(re.findall(r"url\(#([^)]+)\)", html))
    assert targets
    assert targets <= ids


def test_the_page_holds_verdict_table_configuration_and_environment(five):
    text = "".join(Page(render_report(five)).text)
    found = verdict(five)
    for expected in (found.headline, found.comparisons[0][1], *found.caveats):
        assert expected in text
    for cell in ("91.00 ± 1.00", "0.05 → 0.2", "epochs", "torch", "2.9", "Generalization gap"):
        assert cell in text


def test_the_same_results_give_the_same_page(five):
    assert render_report(five) == render_report(five)


def test_text_is_escaped():
    results = trial({"sgd": [0.5], "<b>x</b>&": [0.6]}, note="<script>alert(1)</script>")
    html = render_report(Results("<i>task</i>", results.config, {"platform": "<img src=x>"}, results.runs))
    page = Page(html)
    assert not {"script", "img", "i"} & set(page.tags)
    assert "<script>alert(1)</script>" in "".join(page.text)
    assert "<i>task</i>" in "".join(page.text)


def test_a_trial_of_sgd_alone_says_that_there_is_no_radius():
    page = Page(render_report(trial({"sgd": [0.7]})))
    text = "".join(page.text)
    assert "No radius to show" in text
    assert "No hypergradient to show" in text
    assert "figure-radius" in page.ids
    assert not any(name.startswith("radius-") for name in page.ids)


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_an_incomplete_trial_has_a_page(broken, count):
    html = render_report(Results("digits", {"methods": ["sgd", "lets-sam"], "seeds": [0, 1]}, {}, broken.runs[:count]))
    expected = (
        "No run has finished yet" if count == 0 else f"The trial is incomplete: {4 - count} of 4 runs are missing"
    )
    assert expected in html


def test_diverged_runs_have_a_page(broken):
    assert "diverged" in render_report(broken)
    assert "Nothing to draw" in render_report(trial({"sgd": [math.nan]}))


def test_reports_import_nothing_of_the_project_but_results():
    folder = Path(figures.__file__).parent
    imported = set()
    for file in folder.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0
                imported.add(node.module)
            elif isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
    ours = {name for name in imported if name.startswith("letsam") and not name.startswith("letsam.reports")}
    assert ours == {"letsam.results"}
    assert "matplotlib.pyplot" not in imported
