"""A run's folder: where each of its results lies."""

from dataclasses import dataclass
from pathlib import Path

from nanotx.errors import ConfigError


@dataclass(frozen=True)
class RunFolder:
    """The names of things in a run's folder."""

    path: Path

    @property
    def recipe(self) -> Path:
        """The resolved recipe."""
        return self.path / "recipe.toml"

    @property
    def tokenizer(self) -> Path:
        """The tokenizer it learned."""
        return self.path / "tokenizer.json"

    @property
    def metrics(self) -> Path:
        """What happened, a row a line."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def samples(self) -> Path:
        """Every text it wrote while training."""
        return self.path / "samples.txt"

    @property
    def summary(self) -> Path:
        """Its figures."""
        return self.path / "summary.json"

    @property
    def exists(self) -> bool:
        """Whether anything lies there."""
        return self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir()))


def find_folder(named: str, name: str, resume: bool) -> RunFolder:
    """The folder for a run: the one named; or the newest `runs/<name>-<n>` to resume; or the next such.

    Raises:
        ConfigError: a run lies there already, and nobody asked to go on with it.
    """
    if named:
        folder = RunFolder(Path(named))
        if folder.exists and not resume:
            raise ConfigError(
                f"--run {named}: something lies there already; go on with it by --resume, or choose another folder."
            )
        return folder
    taken = [
        int(path.name.removeprefix(f"{name}-"))
        for path in Path("runs").glob(f"{name}-*")
        if path.name.removeprefix(f"{name}-").isdecimal()
    ]
    newest = max(taken, default=0)
    return RunFolder(Path("runs") / f"{name}-{newest if resume and newest else newest + 1}")
