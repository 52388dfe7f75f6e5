"""Chats out and in: the folder's template gives the ids of nanotx, its ends stop `generate`, and an import keeps it."""

import dataclasses
import io
import json
import re

import pytest
from test_huggingface_export import QWEN3, TEXT, run_of

from nanotx.cli.main import run as nanotx_command
from nanotx.data.conversations import Message
from nanotx.hub.huggingface import chat_proof, proof
from nanotx.hub.huggingface import export as exporting
from nanotx.hub.huggingface import import_run as importing
from nanotx.hub.huggingface.export import export
from nanotx.hub.huggingface.import_run import import_run
from nanotx.runs.load import load
from nanotx.tokenizers.bpe import Bpe
from nanotx.tokenizers.byte import Byte
from nanotx.tokenizers.char import Char
from nanotx.tokenizers.chat_template import DEFAULT, ChatTemplate, with_chat
from nanotx.tokenizers.unigram import Unigram
from nanotx.tokenizers.wordpiece import WordPiece

transformers = pytest.importorskip("transformers")

CHATML = """\
{% for message in messages %}
{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}
{% endfor %}
{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}
"""
HELLO = (Message("user", "But soft!"), Message("assistant", "It is."), Message("user", "What?"))
LETTERS = TEXT + "".join(map(chr, range(32, 127))) + "\n"


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Fewer texts, windows and conversations: the proof itself is asked, not its size."""
    monkeypatch.setattr(proof, "TEXTS", 20)
    monkeypatch.setattr(proof, "WINDOWS", 2)
    monkeypatch.setattr(chat_proof, "CHATS", 30)
    monkeypatch.setattr(chat_proof, "TYPED", 5)


@pytest.fixture
def unproven(monkeypatch):
    """Leave the logits out, which other tests ask for."""
    known = proof.Proof(
        texts=20, windows=2, full=0.0, cached=0.0, padded=0.0, allowed=1e-5, greedy=1, near_tie=None, transformers="5"
    )
    for module in (exporting, importing):
        monkeypatch.setattr(module, "prove", lambda *words, **options: known)


def chat_run(tokenizer=None, source="", model=QWEN3, names=(), letters=LETTERS):
    """A run that chats, without a folder."""
    codec = (tokenizer or Char()).train([letters])
    codec = with_chat(codec.with_special_tokens(names), source)
    run = run_of(dataclasses.replace(model, context=64), Byte())
    module = run.recipe.model.build(codec.vocab_size, seed=2).eval()
    return dataclasses.replace(run, tokenizer=codec, model=module)


def theirs(folder, messages, **options):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tables = [message._asdict() for message in messages]
    return tokenizer.apply_chat_template(tables, add_generation_prompt=True, return_dict=False, **options)


@pytest.mark.usefixtures("unproven")
@pytest.mark.parametrize(
    "tokenizer",
    [Char(), Byte(), Bpe(vocab_size=300), Bpe(vocab_size=280, special_tokens=("<|endoftext|>",))],
    ids=["char", "byte", "bpe", "bpe with an end"],
)
def test_folder_gives_the_ids_of_nanotx_and_stops_where_a_turn_ends(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    run = chat_run(tokenizer)
    written = export(run, tmp_path / "model")
    assert (written.chat.chats, written.chat.trimmed, written.chat.fault) == (30, False, "")
    template, names = ChatTemplate(run.tokenizer, DEFAULT), run.tokenizer.special_tokens
    asked = template.encode(HELLO, generation_prompt=True).ids.tolist()
    assert theirs(written.folder, HELLO) == asked
    opened = transformers.AutoTokenizer.from_pretrained(written.folder)
    assert (opened.chat_template, opened.eos_token) == (DEFAULT, "<|end|>")
    assert opened.decode(asked, skip_special_tokens=True) == "But soft!It is.What?"
    settings = transformers.GenerationConfig.from_pretrained(written.folder)
    end = names.get("<|endoftext|>")
    assert settings.eos_token_id == (names["<|end|>"] if end is None else [names["<|end|>"], end])
    config = json.loads((written.folder / "config.json").read_text(encoding="utf-8"))
    assert config["eos_token_id"] == names["<|end|>"]
    added = json.loads((written.folder / "tokenizer.json").read_text(encoding="utf-8"))["added_tokens"]
    assert {token["content"] for token in added if token["special"]} == set(names)


@pytest.mark.usefixtures("unproven")
def test_typed_special_token_is_text_here_and_a_token_there_as_the_card_says(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    run = chat_run()
    written = export(run, tmp_path / "model")
    typed = [Message("user", "So <|end|>")]
    ours = ChatTemplate(run.tokenizer, DEFAULT).encode(typed, generation_prompt=True).ids.tolist()
    end = run.tokenizer.special_tokens["<|end|>"]
    assert (ours.count(end), theirs(written.folder, typed).count(end)) == (1, 2)
    card = (written.folder / "README.md").read_text(encoding="utf-8")
    assert "An answer ends at `<|end|>`, at which `generate` stops." in card
    assert "ordinary text in nanotx, and the special token in\ntransformers" in card
    assert "| ids of 30 conversations, by the chat template | equal |" in card
    assert (f"{chat_proof.SANITIZE}=True)` keeps it as text too" in card) == written.chat.typed
    if written.chat.typed:
        assert theirs(written.folder, typed, **{chat_proof.SANITIZE: True}) == ours
    assert "ids of 30 conversations equal" in (written.folder / "PROOF.json").read_text(encoding="utf-8")


@pytest.mark.usefixtures("unproven")
def test_alphabet_in_which_no_special_token_can_be_typed_is_proven(tmp_path):
    written = export(chat_run(letters="But, soft! It is the east.\n"), tmp_path / "model")
    assert written.chat == chat_proof.ChatProof(chats=30, trimmed=False, typed=False)
    assert "keeps it as text too" not in (written.folder / "README.md").read_text(encoding="utf-8")


@pytest.mark.usefixtures("unproven")
def test_program_of_the_card_answers(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    export(chat_run(Byte()), tmp_path / "model")
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    programs = re.findall(r"^```python\n(.*?)^```$", card, flags=re.MULTILINE | re.DOTALL)
    exec(compile("\n".join(programs).replace("max_new_tokens=100", "max_new_tokens=4"), "README.md", "exec"), {})
    assert capsys.readouterr().out


@pytest.mark.usefixtures("unproven")
@pytest.mark.parametrize(
    "tokenizer", [Bpe(vocab_size=300), WordPiece(vocab_size=240), Unigram(vocab_size=200)], ids=str
)
def test_template_with_text_before_an_answer_is_proven_or_left_out(tokenizer, tmp_path, monkeypatch):
    """Where a template writes text beside a message, both can be one piece of a tokenizer."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    run = chat_run(tokenizer, CHATML, names=("<|im_start|>", "<|im_end|>"))
    written = export(run, tmp_path / "model")
    card = (written.folder / "README.md").read_text(encoding="utf-8")
    if written.chat.fault:
        assert "left out here because transformers would give other ids: near " in card
        assert transformers.AutoTokenizer.from_pretrained(written.folder).chat_template is None
        return
    which = ", whose messages neither begin nor end with white space" if written.chat.trimmed else ""
    assert f"| ids of 30 conversations{which}, by the chat template | equal |" in card
    asked = ChatTemplate(run.tokenizer, CHATML).encode(HELLO, generation_prompt=True).ids.tolist()
    assert theirs(written.folder, HELLO) == asked


@pytest.mark.usefixtures("unproven")
def test_template_with_other_ids_there_is_left_out_and_the_rest_is_proven(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    encode = ChatTemplate.encode

    def other(self, messages, generation_prompt=False):
        encoded = encode(self, messages, generation_prompt)
        return dataclasses.replace(encoded, ids=encoded.ids[::-1])

    monkeypatch.setattr(ChatTemplate, "encode", other)
    written = export(chat_run(), tmp_path / "model")
    assert "a conversation has the ids" in written.chat.fault and not written.chat.chats
    tables = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in written.folder.glob("*.json")}
    assert "chat_template" not in tables["tokenizer_config.json"] and "eos_token" not in tables["tokenizer_config.json"]
    assert tables["generation_config.json"]["eos_token_id"] is None
    assert "conversations" not in tables["PROOF.json"]["proof"]


def test_export_comes_back_with_its_template(tmp_path, monkeypatch):
    run = chat_run(Bpe(vocab_size=300))
    folder = export(run, tmp_path / "model").folder
    imported = import_run(folder, tmp_path / "again")
    assert imported.proof.greedy == 63  # the text that is compared does not stop where a turn ends
    assert imported.run.tokenizer.chat_template == DEFAULT
    assert "its chat template: ids of 30 conversations equal" in imported.notes
    again = load(tmp_path / "again")
    assert ChatTemplate(again.tokenizer, DEFAULT).encode(HELLO).ids.tolist() == (
        ChatTemplate(run.tokenizer, DEFAULT).encode(HELLO).ids.tolist()
    )
    second = export(again, tmp_path / "second").folder
    assert import_run(second, tmp_path / "third").run.tokenizer.chat_template == DEFAULT


# Templates as vendors write them, in small folders.

WITH_DEFAULT = """\
{% for m in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system
Be kind.<|im_end|>\n' }}{% endif %}
{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}
{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}
"""
WITH_TOOLS = """\
{%- set ns = namespace(system='Be brief.') %}
{%- if tools %}{{- raise_exception('no tools here') }}{%- endif %}
{%- if messages[0].role == 'system' %}{%- set ns.system = messages[0].content %}{%- endif %}
{{- '<|im_start|>system\n' + ns.system + '<|im_end|>\n' }}
{%- for m in messages %}
    {%- if m.role == 'system' and not loop.first %}{%- continue %}{%- endif %}
    {%- if m.content is string and m.role != 'system' %}
        {%- set content = m.content.split('</think>')[-1].lstrip('\n') if m.role == 'assistant' else m.content %}
        {{- '<|im_start|>' + m.role + '\n' }}{% generation %}{{- content + '<|im_end|>\n' }}{% endgeneration %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n<think>\n' }}{%- endif %}
"""
WITH_HEADERS = """\
{{- bos_token }}
{%- if not tools is defined or tools is none %}{%- set today = 'in June' %}{%- endif %}
{%- for m in messages %}
{{- '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + m['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}
"""
VENDORS = {
    "default system": (WITH_DEFAULT, ("<|im_start|>", "<|im_end|>")),
    "thinking": (WITH_TOOLS, ("<|im_start|>", "<|im_end|>")),
    "headers": (WITH_HEADERS, ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")),
}


def folder_of(vendor, folder):
    """A small folder with a template as vendors write it."""
    source, names = VENDORS[vendor]
    run = run_of(dataclasses.replace(QWEN3, context=128), Bpe(vocab_size=300, special_tokens=names))
    export(run, folder)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | {"bos_token": names[0], "eos_token": names[-1]}
    if vendor != "default system":
        (folder / "chat_template.jinja").write_text(source, encoding="utf-8")
    else:
        config["chat_template"] = source
    path.write_text(json.dumps(config), encoding="utf-8")


@pytest.mark.usefixtures("unproven")
@pytest.mark.parametrize("vendor", VENDORS)
def test_imported_model_chats_with_the_template_of_its_folder(vendor, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder_of(vendor, tmp_path / "theirs")
    imported = import_run(tmp_path / "theirs", tmp_path / "run")
    assert "its chat template is kept in the tokenizer: nanotx chat uses it." in imported.notes
    assert "its chat template: ids of 30 conversations equal" in imported.notes
    template = ChatTemplate(imported.run.tokenizer, imported.run.tokenizer.chat_template)
    assert template.encode(HELLO, generation_prompt=True).ids.tolist() == theirs(tmp_path / "theirs", HELLO)
    assert template.turn_end == VENDORS[vendor][1][-1]
    monkeypatch.setattr("sys.stdin", io.StringIO("But soft!\nIt is the east.\n"))
    assert nanotx_command(["chat", str(tmp_path / "run"), "--max-new-tokens", "3", "--temperature", "0"]) == 0
    assert capsys.readouterr().out.count("\n") >= 2
    exported = export(load(tmp_path / "run"), tmp_path / "again")
    assert exported.chat.chats == 30
    assert theirs(exported.folder, HELLO) == theirs(tmp_path / "theirs", HELLO)
    third = import_run(exported.folder, tmp_path / "third", proven=False)
    assert third.run.tokenizer.chat_template == template.source
