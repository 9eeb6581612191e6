"""Tables, figures and the HTML page of a trial, made from its results; nothing here trains.

    from letsam.results import Results
    from letsam.reports.html import write_report
    from letsam.reports.table import results_table

    results = Results.load("out/results.json")
    rich.print(results_table(results))
    write_report(results, Path("out/report.html"))

This module imports none of its parts, so that the table can be had without importing matplotlib.
"""
