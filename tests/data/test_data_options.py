"""The options of files of data: what is refused, the record, and which tasks are files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from letsam.data import DataOptions, is_data


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"path": ""}, "^`path` must be text, got ''$"),
        ({"target": ""}, "^`target` must be text, got ''$"),
        ({"group": 3}, "^`group` must be text, got 3$"),
        ({"kind": "ranking"}, "^`kind` must be one of classification, multilabel, regression, got 'ranking'$"),
        ({"test_share": 0.0}, "^`test_share` must be between 0 and 1, got 0.0$"),
        ({"test_share": 1.0}, "^`test_share` must be between 0 and 1, got 1.0$"),
        ({"test_share": float("nan")}, "^`test_share` must be between 0 and 1, got nan$"),
    ],
)
def test_options_out_of_range(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DataOptions(**{"path": "a.csv", **change})


def test_the_record() -> None:
    options = DataOptions(path="a.csv", target="x, y", drop=("id",), test_share=0.3)
    assert DataOptions.from_json(json.loads(json.dumps(options.as_json()))) == options
    assert options.targets == ("x", "y")
    assert hash(options)

    options.check_equals({**options.as_json(), "path": "elsewhere/a.csv", "test": "b.csv"})
    with pytest.raises(ValueError, match=r"^holds another trial: its drop is \[\], got \['id'\]$"):
        options.check_equals({**options.as_json(), "drop": []})
    with pytest.raises(ValueError, match=r"^holds another trial: its target is None, got 'x, y'$"):
        options.check_equals(None)


def test_which_tasks_are_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("digits", "my_task.py", "images", "table.csv", "data.json"):
        (tmp_path / name).mkdir() if "." not in name else (tmp_path / name).touch()

    assert [is_data(name) for name in ("images", "table.csv", "data.json", "hf:a/b")] == [True] * 4
    assert is_data("missing.csv.gz")  # so that the error is about a file
    assert not any(map(is_data, ("digits", "my_task.py", "my_task.py:make", "package.module:make", "", "glue/sst2")))
