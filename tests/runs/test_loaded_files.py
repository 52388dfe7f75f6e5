"""A run records the files of `--load` and keeps copies: one that was edited since is named, and no copy is executed."""

import json
import shutil
import sys
import warnings
from hashlib import sha256
from pathlib import Path

import pytest
from helpers import text, tiny
from safetensors.torch import load_file as tensors
from test_verify import others, seal

import nanotx
from nanotx.cli.entry import exit_code
from nanotx.cli.main import run
from nanotx.config.registry import LOADED, LOADED_FILES, load_file
from nanotx.errors import ConfigError, RunError, RunWarning, UnknownPart
from nanotx.laws.all_laws import SLOTS
from nanotx.runs.folder import RunFolder
from nanotx.runs.loaded_files import edits, keep_copies
from nanotx.training.callbacks.base import Callback

PART = """
from dataclasses import dataclass
from torch import nn
from nanotx.nn.norm import Norm

@Norm.register("peri")
@dataclass(frozen=True, kw_only=True)
class Peri(Norm):
    scale: float = 1.0

    def build(self, dim):
        return PeriNorm(self)

class PeriNorm(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config

    def forward(self, x):
        return FACTOR * x * self.config.scale
"""
WATCH = """
from dataclasses import dataclass
from nanotx import Callback

@Callback.register("watcher")
@dataclass
class Watcher(Callback):
    every: int = 1
"""
OLD, NEW = PART.replace("FACTOR", "1"), PART.replace("FACTOR", "2")


def digest(source):
    return sha256(source.encode("utf-8")).hexdigest()


def write(path, source):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source, encoding="utf-8")
    return str(path)


def forget():
    """Forget every file that --load imported, as a new process would."""
    for slot in [*SLOTS.values(), Callback]:
        for name in [name for name, part in slot.registered.items() if part.__module__.startswith(LOADED)]:
            del slot.registered[name]
    for name in [name for name in sys.modules if name.startswith(LOADED)]:
        del sys.modules[name]
    LOADED_FILES.clear()


@pytest.fixture(autouse=True)
def _new_process():
    known, modules = dict(LOADED_FILES), {name: sys.modules[name] for name in sys.modules if name.startswith(LOADED)}
    registered = {slot: dict(slot.registered) for slot in [*SLOTS.values(), Callback]}
    forget()
    yield
    forget()
    LOADED_FILES.update(known)
    sys.modules.update(modules)
    for slot, parts in registered.items():
        slot.registered.update(parts)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run with a part and a callback of the user's own, and its corpus."""
    folder = tmp_path_factory.mktemp("loaded")
    part, watch = write(folder / "peri.py", OLD), write(folder / "watch.py", WATCH)
    words = ["--corpus", "file", "--corpus.path", str(text(folder / "text.txt")), "--norm", "peri", "--load", part]
    words += ["--load", watch, "--callback", "watcher", "--run", str(folder / "run")]
    assert run(["train", "shakespeare_char", *tiny(), *words]) == 0
    return folder


@pytest.fixture
def folder(trained, tmp_path):
    """A copy of the run that may be harmed."""
    return shutil.copytree(trained / "run", tmp_path / "run")


@pytest.fixture
def edited(tmp_path):
    """The user's file, edited since."""
    return write(tmp_path / "peri.py", NEW)


def state(folder, step=6):
    return json.loads((folder / f"checkpoints/step-{step}/trainer.json").read_text(encoding="utf-8"))


def bytes_of(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")}


def test_run_keeps_copies_that_every_checkpoint_and_the_summary_record(trained):
    folder = trained / "run"
    assert {path.name: path.read_text(encoding="utf-8") for path in (folder / "code").iterdir()} == {
        "peri.py": OLD,
        "watch.py": WATCH,
    }
    wanted = [
        {"name": "peri.py", "sha256": digest(OLD), "copy": "peri.py", "parts": ["norm/peri"]},
        {"name": "watch.py", "sha256": digest(WATCH), "copy": "watch.py", "parts": ["callback/watcher"]},
    ]
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert [state(folder, step)["loaded_files"] for step in (4, 6)] == [wanted, wanted] == [summary["loaded_files"]] * 2


def test_resume_with_an_edited_file_is_refused_before_anything_changes(folder, edited):
    before = bytes_of(folder)
    wanted = (
        rf"peri.py differs from the one that {folder} was trained with: SHA-256 {digest(NEW)[:12]}... now, "
        rf"{digest(OLD)[:12]}... then. .*: --load {folder}/code/peri.py; with the edited file: --allow-mismatch"
    )
    with pytest.raises(ConfigError, match=wanted):
        run(["resume", str(folder), "--train.steps", "8", "--load", edited])
    assert bytes_of(folder) == before


def test_resume_with_the_copy_gives_the_bits_of_the_file_itself(trained, folder, tmp_path):
    other = shutil.copytree(folder, tmp_path / "other")
    assert run(["resume", str(folder), "--train.steps", "8", "--load", str(folder / "code/peri.py")]) == 0
    forget()
    assert run(["resume", str(other), "--train.steps", "8", "--load", str(trained / "peri.py")]) == 0
    first, second = (tensors(path / "checkpoints/step-8/model.safetensors") for path in (folder, other))
    assert first.keys() == second.keys() and all((first[name] == second[name]).all() for name in first)
    assert sorted(path.name for path in (folder / "code").iterdir()) == ["peri.py", "watch.py"]  # no __pycache__


def test_mismatch_that_is_allowed_keeps_both_files_and_logs_a_warning(folder, edited):
    assert run(["resume", str(folder), "--train.steps", "8", "--load", edited, "--allow-mismatch"]) == 0
    assert (folder / "code/peri.py").read_text(encoding="utf-8") == OLD
    assert (folder / "code/peri-2.py").read_text(encoding="utf-8") == NEW
    assert [(file["name"], file["copy"]) for file in state(folder, 8)["loaded_files"]] == [("peri.py", "peri-2.py")]
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert any(row["event"] == "warning" and "peri.py differs from the one" in row["text"] for row in rows)
    forget()
    with pytest.raises(ConfigError, match=rf"{digest(OLD)[:12]}... now, {digest(NEW)[:12]}... then"):
        run(["resume", str(folder), "--train.steps", "9", "--load", str(folder / "code/peri.py")])


def test_file_of_callbacks_may_be_edited(folder, tmp_path, capsys):
    other = write(tmp_path / "watch.py", WATCH.replace("1", "2"))
    words = ["--load", str(folder / "code/peri.py"), "--load", other, "--callback", "watcher"]
    assert run(["resume", str(folder), "--train.steps", "8", *words]) == 0
    assert "differs" not in capsys.readouterr().out
    assert [file["copy"] for file in state(folder, 8)["loaded_files"]] == ["peri.py", "watch-2.py"]


def test_load_warns_of_an_edited_file_and_of_no_other(trained, folder, edited):
    load_file(edited)
    with pytest.warns(RunWarning, match=rf"peri.py differs from .* keeps a copy .*: --load {folder}/code/peri.py"):
        nanotx.load(folder)
    forget()
    load_file(write(trained / "elsewhere" / "renamed.py", OLD))  # another path, the same bytes
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert nanotx.load(folder).remarks == ()


def test_part_of_an_edited_file_under_another_name_is_seen_too(folder, tmp_path):
    load_file(write(tmp_path / "other.py", NEW))
    with pytest.warns(RunWarning, match=rf"other.py differs from peri.py, which {folder} was trained with"):
        nanotx.load(folder)


@pytest.mark.filterwarnings("default::nanotx.errors.RunWarning")
def test_command_prints_the_warning_in_one_line_on_standard_error(folder, edited, capsys):
    assert exit_code(lambda: run(["sample", str(folder), "--max-new-tokens", "3", "--load", edited])) == 0
    err = capsys.readouterr().err
    assert err.startswith("warning: peri.py differs") and err.count("\n") == 1 and "RunWarning" not in err


def test_error_that_an_edit_may_have_caused_names_the_edit(folder, tmp_path):
    load_file(write(tmp_path / "peri.py", OLD.replace("scale", "factor")))
    with pytest.raises(ConfigError, match=r"no such field.*peri.py differs from the one that .*run was trained with"):
        nanotx.load(folder)


def test_missing_part_is_answered_with_the_copy_which_is_not_executed(folder, tmp_path):
    marker = tmp_path / "executed"
    write(folder / "code/peri.py", OLD)
    wanted = rf"{folder} was trained with peri.py \(SHA-256 {digest(OLD)[:12]}...\), .*--load {folder}/code/peri.py$"
    for command in (["sample"], ["resume"], ["look", "--prompt", "a"], ["replay", "--step", "2"], ["eval"]):
        with pytest.raises(UnknownPart, match=wanted):
            run([command[0], str(folder), *command[1:]])
    write(folder / "code/peri.py", f"open({str(marker)!r}, 'w')")
    with pytest.raises(UnknownPart, match=r"was trained with peri.py \(SHA-256 [0-9a-f]{12}...\)\.$"):
        run(["sample", str(folder)])  # the copy is damaged, so it is not offered
    assert not marker.exists()


def test_verify_blames_the_edited_file_and_not_the_machine(folder, edited, tmp_path):
    code, checks = verified(folder, edited, tmp_path)
    assert code == 4 and checks["validation loss"]["result"] == "not made" and checks["code"]["result"] == "holds"
    assert "peri.py differs from the one" in checks["validation loss"]["detail"]
    assert others(checks, "validation loss") == {"holds"}
    forget()
    code, checks = verified(folder, str(folder / "code/peri.py"), tmp_path)
    assert code == 0 and checks["validation loss"]["bit_equal"]


def verified(folder, file, tmp_path):
    code = run(["verify", str(folder), "--load", file, "--json", str(tmp_path / "checks.json")])
    checks = json.loads((tmp_path / "checks.json").read_text(encoding="utf-8"))["checks"]
    return code, {check["name"]: check for check in checks}


def test_verify_finds_a_copy_that_was_changed_or_removed(trained, folder, tmp_path):
    file = str(trained / "peri.py")
    write(folder / "code/peri.py", NEW)
    code, checks = verified(folder, file, tmp_path)
    assert code == 4 and checks["code"]["result"] == "fails" and "peri.py: missing, or not" in checks["code"]["detail"]
    (folder / "code/peri.py").unlink()
    assert verified(folder, file, tmp_path)[1]["code"]["result"] == "fails"


def test_replay_and_diff_name_the_edited_file(trained, folder, edited, capsys):
    assert run(["replay", str(folder), "--step", "3", "--load", edited]) == 1
    out = capsys.readouterr().out
    assert "peri.py differs from the one" in out and "another machine" not in out
    assert (
        run(["diff", str(folder), str(trained / "run"), "--load", edited]) == 0
    )  # equal checkpoints: nothing repeated
    assert f"files of --load: the same, peri.py SHA-256 {digest(OLD)[:12]}..." in capsys.readouterr().out


def test_diff_tells_runs_of_different_files_apart(trained, folder, edited, capsys, tmp_path):
    assert run(["resume", str(folder), "--train.steps", "8", "--load", edited, "--allow-mismatch"]) == 0
    json_file = tmp_path / "diff.json"
    assert run(["diff", str(trained / "run"), str(folder), "--load", edited, "--json", str(json_file)]) == 0
    left, right = json.loads(json_file.read_text(encoding="utf-8"))["loaded_files"]
    assert left["peri.py"] == digest(OLD) and right == {"peri-2.py": digest(NEW)}


def test_report_says_which_file_differs(folder, edited, capsys):
    assert run(["report", str(folder), "--load", edited]) == 0
    assert "peri.py differs from the one" in capsys.readouterr().out
    assert "peri.py differs from the one" in (folder / "report.html").read_text(encoding="utf-8")


def test_pack_records_its_plug_ins_and_prints_a_command_that_works(trained, folder, tmp_path, capsys):
    file, target = str(trained / "peri.py"), tmp_path / "mine.zip"
    assert run(["pack", str(folder), str(target), "--load", file]) == 0
    command = capsys.readouterr().out.splitlines()[-1]
    assert command == f"nanotx sample {target} --load {file}"
    assert run([*command.split()[1:], "--max-new-tokens", "3"]) == 0
    forget()
    with pytest.raises(UnknownPart, match=r"mine.zip was trained with peri.py .*, and holds plugin-peri.py: read that"):
        nanotx.load(target)
    load_file(write(tmp_path / "peri.py", NEW))
    with pytest.warns(RunWarning, match=r"peri.py differs from .*The pack holds that one as plugin-peri.py"):
        nanotx.load(target)


def test_printed_command_loads_no_copy_that_nobody_has_read(folder):
    with pytest.raises(
        ConfigError, match=rf"nanotx resume {folder} continues it, and nanotx train {folder}/recipe.toml takes"
    ):
        run(["train", str(folder)])


def test_run_without_a_record_is_compared_with_nothing(folder, edited):
    path = folder / "checkpoints/step-6"
    (path / "trainer.json").write_text(
        json.dumps({key: item for key, item in state(folder).items() if key != "loaded_files"}), encoding="utf-8"
    )
    seal(path)
    load_file(edited)
    assert nanotx.load(folder).remarks == ()
    assert run(["resume", str(folder), "--train.steps", "8", "--load", edited]) == 0
    assert state(folder, 8)["loaded_files"][0]["sha256"] == digest(NEW)


@pytest.mark.parametrize(
    "record",
    [
        {},
        ["peri.py"],
        [{"name": "peri.py"}],
        [{"name": "a", "sha256": digest(OLD), "copy": "../../evil.py", "parts": []}],
        [{"name": "a", "sha256": digest(OLD), "copy": "..", "parts": []}],
        [{"name": "a", "sha256": "short", "copy": "a.py", "parts": []}],
        [{"name": "a", "sha256": digest(OLD), "copy": "a.py", "parts": [1]}],
        [{"name": 1, "sha256": digest(OLD), "copy": "a.py", "parts": []}],
    ],
)
def test_record_that_nanotx_never_writes_is_refused(trained, folder, record):
    path = folder / "checkpoints/step-6"
    (path / "trainer.json").write_text(json.dumps(state(folder) | {"loaded_files": record}), encoding="utf-8")
    seal(path)
    load_file(trained / "peri.py")
    with pytest.raises(RunError, match=r"trainer.json: loaded_files"):
        nanotx.load(folder)


# Copies.


def copies(tmp_path, *sources):
    """The names of the copies of files of one base name, in a new run."""
    files = [load_file(write(tmp_path / str(number) / "x.py", source)) for number, source in enumerate(sources)]
    return [file.copy for file in keep_copies(files, RunFolder(tmp_path / "run"))]


def test_files_of_one_name_get_copies_of_their_own_and_equal_ones_share_one(tmp_path):
    (tmp_path / "run").mkdir()
    assert copies(tmp_path, "a = 1", "a = 2", "a = 1") == ["x.py", "x-2.py", "x.py"]
    assert copies(tmp_path, "a = 1", "a = 2") == ["x.py", "x-2.py"]  # again: nothing new
    assert sorted(path.name for path in (tmp_path / "run/code").iterdir()) == ["x-2.py", "x.py"]


def test_recorded_file_that_is_not_imported_is_no_edit_of_another_of_its_name(tmp_path):
    first, second = (write(tmp_path / folder / "x.py", source) for folder, source in (("a", "a = 1"), ("b", "a = 2")))
    recorded = keep_copies([load_file(first), load_file(second)], RunFolder(tmp_path / "run"))
    forget()
    load_file(first)
    assert edits(recorded) == []
    forget()
    load_file(write(tmp_path / "c" / "x.py", "a = 3"))
    assert [edit.recorded.copy for edit in edits(recorded)] == ["x.py", "x-2.py"]


def test_copy_is_of_the_bytes_that_were_executed(tmp_path):
    path = tmp_path / "x.py"
    file = load_file(write(path, "a = 1"))
    path.unlink()  # the file vanished, or was edited, after it was imported
    keep_copies([file], RunFolder(tmp_path / "run"))
    assert (tmp_path / "run/code/x.py").read_bytes() == b"a = 1"


def test_import_writes_no_bytecode_next_to_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    load_file(write(tmp_path / "x.py", "a = 1"))
    assert [path.name for path in tmp_path.iterdir()] == ["x.py"]


def test_copy_of_several_megabytes_is_whole(tmp_path):
    source = "# " + 5_000_000 * "x"
    keep_copies([load_file(write(tmp_path / "x.py", source))], RunFolder(tmp_path / "run"))
    assert (tmp_path / "run/code/x.py").read_text(encoding="utf-8") == source


def test_unusual_name_gives_a_copy_with_a_plain_one(tmp_path):
    name = f"a:b\\c {200 * 'd'}.py"
    (file,) = keep_copies([load_file(write(tmp_path / name, "a = 1"))], RunFolder(tmp_path / "run"))
    assert file.name == name and file.copy == f"a_b_c_{44 * 'd'}.py" and (tmp_path / "run/code" / file.copy).exists()


def test_link_in_place_of_the_copies_is_refused(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run/code").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunError, match=r"code: a link, which may lead out of this run"):
        keep_copies([load_file(write(tmp_path / "x.py", "a = 1"))], RunFolder(tmp_path / "run"))
    assert not list((tmp_path / "elsewhere").iterdir())


def test_file_that_imports_its_neighbour_is_known_to(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    write(tmp_path / "neighbour_of_mine.py", "a = 1")
    write(tmp_path / "package_of_mine/__init__.py", "")
    try:
        file = load_file(write(tmp_path / "x.py", "import colorsys, neighbour_of_mine, package_of_mine"))
        assert file.neighbours == ("neighbour_of_mine.py", "package_of_mine/__init__.py")
    finally:
        for name in ("neighbour_of_mine", "package_of_mine"):
            sys.modules.pop(name, None)


def test_folder_of_a_package_is_no_file(tmp_path):
    write(tmp_path / "package/__init__.py", "")
    with pytest.raises(ConfigError, match=r"package: expected a Python file such as mine.py, or .*__init__.py"):
        load_file(tmp_path / "package")


def test_file_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    path = Path(write(tmp_path / "x.py", "a = 1"))
    monkeypatch.setattr(Path, "read_bytes", lambda self: (_ for _ in ()).throw(PermissionError(13, "no permission")))
    with pytest.raises(ConfigError, match=r"--load .*x.py: cannot be read: no permission"):
        load_file(path)
