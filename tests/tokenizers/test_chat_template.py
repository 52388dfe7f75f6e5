"""Chat templates: the ids of training are the ids of chatting, nobody types a special token, and bad ones are named."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanotx.data.conversations import Message
from nanotx.errors import ConfigError, LawBroken, TextError, TokenizerError
from nanotx.laws.chatting import chat_as_taught, typed_names_are_text
from nanotx.tokenizers import load
from nanotx.tokenizers.base import Codec
from nanotx.tokenizers.bpe import Bpe
from nanotx.tokenizers.byte import Byte, ByteCodec
from nanotx.tokenizers.char import Char
from nanotx.tokenizers.chat_template import DEFAULT, DEFAULT_SPECIAL_TOKENS, ChatTemplate, with_chat
from nanotx.tokenizers.template_process import TemplateProcess
from nanotx.training.chat_dataset import encode_conversations

CHATML = """\
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\n' + message.content | trim + '<|im_end|>' + '\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}
"""
BEGINS = """\
{{ '<s>' }}{% if messages[0].role == 'system' %}{{ '[' + messages[0].content + ']' }}{% endif %}
{% for message in messages if message.role != 'system' %}
{% if message.role == 'user' %}{{ '<u>' + message['content'] + '<a>' }}{% endif %}
{% if message.role == 'assistant' %}{{ message['content'] + '</s>' }}{% endif %}
{% endfor %}
"""
NAMES = {DEFAULT: DEFAULT_SPECIAL_TOKENS, CHATML: ("<|im_start|>", "<|im_end|>"), BEGINS: ("<s>", "<u>", "<a>", "</s>")}
TEXT = "".join(map(chr, range(32, 127))) + "\n"
TRAINED = [
    Byte().train([]),
    Char().train([TEXT]),
    Bpe(vocab_size=300).train(["<|im_start|>assistant\n\nHello, hello.\n" * 30 + TEXT]),
]
HELLO = (Message("user", "Hi."), Message("assistant", "Good day."), Message("user", "So?"), Message("assistant", "No."))


def template_of(codec, source=DEFAULT):
    return ChatTemplate(codec.with_special_tokens(NAMES[source]).with_chat_template(source), source)


def contents(names):
    pieces = st.sampled_from(
        [*names, *(name[:-1] for name in names), "a", "B ", "\n", "'", "</", "{{ 1 }}", "{% if %}"]
    )
    return st.lists(pieces, min_size=1, max_size=5).map("".join)


@st.composite
def conversations(draw, names):
    texts = contents(names)
    turns = [Message("system", draw(texts))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        turns += [Message("user", draw(texts)), Message("assistant", draw(texts))]
    return tuple(turns)


@settings(max_examples=40)
@given(data=st.data(), codec=st.sampled_from(TRAINED), source=st.sampled_from([DEFAULT, BEGINS]))
def test_chat_is_asked_with_the_ids_that_were_taught_and_names_stay_text(data, codec, source):
    template, messages = template_of(codec, source), data.draw(conversations(NAMES[source]))
    chat_as_taught(template, messages)
    typed_names_are_text(template, messages)


@settings(max_examples=40)
@given(data=st.data(), codec=st.sampled_from(TRAINED))
def test_template_that_trims_is_taught_what_it_writes(data, codec):
    messages, template = data.draw(conversations(NAMES[CHATML])), template_of(codec, CHATML)
    trimmed = tuple(Message(role, content.strip() or "x") for role, content in messages)
    chat_as_taught(template, trimmed)
    typed_names_are_text(template, trimmed)
    taught, spaced = (
        template.encode(some) for some in (trimmed, [Message(role, f"\n{content} ") for role, content in trimmed])
    )
    assert spaced.ids.tolist() == taught.ids.tolist() and spaced.learned.tolist() == taught.learned.tolist()
    assert spaced.answers == taught.answers


@dataclass(frozen=True, eq=False)
class Typed(ByteCodec):
    """A tokenizer that takes the names of special tokens in ordinary text for them."""

    def encode(self, text, allowed_special=()):
        return Codec.encode(self, text, self.special_tokens)


def test_laws_catch_a_typed_special_token_and_an_answer_that_is_not_learned():
    names = {name: 256 + number for number, name in enumerate(DEFAULT_SPECIAL_TOKENS)}
    typed = ChatTemplate(Typed(special_tokens=names), DEFAULT)
    with pytest.raises(LawBroken, match="typed_names_are_text: special tokens"):
        typed_names_are_text(typed, (Message("user", "<|end|>"), Message("assistant", "a")))

    class Unlearned(ChatTemplate):
        def encode(self, messages, generation_prompt=False):
            encoded = super().encode(messages, generation_prompt)
            encoded.learned[-1:] = False
            return encoded

    chat_as_taught(template_of(TRAINED[0]), HELLO)
    with pytest.raises(LawBroken, match=r"chat_as_taught: '<\|end\|>' at token \d+ is not learned"):
        chat_as_taught(Unlearned(template_of(TRAINED[0]).codec, DEFAULT), HELLO)


def test_only_answers_and_their_ends_are_learned():
    encoded = template_of(TRAINED[0]).encode(HELLO)
    codec = template_of(TRAINED[0]).codec
    assert codec.decode(encoded.ids[encoded.learned]) == "Good day.<|end|>No.<|end|>"
    assert codec.decode(encoded.ids) == (
        "<|user|>Hi.<|end|><|assistant|>Good day.<|end|><|user|>So?<|end|><|assistant|>No.<|end|>"
    )
    assert [codec.decode(encoded.ids[at : at + 2]) for at in encoded.answers] == ["Go", "No"]


def test_template_is_saved_with_its_tokenizer_and_part_of_its_digest(tmp_path):
    for codec in TRAINED:
        held = with_chat(codec)
        held.save(tmp_path / "tokenizer.json")
        again = load(tmp_path / "tokenizer.json")
        assert again == held != codec
        assert (again.chat_template, again.digest) == (DEFAULT, held.digest)
        assert held.digest not in (codec.digest, held.with_chat_template(CHATML).digest)
        assert with_chat(again) == again


def test_special_tokens_come_after_all_others_and_old_ids_stay():
    for codec in TRAINED:
        more = codec.with_special_tokens(["<|a|>", "<|b|>"])
        assert more.vocab_size == codec.vocab_size + 2
        assert dict(more.special_tokens) == {"<|a|>": codec.vocab_size, "<|b|>": codec.vocab_size + 1}
        assert np.array_equal(more.encode("a <|a|>"), codec.encode("a <|a|>"))
        assert more.decode(more.encode("a <|a|>", allowed_special=["<|a|>"])) == "a <|a|>"
        assert more.with_special_tokens(["<|b|>"]) is more
    assert "special_tokens" not in TRAINED[0].to_dict()


def test_tokenizer_of_a_library_keeps_its_special_tokens():
    pytest.importorskip("tokenizers")
    from nanotx.tokenizers.huggingface import Huggingface

    codec = Huggingface(vocab_size=270).train([TEXT * 3])
    with pytest.raises(TokenizerError, match=r"huggingface: no special tokens can be added.*--corpus.template FILE"):
        with_chat(codec)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{% for m in messages %}\n{{ m.content }", r"line 2: unexpected '}' \(in '{{ m.content }'\)"),
        (
            "\n\n{{ messages[9].content }}",
            r"line 3: UndefinedError: .*no element 9 \(in '{{ messages\[9\].content }}'\)",
        ),
        ("{{ raise_exception('roles must alternate') }}", "line 1: refuses these messages: roles must alternate"),
        ("\n{{ messages.__class__ }}", "line 2: reaches for Python, which a template may not: attribute '__class__'"),
        ("{{ messages.append(1) }}", "line 1: reaches for Python, .*'append'"),
        ("{{ ''.__class__.__mro__ }}", "line 1: reaches for Python, .*'__class__' of str"),
        ("{{ cycler.__init__.__globals__ }}", "line 1: reaches for Python, .*'__init__'"),
        ("{% include '/etc/passwd' %}", "line 1: TypeError: no loader"),
        ("{% for n in range(10000000) %}{% endfor %}", "line 1: OverflowError"),
        ("{% for m in messages %}{{ m.content }}{% endfor %}", "no special token ends answer 1"),
        ("x" * 70_000, "70,000 characters; expected at most 65,536"),
        (
            "{% for m in messages %}{{ m.role }}: {{ m.content }}<|end|>{% endfor %}"
            "{% if add_generation_prompt %}bot: {% endif %}",
            r"before message 2 it writes 'user: Hi.<|end|>assistant: .*', and asks for it with '.*bot: '".replace(
                "|", r"\|"
            ),
        ),
    ],
)
def test_bad_template_is_refused_with_its_line_and_the_reason(source, message):
    with pytest.raises(ConfigError, match=f"chat template: {message}"):
        ChatTemplate(with_chat(TRAINED[0]), source).encode(HELLO)


GROWING = (
    "{{% set ns = namespace(x='xx') %}}{{% for i in range(40) %}}{{% set ns.x = {} %}}{{% endfor %}}"
    "{{{{ ns.x | length }}}}"
)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows bounds the memory of no process by itself")
@pytest.mark.parametrize(
    "source",
    [
        "{{ 'a' * 1000000000 }}",
        "{{ 'a' | center(1000000000) }}",
        "{{ 'a'.ljust(1000000000) }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '{:{w}}'.format(1, w=1000000000) }}",
        "{{ 'a\n' | indent(1000000000) }}",
        GROWING.format("ns.x ~ ns.x"),
        GROWING.format("ns.x + ns.x"),
        GROWING.format("ns.x.replace('x', ns.x[:9])"),
        GROWING.format("[ns.x, ns.x] | join"),
    ],
)
def test_template_that_fills_the_memory_is_stopped_and_the_next_one_runs(source):
    codec = with_chat(TRAINED[0])
    with pytest.raises(ConfigError, match=r"chat template: .*takes more than 512 MB of memory, so it was stopped"):
        ChatTemplate(codec, source).encode(HELLO)
    assert ChatTemplate(codec, DEFAULT).encode(HELLO).answers


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    ],
)
def test_template_that_takes_too_long_is_stopped_and_the_next_one_runs(source, monkeypatch):
    codec = with_chat(TRAINED[0])
    whole = ChatTemplate(codec, DEFAULT).encode(HELLO)
    monkeypatch.setattr("nanotx.tokenizers.template_process.SECONDS", 0.3)
    with pytest.raises(ConfigError, match=r"chat template: takes more than 0\.3 s, so it was stopped\."):
        ChatTemplate(codec, source).encode(HELLO)
    monkeypatch.undo()
    assert np.array_equal(ChatTemplate(codec, DEFAULT).encode(HELLO).ids, whole.ids)


def test_interrupted_template_leaves_no_answer_for_the_next_question(monkeypatch):
    process = TemplateProcess()
    assert process.render("{{ 1 }}", {}) == "1"

    class Interrupted:
        def __init__(self, *_):
            pass

        def start(self):
            pass

        def cancel(self):
            raise KeyboardInterrupt

    monkeypatch.setattr("nanotx.tokenizers.template_process.Timer", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        process.render("{{ 2 }}", {})
    monkeypatch.undo()
    assert process.render("{{ 3 }}", {}) == "3"
    process.close()


def test_templates_of_several_threads_get_their_own_answers():
    process = TemplateProcess()
    with ThreadPoolExecutor(8) as threads:
        texts = threads.map(lambda n: process.render("{{ n }} {{ 'x' * 999 }}", {"n": n}), range(200))
        assert [int(text.split()[0]) for text in texts] == list(range(200))
    process.close()


def test_template_that_refuses_roles_may_and_one_with_json_keeps_its_characters():
    source = "{{ messages | tojson }}"
    template = ChatTemplate(with_chat(TRAINED[0]), source)
    assert template.codec.decode(template.encode([Message("user", "\u00e9 <b>")]).ids) == (
        '[{"role": "user", "content": "\u00e9 <b>"}]'
    )


def test_template_may_write_the_date_where_nothing_is_learned():
    source = "{{ strftime_now('%Y') }}<|end|>{% if tools is none %}{% generation %}!{% endgeneration %}{% endif %}"
    template = ChatTemplate(with_chat(TRAINED[0]), source)
    assert template.codec.decode(template.encode(HELLO[:1], generation_prompt=True).ids) == f"{date.today():%Y}<|end|>!"
    with pytest.raises(ConfigError, match=r"talk: the chat template writes the date of the day .*template FILE"):
        encode_conversations(template, [HELLO], 100, "talk")


def test_end_of_a_turn_is_the_special_token_after_an_answer():
    for source, end in ((DEFAULT, "<|end|>"), (CHATML, "<|im_end|>"), (BEGINS, "</s>")):
        assert template_of(TRAINED[0], source).turn_end == end
    assert ChatTemplate(with_chat(TRAINED[0]), "{{ raise_exception('no') }}").turn_end == ""
    assert ChatTemplate(with_chat(TRAINED[0]), "{% for m in messages %}{{ m.content }}{% endfor %}").turn_end == ""


def test_earlier_answer_may_be_asked_for_otherwise_where_nothing_is_learned():
    thinks = DEFAULT.replace("<|assistant|>{% endif", "<|assistant|>(hm) {% endif")
    template = ChatTemplate(with_chat(TRAINED[0]), thinks)
    with pytest.raises(ConfigError, match="a model would be asked otherwise than it was taught"):
        template.encode(HELLO)
    asked = template.encode(HELLO[:3], generation_prompt=True)
    assert template.codec.decode(asked.ids).endswith("So?<|end|><|assistant|>(hm) ") and asked.answers == ()


def test_message_that_the_tokenizer_cannot_encode_says_so():
    with pytest.raises(TextError, match="char: '\u00e9'"):
        template_of(TRAINED[1]).encode([Message("user", "\u00e9")])


def test_edited_template_in_a_tokenizers_file_is_refused(tmp_path):
    path = tmp_path / "tokenizer.json"
    with_chat(TRAINED[0]).save(path)
    path.write_text(path.read_text(encoding="utf-8").replace("<|end|>", "<|END|>"), encoding="utf-8")
    with pytest.raises(TokenizerError, match="the digest does not match"):
        load(path)


@pytest.mark.parametrize("file", ["chat_template.jinja", "tokenizer_config.json"])
def test_template_of_an_imported_folder_is_kept_with_the_names_it_uses(file, tmp_path):
    from nanotx.hub.huggingface.chat_templates import with_folder_template

    source = "{{ bos_token }}" + CHATML
    config = {"bos_token": {"content": "<|im_start|>"}, "eos_token": "x"}
    if file == "tokenizer_config.json":
        config["chat_template"] = [{"name": "tools", "template": "{{"}, {"name": "default", "template": source}]
    else:
        (tmp_path / file).write_text(source, encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    codec, notes = with_folder_template(TRAINED[0].with_special_tokens(NAMES[CHATML]), tmp_path)
    assert "nanotx chat uses it" in notes[0]
    chat_as_taught(ChatTemplate(codec, codec.chat_template), HELLO)
    assert codec.decode(ChatTemplate(codec, codec.chat_template).encode(HELLO).ids).startswith(
        "<|im_start|><|im_start|>user\n"
    )


def test_broken_template_of_a_folder_is_left_out_with_its_reason(tmp_path):
    from nanotx.hub.huggingface.chat_templates import with_folder_template

    (tmp_path / "chat_template.jinja").write_text("{% for %}", encoding="utf-8")
    codec, notes = with_folder_template(TRAINED[0], tmp_path)
    assert (codec.chat_template, "left out: chat template: line 1" in notes[0]) == ("", True)
    assert with_folder_template(TRAINED[0], tmp_path / "none") == (TRAINED[0], ())
