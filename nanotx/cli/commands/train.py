"""nanotx train NAME|FILE.toml [FILE.toml ...] [flags]: run a recipe of the package, a preset, or a file."""

from nanotx.cli.run import start


def run(words: list[str]) -> int:
    """Find the recipe and hand it the rest of the words."""
    return start(words)
