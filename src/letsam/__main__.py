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
        hint = 'install it with pip install "letsam[trial]"'
        sys.exit(f"error: the command letsam needs the package {error.name}: {hint}")
    interrupts.raise_again()
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
