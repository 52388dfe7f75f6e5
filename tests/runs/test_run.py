"""A whole run: what it leaves in its folder, how it is taken up again, and what it says to mistakes."""

import hashlib
import json
import re
import tomllib
from pathlib import Path

import pytest
import torch
from helpers import answer, text, tiny

import nanotx
from nanotx.cli.main import run as nanotx_command
from nanotx.config.schema import from_table
from nanotx.config.toml import read_toml, write_toml
from nanotx.errors import ConfigError, DataError, RunError, TextError, TokenizerError
from nanotx.generation import generate
from nanotx.recipe import Recipe
from nanotx.tokenizers import Tokenizer, load
from nanotx.tokenizers.bpe import Bpe
from nanotx.tokenizers.byte import Byte
from nanotx.tokenizers.char import Char


@pytest.fixture
def play(tmp_path, monkeypatch):
    """A function that trains in a folder of its own, and the folder's name."""
    monkeypatch.chdir(tmp_path)
    text(tmp_path / "text.txt")

    def train(*words, name="run", **flags):
        corpus = ["--corpus", "file", "--corpus.path", "text.txt"]
        code = nanotx_command(["train", "shakespeare_char", *corpus, "--run", name, *tiny(**flags), *words])
        return code, tmp_path / name

    return train


def rows(folder, event):
    return [row for row in map(json.loads, (folder / "metrics.jsonl").open(encoding="utf-8")) if row["event"] == event]


def test_run_leaves_a_folder_that_is_complete(play, capsys):
    code, folder = play()
    assert code == 0
    assert sorted(path.name for path in folder.glob("[!.]*")) == [
        "checkpoints", "metrics.jsonl", "recipe.toml", "report.html", "samples.txt", "summary.json", "tokenizer.json",
    ]  # fmt: skip
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert summary["complete"] and summary["steps"] == 6 and summary["seed"] == 5 and summary["corpus"] == "file"
    last = rows(folder, "eval")[-1]
    assert summary["val_loss"] == last["val_loss"] and summary["bits_per_byte"] == last["bits_per_byte"]
    assert 0 < summary["train_seconds"] < summary["wall_seconds"]
    assert {"train_loss", "perplexity", "tokens_per_second", "mfu", "peak_flops", "device", "dtype", "compiled",
            "threads", "corpus_sha256", "tokenizer", "versions", "parameters"} <= summary.keys()  # fmt: skip
    assert [row["step"] for row in rows(folder, "step")] == [1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in rows(folder, "eval")] == [row["step"] for row in rows(folder, "sample")] == [3, 6]
    assert len(rows(folder, "start")) == len(rows(folder, "end")) == 1
    resolved = from_table(Recipe, read_toml(folder / "recipe.toml"))
    assert (resolved.device, resolved.dtype, resolved.threads) == ("cpu", "float32", 1)
    assert capsys.readouterr().out.splitlines()[-1] == "nanotx sample run"


@pytest.mark.parametrize(
    ("evaluated", "sampled", "saved"), [(0, 0, 0), (4, 0, 7), (0, 7, 4), (7, 4, 0), (6, 1, 6)], ids=str
)
def test_looks_and_checkpoints_come_every_so_many_steps_and_all_of_them_at_the_last(play, evaluated, sampled, saved):
    code, folder = play(train_eval_every=evaluated, train_sample_every=sampled, train_checkpoint_every=saved)
    assert code == 0
    for event, every in {"eval": evaluated, "sample": sampled, "checkpoint": saved}.items():
        first = 1 if event == "checkpoint" else 0  # the first step is saved at once, if any but the last are
        wanted = [step for step in range(1, 7) if step == 6 or (every and (step % every == 0 or step == first))]
        assert [row["step"] for row in rows(folder, event)] == wanted, event
    assert nanotx.load(folder).step == 6
    last = rows(folder, "sample")[-1]["text"]
    assert (folder / "samples.txt").read_text(encoding="utf-8").endswith(last + "\n")
    assert json.loads((folder / "summary.json").read_text(encoding="utf-8"))["val_loss"] is not None


def test_run_is_loaded_and_generates(play):
    _, folder = play()
    loaded = nanotx.load(folder)
    assert loaded.step == 6 and loaded.recipe.train.steps == 6
    text = loaded.generate("abc", max_new_tokens=20, seed=1)
    assert text.startswith("abc") and len(text) == 23
    assert text == nanotx.load(folder).generate("abc", max_new_tokens=20, seed=1)
    assert len(loaded.generate(max_new_tokens=9, temperature=0.0)) == 9
    ids = generate(loaded.model, torch.tensor([[1]]), max_new_tokens=5)
    assert len(loaded.tokenizer.decode(ids[0].tolist())) == 6


def test_command_prints_the_prompt_and_its_continuation(play, capsys):
    _, folder = play()
    capsys.readouterr()
    words = ["sample", str(folder), "--prompt", "ab", "--max-new-tokens", "15", "--seed", "3"]
    assert nanotx_command(words) == 0
    out = capsys.readouterr().out
    assert out.startswith("ab") and out == nanotx.load(folder).generate("ab", max_new_tokens=15, seed=3) + "\n"
    assert nanotx_command([*words, "--stop", out[6]]) == 0
    assert capsys.readouterr().out == out[: out.index(out[6], 2)] + "\n"


def test_resumed_run_says_so_and_a_complete_run_has_nothing_left(play, capsys):
    code, folder = play("--resume")
    assert code == 0 and "there is no run to resume, so this one begins at step 0" in capsys.readouterr().out
    code, _ = play("--resume")
    assert code == 0 and "the run is complete at step 6; nothing is left to do" in capsys.readouterr().out
    assert nanotx_command(["train", "shakespeare_char", "--run", "run", "--resume", "--train.steps", "8"]) == 0
    assert [row["step"] for row in rows(folder, "step")] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [row["step"] for row in rows(folder, "resume")] == [6]
    assert json.loads((folder / "summary.json").read_text(encoding="utf-8"))["steps"] == 8


def test_flags_that_would_make_it_another_run_are_refused_with_the_difference(play):
    play()
    for words, match in [
        (["--model.dim", "32"], r"model\.dim was 16, not 32"),
        (["--train.steps", "4"], r"train\.steps was 6, and 4 is fewer"),
        (["--ffn", "mlp"], r"model(\.block)+\.ffn\.part was 'relu2', not 'mlp'"),
    ]:
        with pytest.raises(ConfigError, match=f"--resume: the run differs: .*{match}"):
            nanotx_command(["train", "shakespeare_char", "--run", "run", "--resume", *words])
    for words in (["--attention", "per_head"], ["--threads", "1"], ["--train.eval-every", "2"]):
        assert nanotx_command(["train", "shakespeare_char", "--run", "run", "--resume", *words]) == 0


def test_corpus_that_has_changed_is_refused_by_digest(play, tmp_path):
    play()
    text(tmp_path / "text.txt", size=901)
    with pytest.raises(DataError, match="the run began with a corpus of length 900 and SHA-256"):
        nanotx_command(["train", "shakespeare_char", "--run", "run", "--resume", "--train.steps", "9"])


OTHERS = [
    ([], Byte(), "char", "byte"),
    ([], Char(unknown=True), "char", "char"),
    (["--tokenizer", "bpe", "--tokenizer.vocab-size", "258"], Bpe(vocab_size=258, pattern="gpt2"), "bpe", "bpe"),
]


@pytest.mark.parametrize(("words", "config", "was", "now"), OTHERS)
def test_replaced_tokenizer_is_refused_by_name_and_digest(play, tmp_path, words, config, was, now):
    _, folder = play(*words)
    old, other = load(folder / "tokenizer.json"), config.train([(tmp_path / "text.txt").read_text(encoding="utf-8")])
    message = (
        f"step-6: trained with the tokenizer {was} of digest {old.digest[:12]}..., and this is {now} of "
        f"{other.digest[:12]}...: the same ids would be other texts. Bring the old one back, or begin a new run."
    )
    other.save(folder / "tokenizer.json")
    with pytest.raises(TokenizerError, match=re.escape(message)) as caught:
        nanotx_command(["train", "shakespeare_char", "--run", "run", "--resume", "--train.steps", "8"])
    assert caught.value.exit_code == 3
    assert rows(folder, "step")[-1]["step"] == 6 and not rows(folder, "resume")
    assert nanotx.load(folder).tokenizer == old  # the one that the checkpoint keeps

    exchange(folder / "checkpoints/step-6", other)
    with pytest.raises(TokenizerError, match=re.escape(message)):
        nanotx.load(folder)
    with pytest.raises(TokenizerError, match=re.escape(message)):
        nanotx_command(["sample", "run"])

    old.save(folder / "tokenizer.json")
    exchange(folder / "checkpoints/step-6", old)
    assert nanotx_command(["train", "shakespeare_char", "--run", "run", "--resume", "--train.steps", "8"]) == 0


def exchange(checkpoint, codec):
    """Put another tokenizer into a checkpoint, and its digest into the manifest, as if it had been there always."""
    codec.save(checkpoint / "tokenizer.json")
    manifest = json.loads((checkpoint / "MANIFEST.json").read_text(encoding="utf-8"))
    data = (checkpoint / "tokenizer.json").read_bytes()
    manifest["tokenizer.json"] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (checkpoint / "MANIFEST.json").write_text(json.dumps(manifest), encoding="utf-8")


def test_checkpoint_with_another_tokenizer_is_invalid(play):
    _, folder = play()
    for step in (4, 6):
        Byte().train([]).save(folder / f"checkpoints/step-{step}/tokenizer.json")
    with pytest.raises(RunError, match=r"no checkpoint can be read\..*tokenizer\.json: the file is not the one that"):
        nanotx.load(folder)


@pytest.mark.parametrize(
    "words",
    [
        ["--tokenizer", "word", "--tokenizer.unknown", "--tokenizer.vocab-size", "20"],
        ["--tokenizer", "char", "--tokenizer.unknown"],
    ],
)
def test_run_with_unknown_tokens_has_the_bits_per_byte_of_the_rest_and_warns(play, tmp_path, words, capsys):
    file = tmp_path / "text.txt"
    file.write_text(file.read_text(encoding="utf-8") + "\u00e9", encoding="utf-8")
    code, folder = play(*words)
    out = " ".join(capsys.readouterr().out.split())
    assert code == 0 and "refused" not in out
    assert re.search(
        r"warning: \d+ of the \d+ tokens to validate on are <unk>: bits per byte cover only the other tokens", out
    )
    assert rows(folder, "eval")[-1]["bits_per_byte"] > 0
    with pytest.raises(TextError, match="of this text become <unk> and are lost, so its bits per"):
        nanotx_command(["eval", "run"])


def test_run_whose_tokenizer_loses_something_has_no_bits_per_byte(play, tmp_path, capsys):
    file = tmp_path / "text.txt"
    train = file.read_text(encoding="utf-8")
    file.write_text("\u00e9" + train + "e\u0301", encoding="utf-8")
    code, folder = play("--tokenizer", "char", "--tokenizer.nfc")
    out = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert code == 0
    assert "the tokenizer does not round-trip the validation text" in out and "cannot be compared with" in out
    assert "bits per byte refused" in out
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert summary["complete"] and summary["val_loss"] > 0
    assert "bits_per_byte" in summary and summary["bits_per_byte"] is None
    for row in rows(folder, "eval"):
        assert row["val_loss"] > 0 and row["bits_per_byte"] is None
    assert nanotx.load(folder).generate("ab", max_new_tokens=3).startswith("ab")  # the prompt as it was given
    with pytest.raises(TextError, match="decode to another text"):
        nanotx_command(["eval", "run"])
    assert nanotx_command(["train", "shakespeare_char", "--run", "run", "--resume", "--train.steps", "8"]) == 0
    assert rows(folder, "eval")[-1]["bits_per_byte"] is None


def test_run_whose_tokenizer_might_lose_something_and_does_not_has_its_bits_per_byte(play, capsys):
    code, folder = play("--tokenizer", "char", "--tokenizer.unknown", "--tokenizer.nfc")
    assert code == 0 and "refused" not in capsys.readouterr().out
    assert rows(folder, "eval")[-1]["bits_per_byte"] > 0
    assert nanotx_command(["eval", "run"]) == 0
    assert " bits per byte" in capsys.readouterr().out


WHOLE = [
    "char",
    "byte",
    "bpe --tokenizer.vocab-size 260",
    "wordpiece --tokenizer.vocab-size 20",
    "unigram --tokenizer.vocab-size 20",
    "shakespeare_bpe_512",
]


@pytest.mark.parametrize("tokenizer", WHOLE)
@pytest.mark.parametrize("attention", ["fused", "per_head", "sdpa"])
def test_any_tokenizer_and_any_attention_run_the_same_recipe_to_the_end(play, tokenizer, attention):
    code, folder = play("--tokenizer", *tokenizer.split(), "--attention", attention)
    assert code == 0 and nanotx.load(folder).generate("ab", max_new_tokens=4).startswith("ab")


def test_flags_reach_every_place_of_a_slot(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pattern = '[[model.blocks]]\npart = "prenorm"\nattention = "sdpa"\n[[model.blocks]]\npart = "postnorm"\n'
    (tmp_path / "pattern.toml").write_text(pattern, encoding="utf-8")
    words = ["train", "pattern.toml", "--print-config", "--attention", "fused", "--attention.heads", "2"]
    assert nanotx_command([*words, "--norm", "rmsnorm", "--ffn.bias", "--train.steps=7", "--corpus", "playhouse"]) == 0
    recipe = from_table(Recipe, tomllib.loads(capsys.readouterr().out))
    assert [block.attention.part for block in recipe.model.blocks] == ["fused", "fused"]
    assert {block.attention.heads for block in recipe.model.blocks} == {2}
    assert {block.norm.part for block in recipe.model.blocks} == {recipe.model.norm.part} == {"rmsnorm"}
    assert {block.ffn.bias for block in recipe.model.blocks} == {True}
    assert recipe.train.steps == 7 and recipe.corpus.part == "playhouse"
    (tmp_path / "again.toml").write_text(write_toml(recipe), encoding="utf-8")
    assert nanotx_command(["train", "again.toml", "--print-config"]) == 0
    assert from_table(Recipe, tomllib.loads(capsys.readouterr().out)) == recipe


def test_where_shakespeare_is_out_of_reach_a_play_is_learned_and_recorded(tmp_path, monkeypatch, capsys):
    from nanotx.data.corpus import Unavailable
    from nanotx.data.corpus.tiny_shakespeare import TinyShakespeare

    def unreachable(self):
        raise Unavailable("corpus tiny_shakespeare: no network. Set NANOTX_DATA ...")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(TinyShakespeare, "text", unreachable)
    assert nanotx_command(["train", "shakespeare_char", "--run", "run", *tiny(train_eval_every=0)]) == 0
    assert "Set NANOTX_DATA" in capsys.readouterr().out
    summary = json.loads((tmp_path / "run/summary.json").read_text(encoding="utf-8"))
    assert summary["corpus"] == "playhouse" and 0 < summary["floor_bits_per_byte"] < summary["bits_per_byte"]
    with pytest.raises(Unavailable):
        nanotx_command(["train", "shakespeare_char", "--run", "other", "--corpus", "tiny_shakespeare", *tiny()])
    assert not (tmp_path / "other").exists()


MISTAKES = [
    (["--attention.haeds", "3"], ConfigError, r"blockwise has no field 'haeds'\. Did you mean '--attention\.heads'\?"),
    (["--atention", "fused"], ConfigError, r"--atention: no such flag\. Did you mean '--attention'\?"),
    (["--attention", "fussed"], ConfigError, r"--attention: .*no part named 'fussed'\. Did you mean 'fused'\?"),
    (["--attention"], ConfigError, r"--attention: expected one name of blockwise, .* sliding_window, got nothing"),
    (["--seed", "1"], ConfigError, r"--seed: given 2 times, with 5 and 1; give it once"),
    (["--attention.heads=3"], ConfigError, r"--attention\.heads: given 2 times, with 2 and 3"),
    (["stray"], ConfigError, r"'stray': unexpected argument"),
    (["--norm.eps", "nan"], ConfigError, r"norm\.eps: expected a finite number, got nan"),
    (["--train.grad-accum-steps", "4"], ConfigError, r"train\.grad_accum_steps: 4 does not divide batch_size=2"),
    (["--tokenizer", "shakespear_char"], ConfigError, r"Did you mean 'shakespeare_char'\?"),
    (["--tokenizer", "nowhere.json"], TokenizerError, r"nowhere\.json"),
    (["--load", "nowhere.py"], ConfigError, r"--load nowhere\.py: expected a Python file"),
    (["--schedule.final", "2"], ConfigError, r"schedule\.final: expected a number from 0 to 1, got 2\.0"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "kind", "match"), MISTAKES, ids=[" ".join(words) for words, _, _ in MISTAKES])
def test_mistake_is_answered_and_leaves_nothing_behind(play, tmp_path, words, kind, match):
    with pytest.raises(kind, match=match):
        play(*words)
    assert not (tmp_path / "run").exists()


def test_mistakes_about_files_and_folders_are_answered(play, tmp_path, monkeypatch):
    (tmp_path / "empty.txt").touch()
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9 " * 99)
    (tmp_path / "short.txt").write_text("abc abc", encoding="utf-8")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thing").touch()
    base = ["train", "shakespeare_char", *tiny(), "--corpus", "file", "--corpus.path"]
    for words, kind, code, match in [
        ([*base, "nowhere.txt"], DataError, 3, r"nowhere\.txt"),
        ([*base, "empty.txt"], DataError, 3, r"empty\.txt"),
        ([*base, "latin.txt"], DataError, 3, r"latin\.txt.*0xe9.*offset 3"),
        ([*base, "short.txt"], DataError, 3, r"no window of model\.context=8"),
        (["train", "shakespeare_char", "--run", "full"], ConfigError, 2, r"--run full: already exists"),
        (["train", "shakespeare_char", "--run", "full", "--resume"], ConfigError, 2, r"--run full: .* it is not a run"),
        (
            [*base, "text.txt", "--run", "text.txt/run"],
            RunError,
            4,
            r"text\.txt/run: cannot be written: .*try another --run",
        ),
        (["train", "nanogpt64"], ConfigError, 2, r"no such recipe\. Did you mean 'nanogpt_64'\?"),
        (["train"], ConfigError, 2, "missing; expected one of"),
        (["train", "nowhere.toml"], ConfigError, 2, r"nowhere\.toml: there is no such file"),
        (["sample", "nowhere"], RunError, 4, "expected a run's folder"),
        (["smaple", "x"], ConfigError, 2, r"no such command\. Did you mean 'sample'\?"),
        (["tokenizer", "learn"], ConfigError, 2, "no such command"),
        (["show", "full"], RunError, 4, "expected a run's folder"),
        (["tokenizer", "train", "bpe"], ConfigError, 2, "expected either files or --corpus"),
        (["tokenizer", "encode", "nowhere.json", "short.txt"], TokenizerError, 3, r"nowhere\.json"),
        (["tokenizer", "encode", "byte_", "short.txt"], TokenizerError, 3, "byte_"),
    ]:
        with pytest.raises(kind, match=match) as caught:
            nanotx_command(words)
        assert caught.value.exit_code == code, words
    with pytest.raises(ConfigError, match=r"heads=5 do not divide dim=16; try heads from \[1, 2, 4, 8, 16\]"):
        nanotx_command(["train", "shakespeare_char", "--model.dim", "16", "--attention.heads", "5"])
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ConfigError, match="device: expected a CUDA GPU, and torch sees none; try --device cpu"):
        nanotx_command(["train", "shakespeare_char", "--device", "cuda"])
    assert not (tmp_path / "runs").exists()


def test_missing_prompt_or_step_is_answered(play):
    _, folder = play()
    with pytest.raises(TextError, match=r"char: 'Z' \(U\+005A\) at offset 1"):
        nanotx_command(["sample", str(folder), "--prompt", "aZ"])
    with pytest.raises(RunError, match=r"no checkpoint of step 3; it has \[4, 6\]"):
        nanotx_command(["sample", str(folder), "--step", "3"])
    with pytest.raises(ConfigError, match="--top-p: expected a number above 0, at most 1"):
        nanotx_command(["sample", str(folder), "--top-p", "2"])
    with pytest.raises(ConfigError, match="--max-new-tokens: expected a number of at least 0"):
        nanotx_command(["sample", str(folder), "--max-new-tokens", "-1"])


def test_character_that_only_the_validation_text_holds_is_reported_before_the_first_step(play, tmp_path):
    file = tmp_path / "text.txt"
    file.write_text(file.read_text(encoding="utf-8") + "é", encoding="utf-8")
    with pytest.raises(TextError, match=r"validation text, of which training saw nothing: char: 'é' \(U\+00E9\)"):
        play()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["train", "shakespeare_char", "--train.steps", "10k"], 2, "--train.steps"),
        (["train", "shakespeare_char", "--ffn", "mlp", "--ffn.activation", "tanh"], 2, "--ffn.activation"),
        (["train", "shakespeare_char", "--model.dim", "7"], 2, "heads=4 do not divide dim=7"),
        (["sample", "nowhere"], 4, "RunError: nowhere"),
        (["tokenizer", "decode", "shakespeare_char", "nowhere"], 3, "DataError: nowhere"),
        ([], 2, ""),
    ],
)
def test_program_leaves_with_the_exit_code_of_the_mistake_and_no_traceback(tmp_path, words, code, message):
    got, out, err = answer(*words, cwd=tmp_path)
    assert got == code and message in err and "Traceback" not in out + err


def test_tokenizer_commands_go_round(tmp_path, monkeypatch, capsysbinary):
    monkeypatch.chdir(tmp_path)
    text(tmp_path / "text.txt")
    assert nanotx_command(["tokenizer", "train", "bpe", "text.txt", "--vocab-size", "262", "--out", "mine.json"]) == 0
    assert nanotx.tokenizers.load("mine.json").vocab_size == 262
    assert nanotx.tokenizers.load("mine.json").origin.command.startswith("nanotx tokenizer train bpe text.txt")
    capsysbinary.readouterr()
    assert nanotx_command(["tokenizer", "encode", "mine.json", "text.txt"]) == 0
    (tmp_path / "ids.txt").write_bytes(capsysbinary.readouterr().out)
    assert nanotx_command(["tokenizer", "decode", "mine.json", "ids.txt"]) == 0
    assert capsysbinary.readouterr().out == (tmp_path / "text.txt").read_bytes()


def test_tokenizer_is_trained_on_a_corpus_by_its_fields(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ["tokenizer", "train", "char", "--out", "mine.json"]
    assert nanotx_command([*command, "--corpus", "playhouse", "--corpus.grammar", "voices"]) == 0
    assert not nanotx.tokenizers.load("mine.json").alphabet.isascii()
    assert nanotx_command([*command, "--corpus", "playhouse", "--corpus.size", "3000"]) == 0
    assert nanotx.tokenizers.load("mine.json").alphabet.isascii()
    text(tmp_path / "text.txt")
    with pytest.raises(ConfigError, match=r"--corpus.validation: no such flag"):  # it would say nothing of files
        nanotx_command([*command, "text.txt", "--corpus.validation", "0.5"])
    for words in ([], ["text.txt", "--corpus", "playhouse"]):
        with pytest.raises(ConfigError, match="expected either files or --corpus NAME"):
            nanotx_command([*command, *words])


def test_loaded_tokenizer_part_is_trained(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text(tmp_path / "text.txt")
    source = Path(nanotx.__file__).parent / "tokenizers" / "byte.py"
    own = source.read_text(encoding="utf-8").replace('register("byte")', 'register("octet")')
    (tmp_path / "octet.py").write_text(own.replace('part = "byte"', 'part = "octet"'), encoding="utf-8")
    try:
        assert nanotx_command(["tokenizer", "train", "octet", "text.txt", "--load", "octet.py"]) == 0
        assert nanotx.tokenizers.load("octet.json").part == "octet"
    finally:
        Tokenizer.registered.pop("octet", None)
