"""The command `letsam`, with a hint in one line where its packages are not installed."""

from __future__ import annotations

import sys

from letsam import interrupts


def main() -> None:
    """Run the command line."""
    interrupts.end_quietly()
    try:
        from letsam.cli import run
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "letsam":
            raise
        if sys.argv[1:2] == ["docs"]:
            sys.exit(_docs_alone(sys.argv[2:3]))
        hint = 'install it with pip install "letsam[trial]"'
        sys.exit(f"error: the command letsam needs the package {error.name}: {hint}")
    interrupts.raise_again()
    sys.exit(run(sys.argv[1:]))


def _docs_alone(page: list[str]) -> int:
    """`letsam docs` where only torch is installed; returns the exit status."""
    from letsam.docs import print_page, print_pages

    try:
        print_page(*page) if page else print_pages()
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    main()
