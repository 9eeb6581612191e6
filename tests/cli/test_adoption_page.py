"""The commands of docs/adoption.md, from the audit to the verdict."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest

from letsam.decision import Decision
from letsam.results import Results
from page_code import ROOT, blocks_of, run_code

PAGE = "docs/adoption.md"


@pytest.mark.slow
def test_the_guide_leads_from_an_audit_to_a_verdict(here: Any, letsam_run: Any) -> None:
    text = (ROOT / PAGE).read_text(encoding="utf-8")
    make, repair = blocks_of(PAGE)
    first, second, trial, more, decide, report = map(shlex.split, re.findall(r"^letsam (.*)$", text, re.M))
    too_few, enough = re.findall(r"^> (.*)$", text, re.M)

    run_code(make, PAGE, {})
    status, out, _ = letsam_run(*first)
    assert (status, "duplicates" in out) == (1, True)
    run_code(repair, PAGE, {})
    status, out, _ = letsam_run(*second)
    assert (status, "duplicates" in out, "wrong-labels" in out) == (0, False, True)
    share = re.search(r"labels\s+\((\d+)%\)", out)
    assert share is not None
    assert 28 < int(share[1]) < 39

    status, out, _ = letsam_run(*trial)
    assert status == 0
    # How many more is a matter of rounding, which differs between machines.
    assert re.search(r"^\d+ more seeds? " + re.escape(too_few.split(maxsplit=3)[3]), out, re.M)
    status, out, _ = letsam_run(*more)
    assert status == 0
    assert enough in out.splitlines()
    found = Decision.from_json(Results.load("runs/adoption/results.json").decision or {})
    assert found.looked_at == (3, 5)
    assert found.lower is not None
    assert found.lower > 3  # as the page says
    assert found.sample_error is not None
    assert 3.5 < found.passes[1] / found.passes[0] < 4.5

    status, out, _ = letsam_run(*decide)
    assert (status, enough in out) == (0, True)
    status, out, _ = letsam_run(*report)
    assert (status, enough in out) == (0, True)
