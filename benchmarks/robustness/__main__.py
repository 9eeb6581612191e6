"""See the package."""

from benchmarks.harness import start

if __name__ == "__main__":
    start("robustness")
