"""A checkpoint of nanoGPT is read as the model that it holds, or refused; nothing in it is executed."""

import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from test_huggingface_layouts import trained

import nanotx
from nanotx.cli.entry import exit_code
from nanotx.cli.main import run
from nanotx.errors import ConfigError, RunError, TokenizerError
from nanotx.hub.nanogpt import import_nanogpt
from nanotx.hub.plain_pickle import read_plain_pickle
from nanotx.nn.attention.sdpa import Sdpa
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.ffn.mlp import Mlp
from nanotx.nn.norm.layernorm import LayerNorm
from nanotx.nn.position.learned import Learned
from nanotx.nn.transformer import Model

LETTERS = "\n abcdefgh"


class Nothing:
    """A value that a reader of plain values refuses; reading it would write a file."""

    def __reduce__(self):
        return Path.touch, (Path("executed"),)


def their_names(model, bias):
    """The weights as nanoGPT names them, written out by hand."""
    ours, theirs = model.state_dict(), {}
    kinds = ("weight", "bias") if bias else ("weight",)
    theirs["transformer.wte.weight"] = theirs["lm_head.weight"] = ours["embedding.weight"]
    theirs["transformer.wpe.weight"] = ours["position.table.weight"]
    for kind in kinds:
        theirs[f"transformer.ln_f.{kind}"] = ours[f"norm.{kind}"]
        for layer in range(2):
            for their, our in (
                ("ln_1", "attention_norm"),
                ("attn.c_attn", "attention.to_qkv"),
                ("attn.c_proj", "attention.to_out"),
                ("ln_2", "ffn_norm"),
                ("mlp.c_fc", "ffn.to_hidden"),
                ("mlp.c_proj", "ffn.to_out"),
            ):
                theirs[f"transformer.h.{layer}.{their}.{kind}"] = ours[f"blocks.{layer}.{our}.{kind}"]
    return theirs


def checkpoint(bias, prefix=""):
    """A model, and the checkpoint that nanoGPT would write of it."""
    block = PreNorm(attention=Sdpa(heads=2, bias=bias, out_bias=bias), ffn=Mlp(bias=bias), norm=LayerNorm(bias=bias))
    config = Model(dim=16, layers=2, context=8, position=Learned(), norm=LayerNorm(bias=bias), block=block)
    model = trained(config, len(LETTERS), 3)
    weights = their_names(model, bias) | {"transformer.h.0.attn.bias": torch.ones(1, 1, 8, 8)}
    arguments = {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 8, "bias": bias, "vocab_size": len(LETTERS)}
    return model, {
        "model": {f"{prefix}{name}": weight for name, weight in weights.items()},
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.99)}]},
        "model_args": arguments | {"dropout": 0.2},
        "iter_num": 5000,
        "best_val_loss": torch.tensor(1.47),
        "config": {"dataset": "shakespeare_char", "compile": True},
    }


@pytest.fixture
def folder(tmp_path):
    torch.save(checkpoint(bias=False)[1], tmp_path / "ckpt.pt")
    meta = {"vocab_size": len(LETTERS), "itos": dict(enumerate(LETTERS)), "stoi": {c: i for i, c in enumerate(LETTERS)}}
    (tmp_path / "meta.pkl").write_bytes(pickle.dumps(meta))
    return tmp_path


def changed(folder, change):
    """Change the checkpoint."""
    _, table = checkpoint(bias=False)
    change(table)
    torch.save(table, folder / "ckpt.pt")


@pytest.mark.parametrize(("bias", "prefix"), [(False, ""), (True, "_orig_mod.")])
def test_checkpoint_is_the_model_that_it_was(folder, bias, prefix):
    model, table = checkpoint(bias, prefix)
    torch.save(table, folder / "ckpt.pt")
    imported, codec, _ = import_nanogpt(folder / "ckpt.pt", None)
    ids = torch.tensor([codec.encode("bad cafe").tolist()])
    torch.testing.assert_close(imported.model(ids), model(ids), rtol=0, atol=1e-6)
    assert codec.decode([2, 3]) == "ab"
    assert imported.model.config.position == Learned()


def test_command_reads_a_checkpoint_by_its_name_or_its_folder(folder, tmp_path, capsys):
    for number, words in enumerate(([folder], [folder / "ckpt.pt", "--tokenizer", folder / "meta.pkl"])):
        target = tmp_path / f"run-{number}"
        assert exit_code(lambda w=words, t=target: run(["import", *map(str, w), "--run", str(t)])) == 0
        assert "not compared with transformers: it does not read this file" in capsys.readouterr().out
        assert len(nanotx.load(target).generate("a", max_new_tokens=3)) == 4
    (folder / "meta.pkl").unlink()
    assert exit_code(lambda: run(["import", str(folder), "--run", str(tmp_path / "run")])) == 3
    assert "--tokenizer data/shakespeare_char/meta.pkl" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda t: t.pop("model"), RunError, "no checkpoint of nanoGPT: it has no model"),
        (lambda t: t["model_args"].pop("n_head"), ConfigError, "n_head: expected a whole number from 1"),
        (lambda t: t["model_args"].update(n_head=3, rotary=True), ConfigError, "2 faults: n_head.*'rotary'"),
        (lambda t: t["model"].pop("transformer.wpe.weight"), RunError, "wpe.weight is missing"),
        (lambda t: t["model"].update({"transformer.wpe.weight": "text"}), RunError, "expected tensors, got others"),
        (lambda t: t["model"]["transformer.wpe.weight"].fill_(torch.inf), RunError, "NaN or infinite"),
        (lambda t: t.update(more=Nothing()), RunError, "other values than tensors, numbers and strings"),
    ],
)
def test_checkpoint_that_is_wrong_is_refused(folder, change, error, message, monkeypatch):
    monkeypatch.chdir(folder)
    changed(folder, change)
    with pytest.raises(error, match=message):
        import_nanogpt(folder / "ckpt.pt", None)
    assert not (folder / "executed").exists()


def test_damaged_checkpoint_is_refused(folder):
    file = folder / "ckpt.pt"
    data = file.read_bytes()
    for part in (b"", data[:9], data[: len(data) // 2], b"\0" * 99, b"PK\x05\x06" + b"\0" * 18, pickle.dumps({})):
        file.write_bytes(part)
        with pytest.raises(RunError, match=r"ckpt.pt: cannot be read as weights: "):
            import_nanogpt(file, None)


def test_checkpoint_that_unpacks_to_more_than_its_size_is_refused(folder):
    with (
        zipfile.ZipFile(folder / "ckpt.pt") as old,
        zipfile.ZipFile(folder / "new.pt", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(RunError, match="its members are compressed"):
        import_nanogpt(folder / "new.pt", None)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (pickle.dumps({"itos": Nothing()}), "opcode STACK_GLOBAL|opcode SHORT_BINUNICODE|makes another kind of value"),
        (b"cos\nsystem\n(S'touch executed'\ntR.", "opcode GLOBAL at byte 0 makes another kind of value"),
        (pickle.dumps({"itos": [1, 2]}), "opcode EMPTY_LIST"),
        (pickle.dumps({(1, 2): 3}), "opcode TUPLE2"),
        (pickle.dumps(7), "expected a dictionary, got 7"),
        (b"", "no pickle of plain values"),
        (b".", "no pickle of plain values"),
        (b"\x80\x04}(", "no pickle of plain values"),
        (b"\x80\x04}u.", "no pickle of plain values"),
        (b"\x80\x04h\x07.", "no pickle of plain values"),
        (b"\x80\x04}r\xff\xff\xff\xff.", ""),  # a memo with one place of a large number takes no memory
        (b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7fabc", "no pickle of plain values"),
        (b"\x80\x04}}}s.", "a key is {}"),
        (b"\x80\x04}(h\x00u.", "no pickle of plain values"),
    ],
)
def test_pickle_is_read_as_plain_values_or_refused(tmp_path, data, message, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "meta.pkl").write_bytes(data)
    if not message:
        assert read_plain_pickle(tmp_path / "meta.pkl") == {}
        return
    with pytest.raises(TokenizerError, match=message):
        read_plain_pickle(tmp_path / "meta.pkl")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol_of_pickles_is_read(tmp_path, protocol):
    table = {"itos": dict(enumerate("abcé😀\n" * 300)), "stoi": {"a": 0, "b": 2**40}, "vocab_size": 300}
    (tmp_path / "meta.pkl").write_bytes(pickle.dumps(table, protocol))
    assert read_plain_pickle(tmp_path / "meta.pkl") == table


@pytest.mark.parametrize(
    ("itos", "message"),
    [
        ({0: "a", 2: "b"}, "expected a character for each id from 0 on"),
        ({0: "a", 1: "bc"}, "expected single characters"),
        ({0: "a", 1: 7}, "expected single characters"),
        ({0: "b", 1: "a"}, "in order of code point"),
        ({0: "a", 1: "a"}, "each character once"),
        ({0: "\ud800"}, "itos: "),
        ({}, "itos: "),
        ("ab", "expected a character for each id"),
    ],
)
def test_characters_that_are_no_alphabet_are_refused(folder, itos, message):
    (folder / "meta.pkl").write_bytes(pickle.dumps({"itos": itos}))
    with pytest.raises(TokenizerError, match=message):
        import_nanogpt(folder / "ckpt.pt", None)
