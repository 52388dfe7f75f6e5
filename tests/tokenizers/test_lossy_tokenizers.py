"""A foreign tokenizer.json encodes a text alike each time and whole: what does otherwise is switched off or refused."""

import json

import pytest
from foreign import CODECS, LESSON
from helpers import text, tiny

from nanotx.cli.main import run
from nanotx.errors import ConfigError, TokenizerError
from nanotx.tokenizers import Tokenizer, load
from nanotx.tokenizers.convert import write_tokenizer

pytest.importorskip("tokenizers")
TEXT = "".join(LESSON)


@pytest.fixture
def changed(tmp_path):
    """A tokenizer.json of a byte-level BPE in which something was changed."""

    def write(**changes):
        file = tmp_path / "tokenizer.json"
        write_tokenizer(CODECS["bpe"], "huggingface", file)
        table = json.loads(file.read_text(encoding="utf-8"))
        for path, value in changes.items():
            *outer, last = path.split("__")
            inside = table
            for key in outer:
                inside = inside[key]
            inside[last] = value
        file.write_text(json.dumps(table), encoding="utf-8")
        return file

    return write


def learned(file, **fields):
    return Tokenizer.find("huggingface")(path=str(file), **fields).train([])


TRUNCATION = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
PADDING = {"strategy": {"Fixed": 50_000}, "direction": "Right", "pad_to_multiple_of": None}
PADDING |= {"pad_id": 0, "pad_type_id": 0, "pad_token": "a"}
STRIPPED = {"id": 330, "content": "<m>", "special": False, "normalized": False, "single_word": False}


@pytest.mark.parametrize(
    "changes",
    [
        {"model__dropout": 0.3},
        {"model__dropout": 1.0},
        {"truncation": TRUNCATION},
        {"padding": PADDING},
        {"model__dropout": 0.5, "truncation": TRUNCATION, "padding": PADDING},
    ],
)
def test_what_makes_ids_random_or_cuts_a_text_off_is_switched_off(changed, changes, tmp_path):
    file = changed(**changes)
    for codec in (learned(file), load(file)):
        ids = [codec.encode(TEXT).tolist() for _ in range(4)]
        assert ids == [CODECS["bpe"].encode(TEXT).tolist()] * 4
    codec.save(tmp_path / "saved.json")
    back = load(tmp_path / "saved.json")
    assert back.encode(TEXT).tolist() == ids[0]
    write_tokenizer(back, "huggingface", tmp_path / "exported.json")
    exported = json.loads((tmp_path / "exported.json").read_text(encoding="utf-8"))
    assert [exported["truncation"], exported["padding"], exported["model"]["dropout"]] == [None, None, None]


def test_old_run_whose_tokenizer_has_dropout_encodes_deterministically(changed, tmp_path):
    described = json.loads(changed(model__dropout=0.3).read_text(encoding="utf-8"))
    codec = Tokenizer.find("huggingface").from_dict({"tokenizer": described})
    assert codec.to_dict()["tokenizer"] == described  # and its digest is what it was
    assert len({tuple(codec.encode(TEXT).tolist()) for _ in range(4)}) == 1


@pytest.mark.parametrize("sides", [{"lstrip": True}, {"rstrip": True}, {"lstrip": True, "rstrip": True}])
def test_blanks_beside_an_added_token_are_kept(changed, sides):
    added = json.loads(changed().read_text(encoding="utf-8"))["added_tokens"]
    file = changed(added_tokens=[*added, STRIPPED | {"lstrip": False, "rstrip": False} | sides])
    codec = learned(file)
    assert codec.encode("a<m>").tolist()[-1] == 330
    assert codec.decode(codec.encode("to  <m> \n be <m>")) == "to  <m> \n be <m>"


SPLIT = {"type": "Split", "pattern": {"Regex": r"\s+"}, "invert": False}
LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"normalizer": {"type": "Lowercase"}}, "normalizer: Lowercase"),
        ({"normalizer": {"type": "StripAccents"}}, "normalizer: StripAccents"),
        ({"normalizer": {"type": "NFKC"}}, "normalizer: NFKC"),
        (
            {
                "normalizer": {
                    "type": "Sequence",
                    "normalizers": [{"type": "NFC"}, {"type": "Strip", "strip_left": True, "strip_right": False}],
                }
            },
            "normalizer: Strip",
        ),
        ({"normalizer": {"type": "Replace", "pattern": {"String": "a"}, "content": ""}}, "normalizer: Replace"),
        ({"normalizer": {"type": "Replace", "pattern": {"Regex": " +"}, "content": " "}}, "normalizer: Replace"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "pre_tokenizer: Whitespace"),
        (
            {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [SPLIT | {"behavior": "Removed"}, LEVEL]}},
            "pre_tokenizer: Split that removes",
        ),
        ({"pre_tokenizer": None}, "model: BPE without unk_token or byte_fallback"),
    ],
)
def test_step_that_loses_text_is_refused_by_its_name(changed, changes, message):
    file = changed(**changes)
    with pytest.raises(TokenizerError, match=rf"tokenizer.json: {message}.*: this loses text.*--tokenizer.lossy"):
        learned(file)
    assert learned(file, lossy=True) == load(file)  # whoever asks for it has it


def test_byte_without_a_token_is_refused(changed):
    vocab = json.loads(changed().read_text(encoding="utf-8"))["model"]["vocab"]
    del vocab["\u0100"]
    with pytest.raises(TokenizerError, match="model: BPE in which the byte 0x00 has no token: this loses text"):
        learned(changed(model__vocab=vocab))


def test_lossy_tokenizer_trains_where_it_was_requested(changed, tmp_path, capsys):
    file = changed(normalizer={"type": "Lowercase"})
    words = ["--corpus", "file", "--corpus.path", str(text(tmp_path / "a.txt", 3000)), "--tokenizer", str(file)]
    words += ["--run", str(tmp_path / "run"), *tiny(train_steps=1, train_sample_every=0)]
    with pytest.raises(TokenizerError, match="normalizer: Lowercase"):
        run(["train", "shakespeare_char", *words])
    assert not (tmp_path / "run").exists()
    assert run(["train", "shakespeare_char", *words, "--tokenizer.lossy"]) == 0


@pytest.mark.parametrize("change", [{"normalizer": {"type": "Lowercase"}}, {"pre_tokenizer": None}])
def test_encode_refuses_a_lossy_tokenizer_unless_it_is_asked_for(changed, tmp_path, capsys, change):
    file, texts = changed(**change), text(tmp_path / "a.txt")
    step = "normalizer: Lowercase" if "normalizer" in change else "model: BPE without unk_token"
    for more in ([], ["--out", str(tmp_path / "a.ids")]):
        words = ["tokenizer", "encode", str(file), str(texts), *more]
        with pytest.raises(TokenizerError, match=f"{step}.*this loses text.* --lossy takes it"):
            run(words)
        assert not capsys.readouterr().out and not (tmp_path / "a.ids").exists()
        assert run([*words, "--lossy"]) == 0
        assert capsys.readouterr().out
    assert (tmp_path / "a.ids").exists()


def test_show_says_that_a_tokenizer_loses_text(changed, tmp_path, capsys):
    file = changed(normalizer={"type": "Lowercase"})
    assert run(["tokenizer", "show", str(file), "--text", "abc"]) == 0
    output = capsys.readouterr()
    assert "loses text" in output.err and "normalizer: Lowercase" in output.err and "--tokenizer.lossy" in output.err
    assert len(output.out.splitlines()) and "loses" not in output.out
    page = tmp_path / "page.html"
    assert run(["tokenizer", "show", str(file), "--text", "abc", "--html", str(page)]) == 0
    assert "normalizer: Lowercase" in page.read_text(encoding="utf-8")
    assert run(["tokenizer", "show", str(changed()), "--text", "abc"]) == 0
    assert not capsys.readouterr().err


def test_compare_names_its_own_remedy_for_a_lossy_tokenizer(changed, tmp_path, capsys):
    file, texts = changed(normalizer={"type": "Lowercase"}), text(tmp_path / "a.txt")
    words = ["tokenizer", "compare", str(texts), "--rounds", "1", "--tokenizers"]
    assert run([*words, str(file)]) == 3
    assert f"{file}:lossy takes it" in "".join(capsys.readouterr().out.split("\n"))
    assert run([*words, f"{file}:lossy"]) == 0


def test_import_refuses_a_lossy_tokenizer(changed, tmp_path):
    for change in ({"normalizer": {"type": "Lowercase"}}, {"pre_tokenizer": None}):
        with pytest.raises(TokenizerError):
            run(["tokenizer", "import", str(changed(**change)), "--out", str(tmp_path / "mine.json")])
    assert not (tmp_path / "mine.json").exists()


def test_lossy_file_read_as_a_saved_tokenizer_is_refused_for_training(changed):
    with pytest.raises(TokenizerError, match=r"--tokenizer huggingface --tokenizer.lossy"):
        Tokenizer.find("saved")(path=str(changed(normalizer={"type": "Lowercase"}))).train([])


def test_regex_in_a_foreign_file_that_calls_itself_is_refused(changed):
    for pattern in (r"(?R)?a|[\s\S]", r"\g<0>?a|[\s\S]", r"(?<x>a)\g'x'"):
        cut = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
        with pytest.raises((TokenizerError, ConfigError), match="unbounded memory"):
            learned(changed(pre_tokenizer={"type": "Sequence", "pretokenizers": [cut, LEVEL]}))
