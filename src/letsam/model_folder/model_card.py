"""The README of a model: what it is, its numbers and where they come from, and how it is used."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from letsam.results import Results, Run, printable


def model_card(results: Results, config: Mapping[str, Any], split: Mapping[str, Any]) -> str:
    """The card in Markdown, with a head as the Hugging Face hub reads it.

    Args:
        results: with the run of the model.
        config: the content of ``model.json``.
        split: the content of ``split.json``.
    """
    run = results.runs[0]
    parts = [
        "---\nlibrary_name: letsam\ntags:\n- letsam\n- sharpness-aware-minimization\n---",
        f"# {_text(config['task'])}: {_text(run.method)}",
        _what(results, config),
        f"## Numbers\n\n{_table(_numbers(run))}\n\n{_measured(config, split)}",
        f"## Data\n\n{_table([*_samples(split), *((what, value) for what, value in results.inferred)])}",
        f"## Use\n\n{_use(config)}",
        "## Limits\n\n- The numbers hold for data like the test data. Data from another source or time may differ.\n"
        "- A class, category or word that is not in the training data was not learned.",
        f"## Versions\n\n{_table(list(config['versions'].items()))}",
    ]
    return "\n\n".join(parts) + "\n"


def _what(results: Results, config: Mapping[str, Any]) -> str:
    run = results.runs[0]
    network = config["network"]
    family = network["family"]
    name = {"task": f"The network of the task {network.get('task')}", "transformers": f"{network.get('source')}"}
    kinds = {"classification": "a classifier", "multilabel": "a multi-label classifier", "regression": "a regression"}
    text = f"{name.get(family, family)}, {kinds[config['kind']]}, trained by letsam with the method {run.method} "
    text += f"(seed {run.seed}, {run.steps:,} steps)."
    if run.rho_final is not None:
        text += f" The perturbation radius was {run.rho_initial:.3g} at the start and {run.rho_final:.3g} at the end."
    if run.hyperparameters:
        values = ", ".join(f"{name} {value:.3g}" for name, value in run.hyperparameters.items())
        text += f" A search has chosen {values}."
    retuned = results.config.get("retune")
    if retuned:
        text += f" It goes on from the weights of the version with the fingerprint {retuned['parent']}."
    if config["chosen_by"]:
        text += f" The method was chosen {config['chosen_by']}."
    return _text(text)


def _numbers(run: Run) -> list[tuple[str, str]]:
    values: dict[str, float | None] = {
        f"{run.metric} (test)": run.test_accuracy,
        **{f"{name} (test)": value for name, value in run.metrics.items() if name != run.metric},
        "loss (test)": run.test_loss,
        "loss (training)": run.train_loss,
        "loss (validation)": run.validation_loss,
        "generalization gap of the loss": run.generalization_gap,
    }
    return [(name, _number(value)) for name, value in values.items() if value is not None]


def _measured(config: Mapping[str, Any], split: Mapping[str, Any]) -> str:
    count = split["samples"]["test"]
    text = f"Measured on the {count:,} test samples, which were not trained on. They come from one run with one seed."
    if config["chosen_by"] and "test" in config["chosen_by"]:
        text += " The test data chose the method, so the numbers are somewhat too good."
    return text


def _samples(split: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [(f"{part} samples", f"{count:,}") for part, count in split["samples"].items() if count]
    if split.get("test"):
        return [*rows, ("test data", str(split["test"]))]
    return rows if split.get("test_share") is None else [*rows, ("share of test data", f"{split['test_share']:g}")]


def _use(config: Mapping[str, Any]) -> str:
    python = 'import letsam\n\nmodel = letsam.load("model")\n'
    if config["network"]["family"] == "task":
        return f"```python\n{python}model.predict(inputs)  # a batch of inputs of the task\n```"
    return (
        f'```python\n{python}model.predict("new-data").labels  # or .outputs, where it predicts numbers\n```\n\n'
        "```\nletsam predict model new-data --out predictions.csv\n```\n\n"
        "`new-data` is a file or folder of the same form as the training data; targets may be missing."
    )


def _table(rows: list[tuple[str, str]]) -> str:
    cells = [f"| {_text(name)} | {_text(str(value))} |" for name, value in rows]
    return "\n".join(["| | |", "|---|---|", *cells])


def _text(text: str) -> str:
    return printable(" ".join(str(text).split())).replace("|", r"\|")


def _number(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "not finite"
