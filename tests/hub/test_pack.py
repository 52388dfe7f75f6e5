"""Packs: what comes out is what went in, and a stranger's file is read only where every member of it is a pack's."""

import hashlib
import json
import shutil
import stat
import zipfile

import pytest
import torch
from helpers import text, tiny

from nanotx import disk
from nanotx.cli.main import run
from nanotx.errors import ConfigError, RunError, UnknownPart
from nanotx.runs.load import load

PLUGIN = """
from dataclasses import dataclass
from torch import nn
from nanotx.nn.norm import Norm

@Norm.register("packed_norm")
@dataclass(frozen=True, kw_only=True)
class PackedNorm(Norm):
    \"\"\"A norm of the user's own.\"\"\"

    def build(self, dim: int) -> nn.Module:
        return nn.LayerNorm(dim)
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    home = tmp_path_factory.mktemp("pack")
    corpus = ["--corpus", "file", "--corpus.path", str(text(home / "text.txt"))]
    assert run(["train", "macbook", *corpus, *tiny(train_ema_decay=0.5), "--run", str(home / "a_run")]) == 0
    (home / "a_run" / "report.html").write_text("<p>report</p>", encoding="utf-8")
    return home / "a_run"


@pytest.fixture(scope="module")
def zipped(trained):
    assert run(["pack", str(trained), str(trained.parent / "a.zip")]) == 0
    return trained.parent / "a.zip"


@pytest.fixture(scope="module")
def folder(trained):
    assert run(["pack", str(trained), str(trained.parent / "a_pack")]) == 0
    return trained.parent / "a_pack"


def members(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewritten(path, files, **how):
    """A zip file with these members, some of them otherwise."""
    with zipfile.ZipFile(path, "w", **how) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return path


def seal(files):
    """Make the manifest true again."""
    manifest = {
        name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in files.items()
        if name not in ("MANIFEST.json", "README.md")
    }
    return {**files, "MANIFEST.json": json.dumps(manifest).encode()}


def test_pack_of_either_kind_loads_as_the_run_does(trained, zipped, folder):
    original = load(trained)
    for path in (zipped, folder):
        loaded = load(path)
        assert (loaded.step, loaded.corpus_sha256) == (original.step, original.corpus_sha256)
        assert (loaded.recipe, loaded.tokenizer) == (original.recipe, original.tokenizer)
        weights = dict(loaded.model.named_parameters())  # the averaged ones, which the run was evaluated with
        assert all(torch.equal(weight, weights[name]) for name, weight in original.model.named_parameters())
        assert loaded.generate("ab", max_new_tokens=9) == original.generate("ab", max_new_tokens=9)


def test_pack_has_what_is_needed_and_no_state_of_the_training(zipped, folder):
    files = {"model.safetensors", "recipe.toml", "tokenizer.json", "pack.json", "README.md", "MANIFEST.json"}
    assert members(zipped).keys() == files | {"metrics.jsonl", "summary.json", "report.html"}
    assert members(zipped) == {path.name: path.read_bytes() for path in folder.iterdir()}
    with zipfile.ZipFile(zipped) as archive:
        assert {member.compress_type for member in archive.infolist()} == {zipfile.ZIP_STORED}


def test_same_run_gives_the_same_bytes(trained, zipped, tmp_path):
    assert run(["pack", str(trained), str(tmp_path / "a.zip")]) == 0
    assert (tmp_path / "a.zip").read_bytes() == zipped.read_bytes()
    with zipfile.ZipFile(zipped) as archive:
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_card_has_the_figures_the_digests_and_how_to_load(trained, zipped):
    card = members(zipped)["README.md"].decode("utf-8")
    summary = json.loads((trained / "summary.json").read_text(encoding="utf-8"))
    for fact in (
        f"{summary['val_loss']:.4f}",
        f"| seed | {summary['seed']} |",
        summary["corpus_sha256"],
        "nanotx.load",
    ):
        assert fact in card
    assert hashlib.sha256(members(zipped)["model.safetensors"]).hexdigest() in card


def test_commands_that_use_a_run_take_a_pack(zipped, folder, trained, capsys):
    for path in (zipped, folder):
        assert run(["sample", str(path), "--prompt", "ab", "--max-new-tokens", "4"]) == 0
        assert run(["look", str(path), "--prompt", "ab"]) == 0
        assert run(["show", str(path)]) == 0
        capsys.readouterr()
        assert run(["eval", str(path), "--json", str(trained.parent / "eval.json")]) == 0
        recorded = json.loads((trained / "summary.json").read_text(encoding="utf-8"))["val_loss"]
        figures = json.loads((trained.parent / "eval.json").read_text(encoding="utf-8"))["loss"]
        assert figures == pytest.approx(recorded, abs=1e-5)


@pytest.mark.parametrize("command", [["resume"], ["verify"], ["replay", "--step=3"], ["pack"]], ids=" ".join)
def test_commands_that_need_the_training_refuse_a_pack(zipped, folder, command):
    for path in (zipped, folder):
        with pytest.raises((RunError, ConfigError), match=r"got a pack|a pack already"):
            run([*command, str(path)])


def test_other_step_of_a_pack_is_refused(zipped):
    with pytest.raises(RunError, match="a pack of step 6; it holds no step 3"):
        load(zipped, 3)


def test_existing_pack_is_replaced_only_where_asked(trained, tmp_path):
    for name in ("a.zip", "a_pack"):
        target = tmp_path / name
        assert run(["pack", str(trained), str(target)]) == 0
        with pytest.raises(ConfigError, match="already exists; add --overwrite"):
            run(["pack", str(trained), str(target)])
        assert run(["pack", str(trained), str(target), "--overwrite", "--step", "4"]) == 0
        assert load(target).step == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip", "a_pack"]


def test_what_is_no_pack_is_never_replaced(trained, zipped, tmp_path):
    mine, foreign = tmp_path / "mine", tmp_path / "foreign.zip"
    assert run(["pack", str(trained), str(mine)]) == 0
    (mine / "thesis.txt").write_text("years", encoding="utf-8")
    rewritten(foreign, [("thesis.txt", "years")])
    for target in (mine, foreign, trained):
        with pytest.raises((ConfigError, RunError), match=r"no pack|thesis"):
            run(["pack", str(trained), str(target), "--overwrite"])
    assert (mine / "thesis.txt").exists() and trained.exists()


@pytest.mark.parametrize("fails", ["write", "sync", "rename"])
def test_disk_that_refuses_leaves_nothing_and_keeps_the_old_pack(trained, tmp_path, monkeypatch, fails):
    target = tmp_path / "a.zip"
    assert run(["pack", str(trained), str(target)]) == 0
    before = target.read_bytes()

    def refuse(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk, fails, refuse)
    with pytest.raises(RunError, match="No space left"):
        run(["pack", str(trained), str(target), "--overwrite"])
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"] and target.read_bytes() == before


# A stranger's file.

EVIL = ["../evil.py", "/tmp/evil.py", "a/model.safetensors", "..\\evil.py", "C:evil", "evil.sh", "plugin-../x.py"]


@pytest.mark.parametrize("name", EVIL)
def test_member_with_a_name_that_no_pack_has_is_refused(zipped, tmp_path, name):
    path = rewritten(tmp_path / "x.zip", [*members(zipped).items(), (name, b"evil")])
    with pytest.raises(RunError, match="no pack holds"):
        load(path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["x.zip"]


def test_manifest_that_names_another_folder_is_refused(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    manifest = json.loads((copy / "MANIFEST.json").read_text(encoding="utf-8"))
    (copy / "MANIFEST.json").write_text(json.dumps(manifest | {"../x": {"bytes": 1, "sha256": ""}}), encoding="utf-8")
    with pytest.raises(RunError, match="no pack holds"):
        load(copy)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_member_that_is_there_twice_is_refused(zipped, tmp_path):
    with pytest.raises(RunError, match=r"recipe\.toml twice"):
        load(rewritten(tmp_path / "x.zip", [*members(zipped).items(), ("recipe.toml", b"")]))


def test_compressed_member_is_refused_before_it_is_unpacked(tmp_path):
    with pytest.raises(RunError, match=r"report\.html is compressed"):
        load(rewritten(tmp_path / "x.zip", [("report.html", bytes(1 << 24))], compression=zipfile.ZIP_DEFLATED))


def test_member_of_another_method_is_refused_though_its_sizes_are_equal(zipped, tmp_path):
    data = bytearray(zipped.read_bytes())
    at = data.index(b"PK\x01\x02") + 10  # the method in the table of members
    data[at] = zipfile.ZIP_DEFLATED
    (tmp_path / "x.zip").write_bytes(data)
    with pytest.raises(RunError, match="is compressed or encrypted"):
        load(tmp_path / "x.zip")


def test_link_is_refused(tmp_path):
    link = zipfile.ZipInfo("report.html")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with pytest.raises(RunError, match=r"report\.html is a link"):
        load(rewritten(tmp_path / "x.zip", [(link, b"/etc/passwd")]))
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "pack.json").write_text("{}", encoding="utf-8")
    (outside / "MANIFEST.json").symlink_to("/etc/passwd")
    with pytest.raises(RunError, match="link"):
        load(outside)


def test_sizes_that_the_file_cannot_have_are_refused(zipped, tmp_path):
    data = bytearray(zipped.read_bytes())
    at = data.index(b"PK\x01\x02") + 20  # sizes in the table of members, compressed and not
    data[at : at + 8] = (1 << 31).to_bytes(4, "little") * 2
    (tmp_path / "x.zip").write_bytes(data)
    with pytest.raises(RunError, match=r"claim 2,1\d\d,\d\d\d,\d\d\d bytes, and it has"):
        load(tmp_path / "x.zip")


def test_too_many_members_are_refused(tmp_path):
    with pytest.raises(RunError, match="holds 65 files, and a pack at most 64"):
        load(rewritten(tmp_path / "x.zip", [(f"{number}.txt", b"") for number in range(65)]))


def test_truncated_file_is_refused(zipped, tmp_path):
    data = zipped.read_bytes()
    for length in (0, 10, len(data) // 2, len(data) - 1):
        (tmp_path / "x.zip").write_bytes(data[:length])
        with pytest.raises(RunError, match=r"x\.zip: not a whole zip file"):
            load(tmp_path / "x.zip")


def test_changed_byte_is_found(zipped, folder, tmp_path):
    files = members(zipped)
    weights = bytearray(files["model.safetensors"])
    weights[-1] ^= 1
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "model.safetensors").write_bytes(weights)
    changed = rewritten(tmp_path / "x.zip", [*{**files, "model.safetensors": bytes(weights)}.items()])
    for path in (copy, changed):
        with pytest.raises(RunError, match=rf"{path.name}.model.safetensors: the file is not the one that was saved"):
            load(path)
    damaged = bytearray(zipped.read_bytes())
    damaged[damaged.index(b"model.safetensors") + 600] ^= 1
    (tmp_path / "x.zip").write_bytes(damaged)
    with pytest.raises(RunError, match="not a whole zip file: Bad CRC"):
        load(tmp_path / "x.zip")


def test_missing_file_other_format_and_other_tokenizer_are_refused(zipped, tmp_path):
    files = members(zipped)
    about = json.loads(files["pack.json"])
    cases = {
        "'recipe.toml' is missing": {name: data for name, data in files.items() if name != "recipe.toml"},
        "format 99; this nanotx reads": files | {"pack.json": json.dumps(about | {"format": 99}).encode()},
        "step: expected int, got 'x'": files | {"pack.json": json.dumps(about | {"step": "x"}).encode()},
        "the digests differ": files | {"pack.json": json.dumps(about | {"tokenizer_sha256": "0"}).encode()},
        "they are not of one run": files | {"recipe.toml": files["recipe.toml"].replace(b"dim = 16", b"dim = 32")},
    }
    for message, changed in cases.items():
        with pytest.raises(RunError, match=message):
            load(rewritten(tmp_path / "x.zip", [*seal(changed).items()]))


def test_plugin_is_packed_as_data_and_never_imported(tmp_path, capsys):
    file = tmp_path / "mine.py"
    file.write_text(PLUGIN, encoding="utf-8")
    corpus = ["--corpus", "file", "--corpus.path", str(text(tmp_path / "text.txt"))]
    words = [*corpus, *tiny(train_steps=1), "--load", str(file), "--norm", "packed_norm"]
    assert run(["train", "macbook", *words, "--run", str(tmp_path / "a_run")]) == 0
    target = tmp_path / "a.zip"
    assert run(["pack", str(tmp_path / "a_run"), str(target), "--load", str(file)]) == 0
    assert members(target)["plugin-mine.py"].decode("utf-8") == PLUGIN
    assert "Read what it does before you run" in members(target)["README.md"].decode("utf-8")
    from nanotx.nn.norm import Norm

    assert load(target).step == 1
    del Norm.registered["packed_norm"]
    with pytest.raises(UnknownPart, match="packed_norm"):
        load(target)
    capsys.readouterr()
