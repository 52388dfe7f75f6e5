"""The playhouse's other grammars, seven languages and a logbook: each right in itself, the bits of every byte known."""
# ruff: noqa: RUF001  these letters are meant

import re
import string
import unicodedata
from itertools import cycle, islice, pairwise
from math import log2

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st
from test_corpus import WEIGHTS, all_texts, finite_grammars

from nanotx.config.schema import from_table, to_table
from nanotx.data.corpus import Corpus
from nanotx.data.corpus.playhouse import Playhouse
from nanotx.data.corpus.playhouse.grammar import Grammar
from nanotx.data.corpus.playhouse.logbook import CARGOES, DAYS, PORTS, the_logbook
from nanotx.data.corpus.playhouse.rewriting import factored, unrolled
from nanotx.data.corpus.playhouse.voices import VOICES, the_voices
from nanotx.errors import ConfigError, DataError
from nanotx.tokenizers import scripts

VOICE = Playhouse(grammar="voices", size=200_000)
TEXT = VOICE.text()
LOGBOOK = Playhouse(grammar="logbook", size=200_000)
LOG = LOGBOOK.text()
SHAKESPEARE = {"\n", *" !$&',-.3:;?", *string.ascii_letters}
"""The characters of Tiny Shakespeare."""

both = pytest.mark.parametrize("grammar", ["voices", "logbook"])

# Alternatives that begin with rules.


@st.composite
def grammars_whose_alternatives_begin_with_rules(draw):
    rules = draw(finite_grammars())
    first = {f"<{name}>{end}": draw(WEIGHTS) for name, end in [("b", "s"), ("c", "t"), ("d", "u"), ("d", "uv")]}
    return rules | {"top": {name: first[name] for name in draw(st.sets(st.sampled_from(sorted(first)), min_size=1))}}


@given(rules=grammars_whose_alternatives_begin_with_rules())
def test_unrolling_changes_no_text_and_no_probability(rules):
    before, after = {}, {}
    for actual, made in ((before, rules), (after, unrolled(rules))):
        for text, p in all_texts(made, "<top>"):
            actual[text] = actual.get(text, 0.0) + p
    assert after == pytest.approx(before)
    for choices in unrolled(rules).values():
        assert len(choices) == 1 or not any(text.startswith("<") for text in choices)


def test_rule_that_begins_with_itself_cannot_be_unrolled():
    with pytest.raises(ConfigError, match="rule 's' leads to 's', which begins with itself"):
        unrolled({"s": {"<t>a": 1, "b": 1}, "t": {"<s>c": 1, "d": 1}})


# The text.


def test_voices_are_chosen_by_name_and_the_stage_is_the_default():
    assert from_table(Corpus, {"part": "playhouse", "grammar": "voices", "size": 200_000}) == VOICE
    assert to_table(VOICE)["grammar"] == "voices" and Playhouse().grammar == "stage"
    assert from_table(Corpus, {"part": "playhouse", "grammar": "logbook", "size": 200_000}) == LOGBOOK
    with pytest.raises(ConfigError, match=r"grammar: expected one of 'stage', 'voices', 'logbook', got 'choir'"):
        from_table(Corpus, {"part": "playhouse", "grammar": "choir"})


@both
def test_one_seed_gives_one_text_and_a_longer_text_begins_with_the_shorter(grammar):
    text = TEXT if grammar == "voices" else LOG
    assert len(text) == 200_000
    assert Playhouse(grammar=grammar, size=777).text() == text[:777]
    assert Playhouse(grammar=grammar, size=777, seed=2).text() != text[:777]


def test_text_is_in_normal_form_c_and_holds_letters_that_have_another_form():
    assert unicodedata.is_normalized("NFC", TEXT)
    for letter in "éйάأ요":
        assert letter in TEXT and len(unicodedata.normalize("NFD", letter)) == 2
    assert len(unicodedata.normalize("NFD", TEXT)) > 1.1 * len(TEXT)
    assert "ढ\u093c" in TEXT  # a letter that normal form C takes apart


def test_each_scene_is_in_one_script_and_every_script_fills_its_share():
    filled = dict.fromkeys(VOICES, 0)
    for scene in regex.split(r"\n\n(?=\S+[^\n:：]*\n\n)", TEXT):
        (script, *others) = {script for script, _ in scripts.script_segments(scene)}
        assert others == [], scene
        filled[script] += len(scene.encode("utf-8"))
    size = len(TEXT.encode("utf-8"))
    assert all(0.08 < share / size < 0.22 for share in filled.values()), filled


def test_two_talk_in_turn_and_call_each_other_by_name():
    partners, colons = {}, {}
    for voice in VOICES.values():
        for cast, other in voice.casts:
            partners |= {cast: other, other: cast}
            colons |= dict.fromkeys((cast, other), voice.colon)
    last, turns, calls = "", 0, 0
    for line in TEXT.splitlines()[:-1]:
        speaker = next((name for name in partners if line.startswith(name + colons[name])), "")
        if speaker:
            assert last in ("", partners[speaker])
            calls += line.count(partners[speaker])
            assert line.count(speaker) == 1
        last, turns = speaker, turns + bool(speaker)
    assert turns > 1000 and calls > 100


def test_digits_and_stops_are_those_of_the_script():
    joined = dict.fromkeys(VOICES, "")
    for script, segment in scripts.script_segments(TEXT):
        joined[script] += segment
    for script, marks in {"Devanagari": "।०१२", "Arabic": "؟،٣٤٥", "Han": "。，？二三", "Greek": ";12"}.items():
        assert set(marks) <= set(joined[script])
        assert all(set(marks) & set(joined[other]) <= set("123;,") for other in joined if other != script)


# The logbook.


def test_logbook_has_letters_of_shakespeare_and_another_voice():
    assert set(LOG) < SHAKESPEARE
    stage = set(re.findall("[a-z]+", Playhouse(size=200_000).text()))
    assert {"thou", "thy", "doth", "hath"} <= stage and not {"thou", "thy", "doth", "hath"} & set(LOG.split())
    assert len(set(re.findall("[a-z]+", LOG)) - stage) > 100


def test_each_voyage_keeps_its_port_and_its_cargo_and_its_days_follow_one_another():
    voyages, ports, cargoes = LOG.split("LOG OF THE ")[1:-1], set(), set()
    for voyage in voyages:
        port, cargo = re.search(r" to (\w+), laden with (\w+)\.\n\n", voyage).groups()
        assert set(re.findall(rf"\b({'|'.join(PORTS)})\b", voyage)) == {port}
        assert re.search(
            rf"\nMade {port} [\w ]+\. Sold the {cargo} for [\w ]+ crowns and paid off the crew\.\n\n\n$", voyage
        )
        assert set(re.findall(r"(?:Shifted the|rats in the|Sold the) (\w+)", voyage)) == {cargo}
        days = re.findall(r"^(\w+day)\. Wind ", voyage, re.MULTILINE)
        start = DAYS.index(days[0])
        assert days == list(islice(cycle(DAYS), start, start + len(days)))
        ports.add(port), cargoes.add(cargo)
    assert len(voyages) > 50 and ports == {*PORTS} and cargoes == {*CARGOES}


# What is known of it.


@both
def test_texts_cost_about_what_their_grammar_predicts(grammar):
    corpus, text = (VOICE, TEXT) if grammar == "voices" else (LOGBOOK, LOG)
    bits = corpus.surprisal(text)
    assert bits.shape == (200_000,)
    assert bits.mean() == pytest.approx(corpus.writer().rate(), rel=0.05)


def test_scenes_and_voyages_are_about_as_long_as_their_grammars_predict():
    assert len(LOG) / LOG.count("LOG OF THE ") == pytest.approx(the_logbook().length(), rel=0.15)
    assert len(TEXT) / TEXT.count("\n\n") * 2 == pytest.approx(the_voices().length(), rel=0.15)


def test_sentence_costs_what_the_weights_of_its_choices_say():
    grammar = the_voices()
    sentence = "Chloé\u00a0: Merci, René."
    scene = "Scène 1, au café.\n\n"
    bits = grammar.surprisal(scene + sentence)
    scenes = sum(voice.scenes for voice in VOICES.values()) / VOICES["Latin"].scenes
    assert bits.sum() == pytest.approx(log2(scenes) + log2(9) + log2(5) + log2(4) + log2(20))
    assert bits[len(scene) + 1 : len(scene) + len("Chloé\u00a0: ")].tolist() == [0.0] * 7


def test_line_of_the_logbook_costs_what_the_weights_of_its_choices_say():
    title = "LOG OF THE RAMBLER\nFrom Hull"
    with pytest.raises(DataError, match=r"got 'H' .* at character 24; expected 'B' or 'C'"):
        LOGBOOK.surprisal(title)
    title = "LOG OF THE RAMBLER\nFrom Poole to Riga, laden with wool.\n\n"
    day = "Monday. Wind east, dying; long swell, fog."
    note = " Noon, forty miles from Riga.\n"
    bits = LOGBOOK.surprisal(title + day + note).sum()
    choices = [8, 8, 8 * 6, 7, 8, 9, 6, 9, 45 / 3, 9, 45 / 9]  # ship, harbour, port and cargo, day, weather, note, end
    assert bits == pytest.approx(sum(map(log2, choices)))


def test_floor_is_in_bits_per_byte_and_bytes_are_not_characters():
    training, validation = VOICE.split()
    bits = VOICE.surprisal(training + validation)[len(training) :].sum()
    assert VOICE.floor() == pytest.approx(bits / len(validation.encode("utf-8")))
    assert len(validation.encode("utf-8")) > 1.5 * len(validation)


@pytest.mark.parametrize("grammar", [the_voices(), the_logbook()], ids=["voices", "logbook"])
def test_every_rule_is_used_and_reads_one_way(grammar):
    assert grammar.entropy() / grammar.length() == pytest.approx(grammar.rate())
    used = {grammar.start}
    waiting = [grammar.start]
    while waiting:
        for symbols in grammar.rules[waiting.pop()].alternatives:
            new = {symbol for symbol in symbols if isinstance(symbol, int)} - used
            used |= new
            waiting += new
    assert len(used) > 200


def test_text_of_the_stage_is_outside_the_voices():
    with pytest.raises(DataError, match=r"got 'T' .* at character 0; expected 'S' or "):
        VOICE.surprisal("THE COMEDY OF NED")
    with pytest.raises(DataError, match="got 'e'"):
        VOICE.surprisal(unicodedata.normalize("NFD", "Scène 1"))


# Scripts.


@given(text=st.text(st.sampled_from("aé 1бαक।3漢かア한ا٣،\u0301.\n😀ᚠ"), max_size=40) | st.text(max_size=40))
def test_stretches_join_to_the_text_and_differ_from_their_neighbours(text):
    results = list(scripts.script_segments(text))
    assert "".join(segment for _, segment in results) == text
    assert all(item[0] != other[0] for item, other in pairwise(results))
    assert all(segment for _, segment in results)
    known = {*scripts.NAMES.split(), scripts.OTHER}
    assert [script for script, _ in results if script not in known] in ([], [scripts.COMMON])
    assert scripts.COMMON not in [script for script, _ in results] or len(results) == 1
    for script, segment in results:
        for letter in segment:
            if script in scripts.NAMES.split() and not regex.match(rf"[{scripts.SHARED}]", letter):
                assert regex.match(rf"\p{{Script={script}}}", letter)


@pytest.mark.parametrize(
    ("text", "actual"),
    {
        "": [],
        "12, 3": [("Common", "12, 3")],
        "(a) б!": [("Latin", "(a) "), ("Cyrillic", "б!")],
        "e\u0301 1 ب": [("Latin", "e\u0301 1 "), ("Arabic", "ب")],
        "三 かナ": [("Han", "三 "), ("Hiragana", "か"), ("Katakana", "ナ")],
        "ᚠ, ꦀ": [("Other", "ᚠ, "), ("Javanese", "ꦀ")],
    }.items(),
)
def test_what_belongs_to_no_script_goes_with_the_script_before_it(text, actual):
    assert list(scripts.script_segments(text)) == actual


@pytest.mark.parametrize(
    ("text", "count"),
    {"": 0, " . ": 0, "l'élève lit 12 livres": 5, "e\u0301a": 1, "पढ़ता है।": 2, "三支a铅": 4, "왕은 시를": 2}.items(),
)
def test_words_are_runs_of_letters_marks_and_digits_and_each_han_letter(text, count):
    assert scripts.words(text) == count


@given(text=st.text(max_size=30), other=st.text(max_size=30))
def test_words_of_two_texts_add_up(text, other):
    assert scripts.words(text + " " + other) == scripts.words(text) + scripts.words(other)


def test_factored_and_unrolled_rules_make_a_grammar():
    rules = {"s": {"<n> sleeps": 1, "<n> sings": 2, "go": 1}, "n": {"king": 1, "queen": 3}}
    with pytest.raises(ConfigError, match="one of several alternatives"):
        Grammar(rules, "s")
    assert Grammar(factored(unrolled(rules)), "s").surprisal("queen sings").sum() == pytest.approx(log2(4 * 4 / 3 / 2))
