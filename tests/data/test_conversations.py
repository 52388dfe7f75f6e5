"""Conversations: what is read, and what is refused with its line."""

import json
import re
import string
from itertools import pairwise

import pytest

from nanotx.data.conversations import Message, conversations_of
from nanotx.data.corpus.chat import Chat
from nanotx.data.corpus.small_talk import UNKNOWN, SmallTalk
from nanotx.errors import ConfigError, DataError

HELLO = {"role": "user", "content": "Hello."}
ANSWER = {"role": "assistant", "content": "Good morning."}
SYSTEM = {"role": "system", "content": "Be kind."}


def line(*messages):
    return json.dumps({"messages": messages})


def test_messages_and_prompts_are_read_line_by_line(tmp_path):
    path = tmp_path / "talk.jsonl"
    lines = [line(SYSTEM, HELLO, ANSWER), "", json.dumps({"prompt": "Hello.", "answer": "Good morning."})]
    path.write_text("\n".join(lines), encoding="utf-8")
    turns = (Message("user", "Hello."), Message("assistant", "Good morning."))
    assert list(Chat(path=str(path)).conversations()) == [(Message("system", "Be kind."), *turns), turns]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("not json", r"not JSON: Expecting value.*expected a conversation per line"),
        ('{"text": "Hello."}', r"no messages; expected \{"),
        ("3", "no messages"),
        (line(), "has no messages"),
        (line({"content": "Hello."}, ANSWER), "message 1: has no role; expected one of system, user, assistant"),
        (line({"role": "bot", "content": "x"}), "message 1: role: expected one of .*, got 'bot'"),
        (line(HELLO, {"role": "assistant"}), "message 2: content: expected a text, got NoneType"),
        (line(HELLO, {"role": "assistant", "content": " "}), "message 2: an empty answer"),
        (line({"role": "user", "content": ""}, ANSWER), "message 1: an empty message"),
        (line(SYSTEM, SYSTEM, HELLO, ANSWER), "message 2: a second message of the system"),
        (line(HELLO, SYSTEM, ANSWER), "message 2: a message of the system, and here comes one of the assistant"),
        (line(ANSWER), "message 1: a message of the assistant, and here comes one of the system or the user"),
        (line(HELLO, HELLO), "message 2: a message of the user, and here comes one of the assistant"),
        (line(HELLO), "has no message of the assistant"),
        (line(HELLO, ANSWER, HELLO), "ends with a message of the user"),
        (line(HELLO, {"role": "assistant", "content": "\ud800"}), "message 2: content: lone surrogate at offset 0"),
    ],
)
def test_line_that_is_no_conversation_is_refused(bad, message):
    with pytest.raises(DataError, match=f"talk: line 2: {message}"):
        conversations_of("talk", line(HELLO, ANSWER) + "\n" + bad)


def test_file_in_another_encoding_is_refused_without_a_flag_that_training_has_not(tmp_path):
    path = tmp_path / "talk.jsonl"
    path.write_bytes(line(HELLO, ANSWER).encode("utf-16"))
    with pytest.raises(DataError, match=r"offset 0; save it as UTF-8\. .*, and the file looks like UTF-16") as caught:
        list(Chat(path=str(path)).conversations())
    assert "--" not in str(caught.value)


def test_file_without_a_conversation_is_refused():
    with pytest.raises(DataError, match="talk: there is no conversation in it; expected a line such as"):
        conversations_of("talk", "\n\n")


def test_corpus_without_a_path_names_the_flag_and_one_that_needs_none():
    with pytest.raises(DataError, match=r"--corpus\.path talk\.jsonl, or try --corpus small_talk"):
        Chat().conversations()


def test_single_conversation_leaves_nothing_to_validate_on(tmp_path):
    (tmp_path / "one.jsonl").write_text(line(HELLO, ANSWER), encoding="utf-8")
    with pytest.raises(DataError, match=r"1 conversation with validation=0\.1 leave 1 to train on and 0"):
        Chat(path=str(tmp_path / "one.jsonl")).split_conversations()


def test_small_talk_is_the_same_each_time_and_every_answer_follows_from_what_is_said():
    talk = SmallTalk(count=300)
    every = talk.conversations()
    assert every == talk.conversations() != SmallTalk(count=300, seed=2).conversations()
    assert conversations_of("", "\n".join(line(*(m._asdict() for m in turns)) for turns in every)) == every
    names = 0
    for turns in every:
        said = [message.content.lower() for message in turns if message.role != "system"]
        for question, answer in pairwise(said):
            if match := re.fullmatch(r"spell (\w+)\.?|how do you spell (\w+)\??", question):
                assert answer.replace("-", "") == match[1] or match[2]
            if re.match(r"what is my name|who am i", question):
                before = re.findall(r"(?:i am|i'm|my name is) (\w+)\b", " ".join(said[: said.index(question)]))
                assert answer == (f"your name is {before[0]}." if before else "you did not tell me your name.")
                names += bool(before)
    assert names > 5


def test_small_talk_has_every_key_of_the_keyboard_and_admits_what_it_cannot_know():
    conversations = SmallTalk(count=4000).split_conversations()[0]
    assert {*string.printable[:95]} <= {letter for turns in conversations for m in turns for letter in m.content}
    unknown = [q.content for turns in conversations for q, a in pairwise(turns) if a.content == UNKNOWN]
    assert len({*unknown}) > 500
    assert not [question for question in unknown if re.search(r"opposite|colou?r|plus \d|spell|joke", question.lower())]


def test_small_talk_of_no_conversations_is_refused():
    with pytest.raises(ConfigError, match="count"):
        SmallTalk(count=0)
