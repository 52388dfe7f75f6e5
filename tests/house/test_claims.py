"""Every measured number of the pages is that of a claim, and every claim is on its pages."""

import json
import re
import shlex
import sys
from dataclasses import fields, replace
from datetime import date
from decimal import Decimal
from types import SimpleNamespace

import pytest
from helpers import ROOT

sys.path.insert(0, str(ROOT / "docs"))
import claims as claims_of_docs
from claims import (
    Claim,
    Claims,
    check,
    compare,
    digest,
    drift,
    measured,
    rewritten,
    text_of,
    unbacked,
    unclaimed,
    unshown,
)

CLAIMS = Claims.read()
PAGE = "docs/results.md"
BENCHMARKS = [*(ROOT / "benchmarks").glob("*.py")]
COMMANDS = [file.stem for file in (ROOT / "nanotx/cli/commands").iterdir()]
TABLE = "<!-- claims: loss -->\n\n| step | nats |\n|---|---|\n| 100 | 1.50 |\n\n<!-- /claims -->\n"


def claims_with(**values):
    """One claim about a page of results, and nothing else."""
    usual = {"what": "a loss", "pages": [PAGE], "date": date(2026, 11, 29), "command": "nanotx eval", "machine": "any"}
    claim = Claim(name="loss", **{**usual, "shows": {"nats": [Decimal("1.50")]}, **values})
    return Claims({"loss": claim}, {"any": "any machine"}, {}, {})


def test_pages_and_claims_agree():
    assert drift(CLAIMS) == []


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("it ended at 1.50 nats, 2.16 bits per byte", ["1.50", "2.16"]),
        ("118, 113 and **114** seconds; 97 to 114 tokens/s", ["118", "113", "114", "97", "114"]),
        (
            "| `sdpa` | 66.25 | +0.31 ± 0.04 | 85,290 tokens/s | 8.1e-06 |",
            ["66.25", "+0.31", "0.04", "85,290", "8.1e-06"],
        ),
        ("1,000 steps of 4 layers, 128 wide, seed 1337, 0.2.0, a rate of 0.5, 2026-11-20", []),
        ("Python 3.11 and torch 2.13; [page](a/1.50.md), `--optimizer.lr 0.001`, https://x.org/2409.04431", []),
        ("8.9 times as fast, 32 times; a 95% interval, at most 5% of them, 15% of the rest", ["8.9", "15"]),
        ("```\nloss 1.50 nats\n```", []),
    ],
)
def test_number_is_measured_by_its_unit_or_decimals(text, numbers):
    assert [number for _, number in measured(text)] == numbers


def test_number_of_no_claim_is_named_with_its_line():
    claims = claims_with()
    assert list(unclaimed(PAGE, "It ended at 1.50 nats.\n", claims)) == []
    (fault,) = unclaimed(PAGE, "First.\nIt ended at 1.51 nats.\n", claims)
    assert fault.startswith(f"{PAGE}:2: no claim or [given] phrase holds 1.51: It ended")
    assert (
        list(unclaimed("README.md", "It ended at 1.50 nats.\n", claims)) != []
    )  # a claim is of the pages that it names


def test_phrase_of_a_setting_needs_no_claim_and_has_to_be_there():
    claims = replace(claims_with(), given={PAGE: ["the last 7%"]})
    assert list(unclaimed(PAGE, "Of the last 7%, 1.50 nats.", claims)) == []
    assert len(list(unclaimed(PAGE, "Of the first 7%, 1.50 nats.", claims))) == 1
    assert len(list(unshown(PAGE, "Of the first 7%, 1.50 nats.", claims))) == 1


def test_claim_that_its_page_does_not_show_is_named():
    assert list(unshown(PAGE, "It ended at 1.5 nats.", claims_with())) == [
        f"{PAGE}: shows no number of the claim loss",
        f"{PAGE}: does not show 1.50 of the claim loss",
    ]


def test_table_is_made_from_its_claim():
    claims = claims_with(head=["step", "nats"], shows={"100": [Decimal("1.50")]})
    assert rewritten(TABLE, claims) == TABLE == rewritten(TABLE.replace("1.50", "1.40"), claims)
    assert list(unclaimed(PAGE, TABLE, claims)) == []


def test_transcript_is_that_of_its_claim():
    text = "```text\n$ nanotx eval\nloss 1.50\n```\n"
    claims = claims_with(output=digest("loss 1.50"), shows={})
    assert [*unclaimed(PAGE, text, claims), *unshown(PAGE, text, claims)] == []
    (fault,) = unshown(PAGE, text.replace("1.50", "1.49"), claims)
    assert fault.endswith(f'output = "{digest("loss 1.49")}"')
    assert list(unclaimed(PAGE, text, claims_with())) == [f"{PAGE}: no claim holds the transcript of nanotx eval"]
    assert digest("base.py:134  1.50") == digest("base.py:135 1.50") != digest("base.py:135 1.51")


def test_number_is_that_of_the_file_of_results():
    claim = CLAIMS.claims["sampling"]  # its ratios are turned over, its share is a percentage
    assert list(unbacked(claim)) == []
    assert list(unbacked(replace(claim, shows={"ms": [Decimal("8.6")]}))) == [f"sampling: {claim.json} has no 8.6"]


def test_claims_are_in_the_order_of_their_pages_and_complete():
    order = claims_of_docs.pages()
    places = [order.index(claim.pages[0]) for claim in CLAIMS.claims.values()]
    assert places == sorted(places)
    for claim in CLAIMS.claims.values():
        assert bool(claim.command) != bool(claim.source), claim.name
        assert claim.machine in CLAIMS.machines or claim.source, claim.name
        assert claim.shows or claim.json or claim.output, claim.name
        program, name, *_ = shlex.split(claim.command) or ["python", "-c"]
        known = {"nanotx": COMMANDS, "python": ["-c", *(f"benchmarks/{file.name}" for file in BENCHMARKS)]}
        assert name in known[program], f"{claim.name}: {claim.command} cannot be run"
    used = {field.name for claim in CLAIMS.claims.values() for field in fields(claim) if getattr(claim, field.name)}
    assert used == {field.name for field in fields(Claim)}
    assert CLAIMS.machines.keys() == {claim.machine for claim in CLAIMS.claims.values()} - {""}


@pytest.mark.parametrize("page", ["README.md", PAGE, "recipes/README.md"])
def test_page_names_the_losses_of_older_windows(page):
    """Losses that were measured before 0.2.0 changed the order of windows are said to be."""
    on_page = CLAIMS.on(page)
    older = {claim.name for claim in on_page if claim.of_older_windows and "nats" in claim.shows}
    newer = {claim.name for claim in on_page if not claim.of_older_windows and "nanotx train" in claim.command}
    sentence = re.search(r"[^.\n]*(?:\n[^.\n]+)*before 0\.2\.0\s+changed the order[^.]*\.", text_of(page))
    assert sentence, page
    named = set(re.findall(r"`(\w+)`", sentence[0]))
    assert named == (newer if "but" in sentence[0] else older)


def test_every_page_with_losses_of_older_windows_says_so():
    pages = {page for claim in CLAIMS.claims.values() if claim.of_older_windows for page in claim.pages}
    assert [page for page in sorted(pages) if page.endswith(".md") and "before 0.2.0" not in text_of(page)] == []


# Measuring again.


def test_repeated_number_holds_within_what_is_stated():
    claim = claims_with().claims["loss"]
    assert [holds for _, holds in compare(claim, "step 100, loss 1.504")] == [True]
    assert [holds for _, holds in compare(claim, "step 100, loss 1.51")] == [False]
    assert [holds for _, holds in compare(replace(claim, within=Decimal("0.01")), "loss 1.51")] == [True]
    assert [holds for _, holds in compare(claim, "nothing")] == [False]
    clock = replace(claim, shows={"seconds": [Decimal(100)]}, within=Decimal("0.1"))
    assert [holds for output in ("91 s", "89 s") for _, holds in compare(clock, output)] == [True, False]


def test_check_says_what_holds_what_differs_and_what_it_did_not_run(monkeypatch, capsys):
    claims = claims_with()
    claim = claims.claims["loss"]
    monkeypatch.setattr(claims_of_docs, "repeat", lambda claim, folder: "loss 1.503")
    assert check(claim, claims, anyway=False) == 0 and "1.50 claimed, 1.503 now: holds" in capsys.readouterr().out
    monkeypatch.setattr(claims_of_docs, "repeat", lambda claim, folder: "loss 1.6")
    assert check(claim, claims, anyway=False) == 1 and "DIFFERS" in capsys.readouterr().out
    long = replace(claim, minutes=6, shows={"seconds": [Decimal(3)]}, command="nanotx look runs/none-1")
    assert check(long, claims, anyway=False) == 2
    output = capsys.readouterr().out
    assert "6 minutes" in output and "another machine" in output and "needs the folder runs/none-1" in output
    older = replace(claim, date=date(2026, 11, 20), command="nanotx train macbook")
    assert check(older, claims, anyway=False) == 2 and "order of windows" in capsys.readouterr().out
    assert check(replace(claim, command="", source="a paper"), claims, anyway=True) == 2


def test_check_of_a_transcript_looks_for_its_lines(monkeypatch, capsys):
    page = "```text\n$ nanotx eval\nloss   1.50\nstep 1 ... done\n```\n"
    monkeypatch.setattr(claims_of_docs, "text_of", lambda page_name: page)
    claims = claims_with(output=digest("any"), shows={})
    monkeypatch.setattr(claims_of_docs, "repeat", lambda claim, folder: "loss 1.50\nstep 1 at 3 tokens/s done\n")
    assert check(claims.claims["loss"], claims, anyway=False) == 0
    monkeypatch.setattr(claims_of_docs, "repeat", lambda claim, folder: "loss 1.51\nstep 1 done\n")
    assert check(claims.claims["loss"], claims, anyway=False) == 1
    assert "not printed now: loss 1.50\n1 lines differ" in capsys.readouterr().out


def test_transcript_is_renewed_on_its_page_with_digest_and_day(tmp_path, monkeypatch):
    page, file, asked = tmp_path / PAGE, tmp_path / "claims.toml", []
    page.parent.mkdir()
    page.write_text("Before.\n\n```text\n$ nanotx eval\nloss 1.50\n\nmore\n\n...\n```\n\nAfter.\n", encoding="utf-8")
    old = digest(claims_of_docs.transcripts(page.read_text(encoding="utf-8"))["nanotx eval"])
    claim = claims_with(output=old, shows={}, also="--svg card.svg").claims["loss"]
    others = '[claim.a]\noutput = "1"\ndate = 2026-11-29\n\n'
    file.write_text(f'{others}[claim.loss]\noutput = "{old}"\ndate = 2026-11-29\n\n{others}', encoding="utf-8")
    monkeypatch.setattr(claims_of_docs, "ROOT", tmp_path)
    printed = "loss 1.49\n\nmore of it\n\nand all\n\nthe rest\n"
    monkeypatch.setattr(claims_of_docs, "repeat", lambda claim, folder: asked.append(claim.command) or printed)
    claims_of_docs.renew(claim, date(2026, 12, 1), file)
    text = page.read_text(encoding="utf-8")
    assert text == "Before.\n\n```text\n$ nanotx eval\nloss 1.49\n\nmore of it\n\n...\n```\n\nAfter.\n"
    new = digest(claims_of_docs.transcripts(text)["nanotx eval"])
    expected = f'{others}[claim.loss]\noutput = "{new}"\ndate = 2026-12-01\n\n{others}'
    assert file.read_text(encoding="utf-8") == expected and asked == ["nanotx eval --svg card.svg"]
    page.write_text("```text\n$ nanotx eval\nloss\n...\nmore\n```\n", encoding="utf-8")
    with pytest.raises(ValueError, match="leaves out something in its middle"):
        claims_of_docs.renew(claim, date(2026, 12, 1), file)
    with pytest.raises(ValueError, match="loss: no transcript of a command"):
        claims_of_docs.renew(replace(claim, command="nanotx look"), date(2026, 12, 1), file)
    assert len(asked) == 1


def test_command_is_repeated_in_a_folder_of_its_own_with_the_file_that_a_page_shows(tmp_path, monkeypatch):
    ran = []
    done = SimpleNamespace(returncode=0, stdout="worse", stderr="")
    monkeypatch.setattr(claims_of_docs.subprocess, "run", lambda words, **_: ran.append(words[3:]) or done)
    assert claims_of_docs.repeat(CLAIMS.claims["prove"], tmp_path) == "worse"
    file = tmp_path / "sigmoid.py"
    assert '@Attention.register("sigmoid")' in file.read_text(encoding="utf-8")
    words = ["prove", "attention/sigmoid", "--load", str(file), "--against", "sdpa", "--out", str(tmp_path / "out")]
    assert ran == [words]
    claims_of_docs.repeat(CLAIMS.claims["forming"], tmp_path)
    assert "class Forming" in (tmp_path / "forming.py").read_text(encoding="utf-8") and "--out" not in ran[1]
    lost = replace(CLAIMS.claims["prove"], command="nanotx prove attention/none --load none.py")
    with pytest.raises(ValueError, match=r"prove: there is no none\.py, and no page of it shows the file"):
        claims_of_docs.repeat(lost, tmp_path)


def test_check_of_a_conversation_types_its_questions_and_looks_for_its_answers(monkeypatch):
    page = "```text\n$ nanotx chat runs/talk\n> Hi.\nHello.\n> Bye.\nGoodbye.\n```\n"
    monkeypatch.setattr(claims_of_docs, "text_of", lambda page_name: page)
    claim = claims_with(command="nanotx chat runs/talk", output=digest("any"), shows={}).claims["loss"]
    assert claims_of_docs.typed(claim) == "Hi.\nBye.\n"
    assert claims_of_docs.typed(replace(claim, output="")) == ""
    assert list(claims_of_docs.unrepeated(claim, "Hello.\nGood night.\n")) == ["Goodbye."]


def test_template_takes_a_list_or_one_of_its_numbers():
    table = {"head": ["first", "all"], "rows": [["{loss.nats[0]}", "{loss.nats} nats"]]}
    claims = replace(claims_with(shows={"nats": [Decimal("1.50"), Decimal("1071")]}), templates={"both": table})
    assert claims.table("both").splitlines()[2] == "| 1.50 | 1.50, 1,071 nats |"


def test_check_of_a_table_counts_the_numbers_that_differ(monkeypatch, capsys):
    def run(factor):
        rows = json.loads((ROOT / CLAIMS.claims["lengths"].json).read_text(encoding="utf-8"))["rows"]
        changed = [{**row, "bits_per_byte": row["bits_per_byte"] and row["bits_per_byte"] * factor} for row in rows]

        def repeat(claim, folder):
            (folder / "figures.json").write_text(json.dumps({"rows": changed}), encoding="utf-8")

        monkeypatch.setattr(claims_of_docs, "repeat", repeat)
        claim = replace(CLAIMS.claims["lengths"], within=Decimal("0.05"))
        return check(claim, CLAIMS, anyway=True), capsys.readouterr().out

    code, output = run(1.04)
    assert code == 0 and "| `alibi` | 3.0276 |" in output and "0 of " in output
    code, output = run(1.06)
    assert code == 1 and re.search(r"22 of \d+ numbers differ by more than 5", output)


def test_marker_and_field_that_are_unknown_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(claims_of_docs, "pages", lambda: [PAGE])
    assert drift(claims_with(pages=["docs/result.md"])) == [
        "docs/result.md: is no page that is watched, and loss names it"
    ]
    monkeypatch.setattr(claims_of_docs, "text_of", lambda page: "<!-- claims: lost -->\n\n<!-- /claims -->\n")
    assert drift(Claims({}, {}, {}, {})) == [f"{PAGE}: a marker names lost, which is no claim and no table"]
    lost = replace(claims_with(), templates={"both": {"head": ["a"], "rows": [["{lost.nats}"]]}})
    with pytest.raises(ValueError, match="table both: a cell names what no claim has: 'lost'"):
        lost.table("both")
    file = tmp_path / "claims.toml"
    file.write_text("[machine]\n[given]\n[table]\n[claim.loss]\nwhat = 'a loss'\nseed = 1\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"claims\.toml: claim loss: .*unexpected keyword argument 'seed'"):
        Claims.read(file)
    file.write_text("[machine]\n[givn]\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"expected the tables .* got \['givn', 'machine'\]"):
        Claims.read(file)


def test_list_and_unknown_claim(capsys):
    assert claims_of_docs.main(["--list", "macbook"]) == 0
    assert "recipes/macbook.toml" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        claims_of_docs.main(["--check", "makbook"])
    assert "no claim is called 'makbook'" in capsys.readouterr().err
