"""nanotx chat: answers, resets, forgets the oldest turn where the context is full, and refuses in a sentence."""

import io

import pytest
import torch
from helpers import ROOT, text, tiny

from nanotx.cli.commands.chat import converse, lines
from nanotx.cli.main import run as nanotx_command
from nanotx.data.conversations import Message
from nanotx.errors import ConfigError, DataError, TextError
from nanotx.generation import Sampling
from nanotx.generation.chat import Chat
from nanotx.nn.transformer import Model
from nanotx.runs.load import load
from nanotx.tokenizers.byte import Byte
from nanotx.tokenizers.chat_template import DEFAULT, ChatTemplate, with_chat

TEMPLATE = ChatTemplate(with_chat(Byte().train([])), DEFAULT)
MODEL = Model(dim=16, layers=1, context=48).build(TEMPLATE.codec.vocab_size, 1).eval()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that was trained on small talk."""
    path = tmp_path_factory.mktemp("chat") / "runs/talk"
    flags = ["--corpus", "small_talk", "--corpus.count", "20", "--tokenizer", "byte", "--no-compile"]
    words = tiny(model_context=192, train_steps=1, train_checkpoint_every=0, train_sample_tokens=1)
    assert nanotx_command(["train", "shakespeare_char", *words, *flags, "--run", str(path)]) == 0
    return path


def chat(**how):
    return Chat(MODEL, TEMPLATE, Sampling(temperature=1.0), **{"max_new_tokens": 6, **how})


def test_answers_are_those_of_the_ids_that_were_taught():
    talk = chat()
    first = "".join(talk.ask("Hi."))
    asked = TEMPLATE.encode(talk.messages[:1], generation_prompt=True).ids
    assert talk.messages == [Message("user", "Hi."), Message("assistant", first)]
    assert TEMPLATE.encode(talk.messages).ids[: len(asked)].tolist() == asked.tolist()
    assert first == "".join(chat().ask("Hi."))
    talk.reset()
    assert talk.messages == []


def test_answer_ends_at_a_special_token_which_is_no_part_of_it(monkeypatch):
    def next_logits(ids, cache=None):
        """Says "a", then ends."""
        logits = torch.zeros(1, TEMPLATE.codec.vocab_size)
        after_a = int(ids[0, -1]) == ord("a")
        logits[0, TEMPLATE.codec.special_tokens["<|end|>"] if after_a else ord("a")] = 99.0
        return logits

    monkeypatch.setattr(MODEL, "next_logits", next_logits)
    talk = Chat(MODEL, TEMPLATE)
    assert ("".join(talk.ask("Hi.")), talk.ended) == ("a", True)


def test_full_context_drops_the_oldest_turns_and_keeps_the_system():
    talk = chat(system="Be.")
    for _ in range(4):
        "".join(talk.ask("Hello."))
    assert talk.dropped == 1
    assert talk.messages[0] == Message("system", "Be.")
    assert len(TEMPLATE.encode(talk.messages[:-1], generation_prompt=True).ids) + 6 <= 48
    with pytest.raises(ConfigError, match=r"chat: this message makes \d+ tokens .* context is 48; write a shorter one"):
        "".join(talk.ask("x" * 60))
    with pytest.raises(DataError, match="chat: an empty message"):
        "".join(talk.ask(" "))


def test_answer_that_is_given_up_stays_in_the_conversation():
    talk = chat()
    pieces = talk.ask("Hi.")
    next(pieces)
    pieces.close()
    assert [message.role for message in talk.messages] == ["user", "assistant"]
    assert not talk.ended


def test_lines_of_a_pipe_are_answered_and_commands_obeyed(run, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("Hi.\n\n/reset\n/what\nHi.\n/quit\nno\n"))
    assert nanotx_command(["chat", str(run), "--max-new-tokens", "3", "--temperature", "0"]) == 0
    out, err = capsys.readouterr()
    first, _, rest = out.partition("\n")
    assert out == f"{first}\n{first}\n" or rest
    assert "The conversation is forgotten." in err
    assert "/what: unknown; /reset forgets" in err


def test_typing_goes_on_after_a_message_that_cannot_be_answered(monkeypatch, capsys):
    class Typed(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr("sys.stdin", Typed())
    typed = iter(["x" * 60, "Hi.", "/quit"])
    monkeypatch.setattr("builtins.input", lambda prompt: next(typed))
    assert converse(chat(), lines()) == 0
    out, err = capsys.readouterr()
    assert "write a shorter one" in err
    assert out.endswith("\n")


def test_line_of_a_pipe_that_cannot_be_answered_is_an_error(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("x"))
    with pytest.raises((ConfigError, TextError)):
        converse(chat(), iter(["x" * 60]))


def test_run_that_was_not_taught_to_chat_says_what_to_do(tmp_path):
    path = tmp_path / "plain"
    corpus = ["--corpus", "file", "--corpus.path", str(text(tmp_path / "t.txt"))]
    words = tiny(train_steps=1, train_checkpoint_every=0)
    assert nanotx_command(["train", "macbook", *words, *corpus, "--run", str(path)]) == 0
    with pytest.raises(
        ConfigError, match=r"holds no chat template.*--corpus chat --corpus\.path talk\.jsonl.*--template"
    ):
        nanotx_command(["chat", str(path)])


def test_template_of_a_file_is_used_and_a_missing_one_named(run, tmp_path, monkeypatch, capsys):
    with pytest.raises(DataError, match=r"--template .*none\.jinja"):
        nanotx_command(["chat", str(run), "--template", str(tmp_path / "none.jinja")])
    (tmp_path / "bad.jinja").write_text("\n{% for %}", encoding="utf-8")
    monkeypatch.setattr("sys.stdin", io.StringIO("Hi.\n"))
    with pytest.raises(ConfigError, match="chat template: line 2: "):
        nanotx_command(["chat", str(run), "--template", str(tmp_path / "bad.jinja")])


def test_program_of_the_page_chats(run, monkeypatch, capsys):
    monkeypatch.chdir(run.parents[1])
    page = (ROOT / "docs" / "chatting.md").read_text(encoding="utf-8")
    (body,) = [block.partition("```")[0] for block in page.split("```python\n")[1:]]
    exec(compile(body, "docs/chatting.md", "exec"), {})
    assert capsys.readouterr().out.startswith("True ")
    assert DEFAULT.strip() in page
    assert load(run).tokenizer.chat_template == DEFAULT
