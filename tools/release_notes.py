"""The section of the changelog on a version, for its release; fails unless the version is ready to be released.

`python tools/release_notes.py 0.1.0` needs the same version in `src/letsam/_version.py` and in `CITATION.cff`, and a
section with a date in `CHANGELOG.md`.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def notes(version: str, root: Path = ROOT) -> str:
    """The text of the section.

    Args:
        version: without a "v".
        root: the folder of the project.

    Raises:
        ValueError: a file says another version, or the changelog has no date for it.
    """
    places = {
        "src/letsam/_version.py": r'^__version__ = "(.*)"$',
        "CITATION.cff": r"^version: (.*)$",
    }
    for name, pattern in places.items():
        found = re.search(pattern, (root / name).read_text(encoding="utf-8"), re.M)
        if found is None or found[1] != version:
            raise ValueError(f"{name}: expected the version {version}, got {found and found[1]}")
    changelog = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    section = re.search(rf"^## {re.escape(version)} - (.*)\n((?:(?!^## ).*\n?)*)", changelog, re.M)
    if section is None or not re.fullmatch(r"\d{4}-\d{2}-\d{2}", section[1]):
        raise ValueError(f"CHANGELOG.md: expected `## {version} - YYYY-MM-DD`, got {section and section[1]}")
    return section[2].strip() + "\n"


if __name__ == "__main__":
    try:
        print(notes(*sys.argv[1:2]), end="")
    except (TypeError, ValueError) as problem:
        sys.exit(f"error: {problem}")
