"""Run a recipe, by its name or from a file."""

from nanotx.cli.run import run_by_name

USAGE = "NAME|FILE.toml"
GROUP = "Train"
ORDER = 10


def run(argv: list[str]) -> int:
    """Find the recipe and hand it the rest of the words."""
    return run_by_name(argv)
