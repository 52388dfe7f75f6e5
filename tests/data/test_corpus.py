import hashlib
import socket
import threading
import time
import urllib.request
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from itertools import islice, pairwise, product
from math import log2
from random import Random
from urllib.error import URLError

import numpy as np
import platformdirs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanotx.config.schema import from_table
from nanotx.data import download
from nanotx.data.corpus import Corpus, Unavailable, tiny_shakespeare
from nanotx.data.corpus.file import File
from nanotx.data.corpus.playhouse import Playhouse
from nanotx.data.corpus.playhouse.grammar import Grammar
from nanotx.data.corpus.playhouse.rewriting import factored
from nanotx.data.corpus.tiny_shakespeare import TinyShakespeare
from nanotx.data.download import Source, fetch, open_https, opener
from nanotx.errors import ConfigError, DataError

# The slot.


def test_every_corpus_is_found_by_the_name_of_its_file_and_built_without_arguments():
    assert {"file", "playhouse", "tiny_shakespeare"} <= set(Corpus.names())
    for name in ("file", "playhouse", "tiny_shakespeare"):
        part = Corpus.find(name)()
        assert part == from_table(Corpus, name)
        assert part.part == name


@given(text=st.text(st.characters(exclude_categories=["Cs"]), min_size=2, max_size=60), share=st.floats(0.05, 0.95))
def test_split_cuts_between_characters_and_loses_none(tmp_path_factory, text, share):
    path = tmp_path_factory.mktemp("split") / "text.txt"
    path.write_bytes(("é" + text).encode("utf-8"))  # so that no byte-order mark comes first
    cut = round((len(text) + 1) * share)
    corpus = File(path=str(path), validation=share)
    if 0 < cut <= len(text):
        training, validation = corpus.split()
        assert training + validation == "é" + text
        assert len(validation) == cut
    else:
        with pytest.raises(DataError, match="both need some"):
            corpus.split()


def test_share_for_validation_outside_zero_to_one_is_refused():
    with pytest.raises(ConfigError, match="validation: expected a fraction"):
        Playhouse(validation=1.0)


# Files.


def test_file_is_read_unchanged_with_its_line_endings(tmp_path):
    (tmp_path / "a.txt").write_bytes("one\r\ntwo\n学而时习之".encode())
    assert File(path=str(tmp_path / "a.txt")).text() == "one\r\ntwo\n学而时习之"


def test_folder_is_read_to_its_depths_in_order_without_what_is_hidden(tmp_path):
    for name, text in {
        "b.txt": "second\n",
        "a/z.txt": "first",
        "c": "third",
        "d": "",
        ".git/x": "hidden",
        "a/.y": "no",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert File(path=str(tmp_path)).text() == "first\nsecond\nthird"


def test_glob_takes_what_it_matches_in_order(tmp_path, monkeypatch):
    for name in ("b.txt", "a.txt", "c.md", ".d.txt"):
        (tmp_path / name).write_text(name, encoding="utf-8")
    assert File(path=str(tmp_path / "*.txt")).text() == "a.txt\nb.txt"
    monkeypatch.chdir(tmp_path)
    assert File(path="**/*.md").text() == "c.md"
    (tmp_path / "[a].txt").write_text("itself", encoding="utf-8")
    assert File(path="[a].txt").text() == "itself"


def test_byte_order_mark_is_no_text(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbftext")
    assert File(path=str(tmp_path / "a.txt")).text() == "text"


def test_files_that_cannot_be_a_corpus_are_refused_with_the_reason(tmp_path):
    (tmp_path / "poems.txt").write_text("", encoding="utf-8")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9 au lait")
    (tmp_path / "nul.txt").write_bytes("abc".encode("utf-16-le"))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / ".hidden").write_text("x", encoding="utf-8")
    for path, message in {
        "": r"corpus file: path is empty; give --corpus.path my.txt",
        str(tmp_path / "poem.txt"): r"poem.txt: there is no such file or folder. Did you mean 'poems.txt'\?",
        str(tmp_path / "no" / "poem.txt"): r"there is no such file or folder\.$",
        str(tmp_path / "poems.txt"): r"poems.txt: there is no text in it",
        str(tmp_path / "latin.txt"): r"latin.txt: expected UTF-8, got byte 0xe9 at offset 3; save it as UTF-8, as ic",
        str(tmp_path / "l*.txt"): r"latin.txt: expected UTF-8, .* or name the text files alone with a glob",
        str(
            tmp_path / "nul.txt"
        ): r"nul.txt: 3 of 6 characters are NUL characters: it is UTF-16, or no text; try iconv",
        str(tmp_path / "folder"): r"this folder holds no text; hidden files",
        str(tmp_path / "*.md"): r"\*.md: no file matches",
    }.items():
        with pytest.raises(DataError, match=message):
            File(path=path).text()


# Fetching.

PAYLOAD = b"To be, or not to be: that is the question.\n" * 100
PAYLOAD_SOURCE = Source(url="https://example.invalid/x", sha256=hashlib.sha256(PAYLOAD).hexdigest(), size=len(PAYLOAD))


class Answers(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/whole")
            return self.end_headers()
        self.send_response(404 if self.path == "/missing" else 200)
        self.send_header("Content-Length", str(len(PAYLOAD)))
        self.end_headers()
        if self.path == "/whole":
            self.wfile.write(PAYLOAD)
        elif self.path == "/short":
            self.wfile.write(PAYLOAD[:-1])
        elif self.path == "/trickle":
            for byte in PAYLOAD:
                try:
                    self.wfile.write(bytes([byte]))
                except OSError:
                    return None
                time.sleep(0.02)
        return None

    def log_message(self, format, *args):
        pass


@pytest.fixture(scope="module")
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def from_server(address):
    """Opens an address of the local server, whatever is asked for."""
    without_proxy = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return lambda url, seconds: without_proxy.open(address, timeout=seconds)


def giving(data):
    return lambda url, seconds: BytesIO(data)


def everything_in(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_fetched_file_is_whole_at_its_destination_and_nothing_else_is_left(server, tmp_path):
    destination = tmp_path / "cache" / "x.txt"
    assert fetch(PAYLOAD_SOURCE, destination, 5.0, from_server(server + "/whole")) == PAYLOAD
    assert destination.read_bytes() == PAYLOAD
    assert everything_in(tmp_path) == [destination]


@pytest.mark.parametrize(
    ("path", "message"), [("/short", f"got {len(PAYLOAD) - 1} with"), ("/missing", "404"), ("/trickle", "within 0.2 s")]
)
def test_failing_download_leaves_no_file_and_keeps_its_time_limit(server, tmp_path, path, message):
    begun = time.monotonic()
    with pytest.raises(Unavailable, match=message):
        fetch(PAYLOAD_SOURCE, tmp_path / "x.txt", 0.2, from_server(server + path))
    assert time.monotonic() - begun < 1  # the trickle would go on for a minute
    assert everything_in(tmp_path) == []


def test_server_that_is_not_there_is_out_of_reach(tmp_path):
    with socket.socket() as taken:  # bound and not listening: the connection is refused
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(Unavailable, match="refused"):
            fetch(PAYLOAD_SOURCE, tmp_path / "x", 1.0, from_server(f"http://127.0.0.1:{taken.getsockname()[1]}/whole"))
    assert everything_in(tmp_path) == []


def test_host_lookup_that_takes_too_long_is_given_up(tmp_path):
    go_on = threading.Event()

    def stall(url, seconds):
        go_on.wait(5)
        return BytesIO(PAYLOAD)

    with pytest.raises(Unavailable, match=r"not downloaded within 0\.05 s"):
        fetch(PAYLOAD_SOURCE, tmp_path / "x", 0.05, stall)
    go_on.set()
    assert everything_in(tmp_path) == []


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (PAYLOAD[:-1] + b"?", f"expected {len(PAYLOAD)} bytes with SHA-256 .* got {len(PAYLOAD)} with"),
        (PAYLOAD + PAYLOAD, f"got more than {len(PAYLOAD)} with"),
        (b"", "got 0 with"),
    ],
)
def test_other_bytes_than_expected_are_refused(tmp_path, data, message):
    with pytest.raises(Unavailable, match=message):
        fetch(PAYLOAD_SOURCE, tmp_path / "x", 5.0, giving(data))
    assert everything_in(tmp_path) == []


def test_no_more_is_read_than_one_byte_too_many(tmp_path):
    class Endless(BytesIO):
        given = 0

        def read1(self, size=-1):
            Endless.given += size
            return b"x" * size

    with pytest.raises(Unavailable, match="more than"):
        fetch(PAYLOAD_SOURCE, tmp_path / "x", 5.0, lambda url, seconds: Endless())
    assert Endless.given == len(PAYLOAD) + 1


def test_unwritable_destination_does_not_matter(tmp_path):
    (tmp_path / "taken").write_text("a file where a folder should be", encoding="utf-8")
    assert fetch(PAYLOAD_SOURCE, tmp_path / "taken" / "x", 5.0, giving(PAYLOAD)) == PAYLOAD
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    assert fetch(PAYLOAD_SOURCE, tmp_path / "folder", 5.0, giving(PAYLOAD)) == PAYLOAD
    assert [path.name for path in everything_in(tmp_path)] == ["taken"]


def test_only_https_is_opened_and_only_https_is_followed(server):
    with pytest.raises(URLError, match="expected an https address, got http://"):
        open_https(server + "/whole", 1.0)
    with pytest.raises(URLError, match=r"expected an https address, got http://.*/whole"):
        opener().open(server + "/moved", timeout=1)


# Tiny Shakespeare.


@contextmanager
def unreachable(url, seconds):
    raise URLError("no network in a test")


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Tiny Shakespeare, tinier still, with a cache of its own and no network."""
    monkeypatch.delenv("NANOTX_DATA", raising=False)
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda name: str(tmp_path / "cache"))
    monkeypatch.setattr(tiny_shakespeare, "SOURCE", PAYLOAD_SOURCE)
    monkeypatch.setattr(download, "open_https", unreachable)
    return tmp_path


def lay(folder, data):
    path = folder / "tinyshakespeare" / "input.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_tiny_shakespeare_is_fetched_once_and_kept(small, monkeypatch):
    monkeypatch.setattr(download, "open_https", giving(PAYLOAD))
    assert TinyShakespeare().text() == PAYLOAD.decode()
    monkeypatch.setattr(download, "open_https", unreachable)
    assert TinyShakespeare().text() == PAYLOAD.decode()


def test_damaged_cache_is_fetched_anew(small, monkeypatch):
    path = lay(small / "cache", PAYLOAD[:50])
    monkeypatch.setattr(download, "open_https", giving(PAYLOAD))
    assert TinyShakespeare().text() == PAYLOAD.decode()
    assert path.read_bytes() == PAYLOAD


def test_folder_named_by_the_environment_is_looked_in_first(small, monkeypatch):
    lay(small / "data", PAYLOAD)
    monkeypatch.setenv("NANOTX_DATA", str(small / "data"))
    assert TinyShakespeare().text() == PAYLOAD.decode()
    assert not (small / "cache").exists()


def test_folder_named_by_the_environment_may_hold_other_things(small, monkeypatch):
    lay(small / "cache", PAYLOAD)
    monkeypatch.setenv("NANOTX_DATA", str(small / "elsewhere"))
    assert TinyShakespeare().text() == PAYLOAD.decode()


def test_another_file_in_the_folder_named_by_the_environment_is_an_error(small, monkeypatch):
    path = lay(small / "data", PAYLOAD + b"!")
    monkeypatch.setenv("NANOTX_DATA", str(small / "data"))
    with pytest.raises(DataError, match=r"input.txt \(NANOTX_DATA\): expected 4300 bytes") as caught:
        TinyShakespeare().text()
    assert not isinstance(caught.value, Unavailable)  # the user's file is at fault: nothing else is played instead
    assert str(path) in str(caught.value)


def test_out_of_reach_the_error_gives_the_three_remedies(small):
    with pytest.raises(Unavailable, match="no network in a test") as caught:
        TinyShakespeare().text()
    for remedy in (
        "Set NANOTX_DATA to a folder that holds tinyshakespeare/input.txt",
        "--corpus playhouse",
        "--corpus file --corpus.path my.txt",
    ):
        assert remedy in str(caught.value)
    assert everything_in(small) == []


# Grammars.

NAMES = ("a", "b", "c", "d")
WEIGHTS = st.integers(1, 5)


@st.composite
def finite_grammars(draw):
    """Rules that call later ones alone, so that every text can be written down."""
    rules = {}
    for index, name in enumerate(NAMES):
        later = [f"<{other}>" for other in NAMES[index + 1 :]]
        tail = st.lists(st.sampled_from(["x", "yz", *later]), max_size=2).map("".join)
        rules[name] = {first + draw(tail): draw(WEIGHTS) for first in draw(st.sets(st.sampled_from("pqr"), min_size=1))}
    return rules


def all_texts(rules, text):
    """Every text that a text with calls may become, with its probability: the slow definition."""
    before, call, rest = text.partition("<")
    if not call:
        return [(text, 1.0)]
    name, _, after = rest.partition(">")
    total = sum(rules[name].values())
    return [
        (before + middle + end, weight / total * p * q)
        for choice, weight in rules[name].items()
        for (middle, p), (end, q) in product(all_texts(rules, choice), all_texts(rules, after))
    ]


@given(rules=finite_grammars())
def test_surprisal_of_each_text_is_that_of_its_probability(rules):
    grammar = Grammar(rules, "a")
    texts = all_texts(rules, "<a>")
    assert len({text for text, _ in texts}) == len(texts)  # it can be read in one way only
    for text, p in texts:
        assert grammar.surprisal(text).sum() == pytest.approx(-log2(p), abs=1e-9)
        assert grammar.surprisal(text + text).sum() == pytest.approx(-2 * log2(p), abs=1e-9)


@given(rules=finite_grammars())
def test_entropy_and_length_of_a_grammar_are_those_of_all_its_texts(rules):
    grammar = Grammar(rules, "a")
    texts = all_texts(rules, "<a>")
    assert grammar.entropy() == pytest.approx(sum(-p * log2(p) for _, p in texts), abs=1e-9)
    assert grammar.length() == pytest.approx(sum(p * len(text) for text, p in texts))
    assert grammar.rate() == pytest.approx(grammar.entropy() / grammar.length())


@given(rules=finite_grammars(), data=st.data())
def test_surprisal_of_a_character_is_that_of_all_texts_that_agree_so_far(rules, data):
    texts = all_texts(rules, "<a>")
    text = data.draw(st.sampled_from(texts))[0]
    chances = [sum(p for other, p in texts if other.startswith(text[:end])) for end in range(len(text) + 1)]
    wanted = [log2(before / after) for before, after in pairwise(chances)]
    assert Grammar(rules, "a").surprisal(text) == pytest.approx(np.array(wanted), abs=1e-9)


@given(ends=WEIGHTS, goes_on=WEIGHTS)
def test_entropy_of_a_rule_that_calls_itself_is_the_sum_of_its_series(ends, goes_on):
    p = ends / (ends + goes_on)
    grammar = Grammar({"a": {"x<a>": goes_on, "y": ends}}, "a")
    choice = -p * log2(p) - (1 - p) * log2(1 - p)
    assert grammar.entropy() == pytest.approx(choice / p)
    assert grammar.length() == pytest.approx(1 / p)


@given(weights=st.lists(st.integers(1, 9), min_size=6, max_size=6))
def test_entropy_of_rules_that_call_one_another_solves_its_equations(weights):
    first, two, three, four, five, six = weights
    rules = {
        "a": {"x<b><b>": first, "y<c>": two + 20},
        "b": {"x<a>y<c>": three, "z": four + 20},
        "c": {"p<c><b>": five, "q": six + 20},
    }
    grammar = Grammar(rules, "a")
    shares = {name: [w / sum(choices.values()) for w in choices.values()] for name, choices in rules.items()}
    own = np.array([sum(-p * log2(p) for p in shares[name]) for name in "abc"])
    calls = np.array([[text.count(f"<{name}>") for text in rules[rule]] @ np.array(shares[rule])
                      for rule in "abc" for name in "abc"]).reshape(3, 3)  # fmt: skip
    assert [grammar.entropy(name) for name in "abc"] == pytest.approx(np.linalg.solve(np.eye(3) - calls, own))


@given(rules=finite_grammars(), seed=st.integers(0, 99), cut=st.integers(0, 60))
def test_what_a_grammar_writes_it_reads_and_where_it_breaks_off_does_not_matter(rules, seed, cut):
    grammar = Grammar(rules, "a")
    text = "".join(islice(grammar.write(Random(seed).random), 60))
    assert grammar.surprisal(text)[:cut].tolist() == grammar.surprisal(text[:cut]).tolist()


@given(shares=st.lists(st.integers(1, 9), min_size=2, max_size=4), data=st.data())
def test_choice_falls_to_each_alternative_as_often_as_its_weight_says(shares, data):
    grammar = Grammar({"a": dict(zip("pqrs", shares, strict=False))}, "a")
    marks = [(index + 0.5) / sum(shares) for index in range(sum(shares))]  # the middle of every unit of weight
    written = "".join(islice(grammar.write(iter(marks * 2).__next__), sum(shares)))
    assert [written.count(letter) for letter in "pqrs"[: len(shares)]] == shares


@given(texts=st.sets(st.text("ab", min_size=1, max_size=5), min_size=1, max_size=8), data=st.data())
def test_factoring_changes_no_text_and_no_probability(texts, data):
    rules = {"s": {text + "!": data.draw(WEIGHTS) for text in sorted(texts)}}
    factors = factored(rules)
    assert dict(all_texts(factors, "<s>")) == pytest.approx(dict(all_texts(rules, "<s>")))
    Grammar(factors, "s")


def test_factoring_cuts_no_name_of_a_rule():
    rules = {"s": {"a <thing> is": 1, "a <things> are": 1}, "thing": {"king": 1}, "things": {"kings": 1}}
    with pytest.raises(ConfigError, match="'s: a ': one of several alternatives begins with a rule"):
        Grammar(factored(rules), "s")


def test_two_alternatives_that_begin_alike_are_refused():
    with pytest.raises(ConfigError, match="rule 'noun': two alternatives begin with 'c'"):
        Grammar({"noun": {"crown": 1, "king": 1, "castle": 1}}, "noun")


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"s": {"<t>": 1, "x": 1}, "t": {"y": 1}}, "rule 's': one of several alternatives begins with a rule"),
        ({"s": {"x": 1, "": 1}}, "rule 's' has an empty alternative"),
        ({"s": {}}, "rule 's' has no alternatives"),
        ({"s": {"x": 0}}, "rule 's': expected a weight of 1 or more, got 0"),
        ({"s": {"x<nuon>": 1}, "noun": {"y": 1}}, r"rule 's' calls <nuon>, .* Did you mean 'noun'\?"),
        ({"s": {"<t>x": 1}, "t": {"<s>y": 1}}, "rule 's' leads to 's', which begins with itself"),
        ({"t": {"x": 1}}, "there is no rule 's'"),
    ],
)
def test_grammar_that_cannot_be_read_in_one_way_is_refused(rules, message):
    with pytest.raises(ConfigError, match=message):
        Grammar(rules, "s")


@pytest.mark.parametrize(
    "rules",
    [{"s": {"x<s>": 1}}, {"s": {"x<s><s>": 1, "y": 1}}, {"s": {"x<t><t>": 3, "y": 1}, "t": {"z<s>": 3, "w": 1}}],
)
def test_rule_without_an_expected_end_has_no_entropy(rules):
    with pytest.raises(ConfigError, match="rule 's' is not expected to end"):
        Grammar(rules, "s").entropy()


def test_text_outside_the_grammar_is_refused_where_it_departs():
    grammar = Grammar({"s": {"the <noun>.": 1}, "noun": {"king": 1, "queen": 1}}, "s")
    with pytest.raises(DataError, match=r"got 'o' \(U\+006F\) at character 2; expected 'e'"):
        grammar.surprisal("tho king.")
    with pytest.raises(DataError, match=r"got 'f' \(U\+0066\) at character 4; expected 'k' or 'q'"):
        grammar.surprisal("the fool.")
    assert grammar.surprisal("the k").tolist() == [0, 0, 0, 0, 1]


def test_same_draws_give_the_same_text_on_every_machine():
    grammar = Grammar({"s": {"a": 1, "b": 2, "c<s>.": 3}}, "s")
    assert "".join(islice(grammar.write(Random(1).random), 16)) == "accb..bbcca..acb"


# The playhouse.


def test_one_seed_writes_one_play_and_another_seed_another():
    assert Playhouse(size=5000).text() == Playhouse(size=5000).text()
    assert Playhouse(size=5000, seed=2).text() != Playhouse(size=5000, seed=3).text()


def test_longer_text_begins_with_the_shorter_one():
    longer = Playhouse(size=4000).text()
    assert len(longer) == 4000
    assert Playhouse(size=1234).text() == longer[:1234]


def test_play_is_ascii_of_many_characters_in_the_form_of_a_play():
    text = Playhouse(size=200_000).text()
    assert text.isascii()
    assert len(set(text)) >= 60
    assert text.startswith("THE ")
    for mark in ("\n\nACT II\n", "\n\nSCENE I. ", "\nEnter ", "\n[Exeunt ", ":\n", "\nFINIS\n"):
        assert mark in text


def test_who_leaves_the_stage_is_who_was_on_it():
    text = Playhouse(size=60_000).text()
    for scene in text.split("\nEnter ")[1:]:
        here = scene.partition(".\n")[0].replace(" and ", ", ").split(", ")
        for line in scene.partition("[The players")[0].partition("SCENE")[0].splitlines():
            if line.startswith("[Exeunt"):
                assert set(line[8:-2].replace(" and ", ", ").split(", ")) <= set(here)
            elif line.endswith(":") and line[:-1].isupper():
                assert line[:-1] in here


def test_play_costs_about_what_its_grammar_predicts():
    playhouse = Playhouse(size=300_000)
    bits = playhouse.surprisal(playhouse.text())
    assert bits.mean() == pytest.approx(playhouse.writer().rate(), rel=0.03)
    assert 0.7 < playhouse.writer().rate() < 1.3


def test_floor_is_the_surprisal_of_the_validation_text_after_the_training_text():
    playhouse = Playhouse(size=20_000, validation=0.25)
    training, validation = playhouse.split()
    whole, before = (playhouse.surprisal(text).sum() for text in (training + validation, training))
    assert playhouse.floor() == pytest.approx((whole - before) / len(validation))
    assert File(path="any").floor() is None


def test_foreign_play_has_no_surprisal():
    with pytest.raises(DataError, match=r"got 'F' .* at character 0"):
        Playhouse().surprisal("First Citizen:\n")


def test_playhouse_of_no_size_or_a_negative_seed_is_refused():
    with pytest.raises(ConfigError, match="size: expected a number of at least 1, got 0"):
        Playhouse(size=0)
    with pytest.raises(ConfigError, match="seed: expected a number of at least 0, got -1"):
        Playhouse(seed=-1)
