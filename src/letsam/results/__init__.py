"""The records of a trial, and the one JSON file that holds them.

A trial trains methods x seeds on one task. Each finished run is a `Run`, and all of them together are a `Results`.
`Results.save` writes them as ``results.json`` in one atomic step. Every table, figure and page is made from that file:

    results = Results.load("out/results.json")
    for row in summarize(results):
        print(row.method, row.test_accuracy)

- `records`: `Run` and `Results`
- `names`: what the name of a method says
- `summaries`: means over seeds
- `schema`: the checks of a file that is read; the fields are documented in ``docs/results-schema.md``
- `files`, `lock`: atomic writing; one run at a time for each folder
- `printable`: text from files, made safe to show and to store
"""

from letsam.results.files import checked_folder, remove_leftovers, replacing, replacing_folder, write_atomically
from letsam.results.lock import locked_folder
from letsam.results.names import REFIT, MethodName
from letsam.results.printable import encodable, printable
from letsam.results.records import Results, Run
from letsam.results.schema import SCHEMA
from letsam.results.summaries import Summary, finite_mean, finite_spread, summarize

__all__ = [
    "REFIT",
    "SCHEMA",
    "MethodName",
    "Results",
    "Run",
    "Summary",
    "checked_folder",
    "encodable",
    "finite_mean",
    "finite_spread",
    "locked_folder",
    "printable",
    "remove_leftovers",
    "replacing",
    "replacing_folder",
    "summarize",
    "write_atomically",
]
