"""nanotx train NAME|FILE.toml [FILE.toml ...] [flags]: run a recipe of the package, a preset, or a file."""

from nanotx.cli.run import run_by_name


def run(argv: list[str]) -> int:
    """Find the recipe and hand it the rest of the words."""
    return run_by_name(argv)
