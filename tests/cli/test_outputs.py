"""What a command writes for the user replaces nothing of a run."""

from pathlib import Path

import pytest
from helpers import text, tiny

from nanotx.cli.main import run
from nanotx.errors import ConfigError

pytestmark = pytest.mark.usefixtures("capsys")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a few steps."""
    home = tmp_path_factory.mktemp("outputs")
    folder, corpus = home / "a_run", ["--corpus", "file", "--corpus.path", str(text(home / "text.txt"))]
    assert run(["train", "macbook", *corpus, *tiny(), "--run", str(folder)]) == 0
    return folder


def contents(folder: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("name", ["metrics.jsonl", "recipe.toml", "tokenizer.json", "checkpoints/notes.json"])
@pytest.mark.parametrize("argv", ["verify --json", "sample --max-new-tokens=2 --json", "show --plot"])
def test_result_does_not_overwrite_a_file_of_a_run(trained: Path, argv: str, name: str) -> None:
    before = contents(trained)
    command, *flags = argv.split()
    with pytest.raises(ConfigError, match="a file of the run"):
        run([command, str(trained), *flags, str(trained / name)])
    assert contents(trained) == before


def test_link_to_a_file_of_a_run_is_not_overwritten(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").symlink_to(trained)
    with pytest.raises(ConfigError, match="a file of the run"):
        run(["verify", str(trained), "--json", str(tmp_path / "elsewhere" / "summary.json")])


def test_result_may_be_written_next_to_the_files_of_a_run(trained: Path) -> None:
    assert run(["verify", str(trained), "--json", str(trained / "verdict.json")]) == 0
    assert (trained / "verdict.json").is_file()
