"""Hold every measured number of the pages to `docs/claims.toml`.

    python docs/claims.py                    # which numbers are held by no claim, which claims no page shows
    python docs/claims.py --list [WORD ...]  # the claims, or those whose name or page has a word
    python docs/claims.py --write            # make the tables between their markers again
    python docs/claims.py --check ID         # measure one again, and compare
    python docs/claims.py --renew ID         # run a transcript again, and put it on its page

Measured is, on a page that is watched and outside of code: a number with a unit of measurement behind it, or one with
two or more decimals (one, before `times`); not 5% and 95%, which are levels of a test. Each such number has to stand
in a claim that names the page, or in a phrase under `[given]`, which lists what was set and not measured. A block that
begins with `$ ` is a transcript: if its output shows such decimals, its command is that of a claim, which holds the
output by a digest.
"""

import argparse
import hashlib
import json
import re
import shlex
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from claim_tables import TABLES

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "docs" / "claims.toml"
RECORDS = {"log.md", "changelog.md", "contributing.md", "benchmarks.md"}  # dated rows, or another file's text

UNITS = r"s|ms|microseconds|seconds?|minutes?|hours?|[kKMG]i?B|[kMG]B/s|tokens/s|GFLOP/s|nats?|bits per byte|%"
NUMBER = r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:e[-+]?\d+)?"
ALONE = re.compile(rf"(?<![\w./,:^-]){NUMBER}(?!\w)")
WITH_UNIT = re.compile(rf"(?<![\w./,:^-]){NUMBER}(?:(?:,|;| and| to| or|, and) +{NUMBER})* *(?:{UNITS})(?![\w/])")
DECIMALS = re.compile(r"(?<![\w./,:^-])[-+]?\d+\.\d+(?:(?<=\.\d\d)\d*|e[-+]?\d+|(?= times))(?!\w|\.\d)")
BLOCK = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
TRANSCRIPT = re.compile(r"^```\w*\n\$ ([^\n]+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]+`|\]\([^)\n]*\)|https?://\S+|<!--.*?-->")
SET = re.compile(
    r"(?<![\d.])9?5%|(?:Python|[Tt]orch|sections?) \d[\d.]*(?: and \d+\.\d+)?"
)  # levels, versions, sections
REGION = re.compile(r"(<!-- claims: (\w+) -->\n).*?(\n?<!-- /claims -->)", re.DOTALL)

EXPERIMENTS = {"compare", "prove", "scaling", "sweep", "tune"}  # commands that would find their earlier runs again
CLOCKS = {"seconds", "ms", "microseconds", "tokens_per_second", "mb_per_second", "gflops", "times", "percent", "table"}
WINDOWS_CHANGED = date(
    2026, 11, 28
)  # 0.2.0 reads the windows of a text in another order; none was measured that morning


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What was measured at one time by one command, and the pages that show it."""

    name: str
    what: str
    pages: list[str]
    date: date
    machine: str = ""  # of a published number there is none
    shows: dict[str, list[Decimal]] = field(default_factory=dict)  # by unit; of a table, by the name of a row
    head: list[str] = field(default_factory=list)  # the columns, where the rows of `shows` are a table
    output: str = ""  # the digest of a transcript
    command: str = ""
    source: str = ""  # of a number that others published, or that a program made which is not kept
    seeds: list[int] = field(default_factory=list)
    within: Decimal = Decimal(0)  # how far a repetition may be: in the unit, or as a share of a time
    minutes: int = 0  # that the command takes, where it is more than one
    json: str = ""  # the file of benchmarks/results
    also: str = ""  # further flags, by which the same command makes a picture of the page

    @property
    def values(self) -> set[str]:
        """The numbers that it shows, as `plain` spells them."""
        return {plain(str(value)) for row in self.shows.values() for value in row}

    @property
    def of_older_windows(self) -> bool:
        """A training by the code before 0.2.0, whose losses another order of windows would change."""
        return self.date < WINDOWS_CHANGED and re.search(r"train|speedrun|lengths", self.command) is not None


@dataclass(frozen=True)
class Claims:
    """The file, and the pages that it speaks of."""

    claims: dict[str, Claim]
    machines: dict[str, str]
    given: dict[str, list[str]]
    templates: dict[str, dict[str, Any]]

    @classmethod
    def read(cls, file: Path = FILE) -> "Claims":
        """Read a file of claims; a field that no claim has, or one that is missing, is a ValueError."""
        tables = tomllib.loads(file.read_text(encoding="utf-8"), parse_float=Decimal)
        if tables.keys() != (wanted := {"machine", "claim", "table", "given"}):
            raise ValueError(f"{file.name}: expected the tables {sorted(wanted)}, got {sorted(tables)}")
        for fields in tables["claim"].values():
            fields["shows"] = {unit: [*map(Decimal, row)] for unit, row in fields.get("shows", {}).items()}
        claims = {}
        for name, fields in tables["claim"].items():
            try:
                claims[name] = Claim(name=name, **fields)
            except TypeError as error:
                raise ValueError(f"{file.name}: claim {name}: {error}") from None
        return cls(claims, tables["machine"], tables["given"], tables["table"])

    def on(self, page: str) -> list[Claim]:
        """The claims that name a page."""
        return [claim for claim in self.claims.values() if page in claim.pages]

    def table(self, name: str) -> str:
        """The Markdown of the table between two markers."""
        if name in self.templates:
            lists = {claim.name: SimpleNamespace(**spelled(claim)) for claim in self.claims.values()}
            template = self.templates[name]
            try:
                return markdown(template["head"], [[cell.format(**lists) for cell in row] for row in template["rows"]])
            except (KeyError, AttributeError, IndexError) as error:
                raise ValueError(f"table {name}: a cell names what no claim has: {error}") from None
        claim = self.claims[name]
        if claim.head:
            return markdown(claim.head, [[row, *map(shown, values)] for row, values in claim.shows.items()])
        return table_of(name, [ROOT / file for file in claim.json.split()])


def table_of(name: str, files: list[Path]) -> str:
    """The Markdown of a table that is made from files of results."""
    return markdown(*TABLES[name](*(json.loads(file.read_text(encoding="utf-8"))["rows"] for file in files)))


def plain(number: str) -> str:
    """A number without the commas of thousands and the plus of a difference."""
    return str(Decimal(number.replace(",", "")))


def shown(value: Decimal) -> str:
    """A number as a page has it: 1337 steps, 25,016 tokens."""
    return f"{value:,}" if abs(value) >= 1000 else str(value)


class Numbers(list[str]):
    """The numbers of one unit; in a template the whole is a phrase, and `[0]` is the first."""

    def __str__(self) -> str:
        return ", ".join(self)


def spelled(claim: Claim) -> dict[str, Numbers]:
    """The numbers of a claim by unit, as a template names them."""
    return {unit: Numbers(map(shown, values)) for unit, values in claim.shows.items()}


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A table; an empty cell stays empty."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "|" + "|".join(f" {cell} ".replace("  ", " ") if cell != "---" else cell for cell in line) + "|"
        for line in lines
    )


# Pages.


def pages() -> list[str]:
    """The pages that are watched, in the order in which claims stand."""
    paths = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "recipes" / "README.md"]
    paths += [
        *sorted((ROOT / "recipes").glob("*.toml")),
        *sorted((ROOT / "nanotx" / "recipes").glob("shakespeare_*.py")),
    ]
    paths += [ROOT / "tokenizers" / "README.md"]
    return [path.relative_to(ROOT).as_posix() for path in paths if path.name not in RECORDS]


def text_of(page: str) -> str:
    """A page; of a recipe, its comments, or its docstring."""
    text = (ROOT / page).read_text(encoding="utf-8")
    if page.endswith(".toml"):
        return "\n".join("".join(line.partition("#")[1:]) for line in text.splitlines())
    return text.split('"""')[1] if page.endswith(".py") else text


def prose(text: str) -> str:
    """A text with its code, links and versions blotted out, all else at its place."""
    text = BLOCK.sub(lambda match: re.sub(r"\S", "_", match[0]), text)
    for pattern in (CODE, SET):
        text = pattern.sub(lambda match: "_" * len(match[0]), text)
    return text.replace("**", "  ").replace("~", " ")


def measured(text: str) -> Iterator[tuple[int, str]]:
    """Place and number of each number in a text that is measured."""
    text = prose(text)
    places = {(match.start(), match[0]) for match in DECIMALS.finditer(text)}
    for phrase in WITH_UNIT.finditer(text):
        places |= {(match.start(), match[0]) for match in ALONE.finditer(text, phrase.start(), phrase.end())}
    return iter(sorted(places))


def transcripts(text: str) -> dict[str, str]:
    """The output of each command whose transcript is on a page."""
    return dict(TRANSCRIPT.findall(text))


def digest(output: str) -> str:
    """Eight digits for an output, whatever its blanks and the lines of our source that it names."""
    return hashlib.sha256(re.sub(r"\.py:\d+", ".py", " ".join(output.split())).encode()).hexdigest()[:8]


# Drift.


def unclaimed(page: str, text: str, claims: Claims) -> Iterator[str]:
    """What a page shows and no claim holds."""
    held = {value for claim in claims.on(page) for value in claim.values}
    phrases = [match.span() for phrase in claims.given.get(page, []) for match in re.finditer(re.escape(phrase), text)]
    phrases += [match.span() for match in REGION.finditer(text)]
    for place, number in measured(text):
        if plain(number) not in held and not any(start <= place < end for start, end in phrases):
            line = text.count("\n", 0, place)
            quote = text.splitlines()[line].strip()[:100]
            yield f"{page}:{line + 1}: no claim or [given] phrase holds {number}: {quote}"
    commands = {claim.command for claim in claims.on(page) if claim.output}
    for command, output in transcripts(text).items():
        if DECIMALS.search(output) and command not in commands:
            yield f"{page}: no claim holds the transcript of {command}"


def unshown(page: str, text: str, claims: Claims) -> Iterator[str]:
    """What claims say that a page shows, and it does not."""
    numbers = {plain(match[0]) for match in ALONE.finditer(prose(text))}
    for claim in claims.on(page):
        elsewhere = set().union(*(all_numbers(other) for other in claim.pages if other != page), set())
        if claim.values and not claim.values & numbers:
            yield f"{page}: shows no number of the claim {claim.name}"
        yield from (
            f"{page}: does not show {value} of the claim {claim.name}"
            for value in sorted(claim.values - numbers - elsewhere)
        )
        if claim.output and (now := digest(transcripts(text).get(claim.command, ""))) != claim.output:
            yield f'{page}: the transcript of the claim {claim.name} is another; if it was run again, output = "{now}"'
    for phrase in claims.given.get(page, []):
        if phrase not in text:
            yield f"{page}: does not have the phrase {phrase!r} of [given]"


def unbacked(claim: Claim) -> Iterator[str]:
    """The numbers of a claim that its file of results does not have, as they are, inverted or as a percentage."""
    text = "".join((ROOT / file).read_text(encoding="utf-8") for file in claim.json.split())
    numbers = [Decimal(match) for match in re.findall(rf"(?<![\w.]){NUMBER}(?!\w)", text)]
    numbers += [100 * number for number in numbers] + [1 / number for number in numbers if number]
    for value in (value for row in claim.shows.values() for value in row):
        if not any(abs(number - value) <= last_digit(value) / 2 for number in numbers):
            yield f"{claim.name}: {claim.json} has no {value}"


def last_digit(value: Decimal) -> Decimal:
    """What one more in the last digit of a number is worth."""
    return Decimal(1).scaleb(int(value.as_tuple().exponent))


def all_numbers(page: str) -> set[str]:
    """Every number in the prose and the tables of a page."""
    return {plain(match[0]) for match in ALONE.finditer(prose(text_of(page)))}


def rewritten(text: str, claims: Claims) -> str:
    """A page with the tables between its markers made again."""
    return REGION.sub(lambda match: f"{match[1]}\n{claims.table(match[2])}\n{match[3]}", text)


def drift(claims: Claims) -> list[str]:
    """Every difference between the pages and the claims."""
    named = [(claim.name, page) for claim in claims.claims.values() for page in claim.pages if page not in pages()]
    if named := [*named, *(("[given]", page) for page in claims.given if page not in pages())]:
        return [f"{page}: is no page that is watched, and {name} names it" for name, page in named]
    faults = [fault for claim in claims.claims.values() if claim.json for fault in unbacked(claim)]
    for page in pages():
        text = text_of(page)
        faults += [*unclaimed(page, text, claims), *unshown(page, text, claims)]
        if unknown := {match[2] for match in REGION.finditer(text)} - {*claims.claims, *claims.templates}:
            faults.append(f"{page}: a marker names {', '.join(sorted(unknown))}, which is no claim and no table")
        elif page.endswith(".md") and rewritten(text, claims) != text:
            faults.append(f"{page}: a table is not that of its claim; python docs/claims.py --write makes it again")
    return faults


# Measuring again.


def obstacles(claim: Claim) -> Iterator[str]:
    """Why a claim is not simply measured again here and now."""
    if claim.minutes:
        yield f"it takes about {claim.minutes} minutes"
    if CLOCKS & {*claim.shows} or (claim.json and not claim.shows):
        yield "its times are those of another machine, unless this is it"
    if claim.of_older_windows:
        yield "it was measured before 0.2.0 changed the order of windows, so another value is expected"
    for run in sorted(set(re.findall(r"runs/[\w-]+", claim.command))):
        if "--run" not in claim.command and "--out" not in claim.command and not (ROOT / run).is_dir():
            yield f"it needs the folder {run}, as its page makes it"


def repeat(claim: Claim, folder: Path) -> str:
    """Run the command of a claim, once for each seed, and return what it printed, or the summaries of its runs."""
    outputs = []
    for seed in claim.seeds if "{seed}" in claim.command else [0]:
        words = shlex.split(claim.command.replace("{seed}", str(seed)))
        if "--json" in words:
            words[words.index("--json") + 1] = str(folder / "figures.json")
        if "--load" in words:
            words[words.index("--load") + 1] = str(loaded(words[words.index("--load") + 1], claim, folder))
        run = folder / f"run-{seed}"
        words += ["--run", str(run)] if words[:2] == ["nanotx", "train"] else []
        words += ["--out", str(folder / "out")] if words[1] in EXPERIMENTS and "--out" not in words else []
        program = {"nanotx": [sys.executable, "-m", "nanotx"], "python": [sys.executable]}[words[0]]
        command = [*program, *words[1:]]
        done = subprocess.run(command, cwd=ROOT, input=typed(claim), capture_output=True, encoding="utf-8", check=False)
        if done.returncode and not (claim.output and done.stdout):  # diff ends with 1 where two runs differ
            raise SystemExit(f"{shlex.join(words)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
        summary = run / "summary.json"
        outputs.append(summary.read_text(encoding="utf-8") if summary.is_file() and not claim.output else done.stdout)
    return "\n".join(outputs)


def loaded(name: str, claim: Claim, folder: Path) -> Path:
    """The file of a part of the user's own: that of the checkout, or else the block of a page that shows it."""
    if (ROOT / name).is_file():
        return ROOT / name
    block_of = re.compile(rf"`{re.escape(name)}`[^\n]*(?:\n[^\n]+)*\n\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    for page in ["README.md", *claim.pages]:
        if block := block_of.search(text_of(page)):
            (folder / name).write_text(block[1], encoding="utf-8")
            return folder / name
    raise ValueError(f"{claim.name}: there is no {name}, and no page of it shows the file; make it in {ROOT}")


def typed(claim: Claim) -> str:
    """What is typed in the transcript of a claim: its lines that begin with `> `."""
    output = transcripts(text_of(claim.pages[0])).get(claim.command, "") if claim.output else ""
    return "".join(f"{line[2:]}\n" for line in output.splitlines() if line.startswith("> "))


def compare(claim: Claim, output: str) -> Iterator[tuple[str, bool]]:
    """For each number of a claim, a line that sets the nearest number of an output beside it, and whether it holds."""
    numbers = [Decimal(match.replace(",", "")) for match in re.findall(rf"(?<![\w.]){NUMBER}(?![\w])", output)]
    for unit, values in claim.shows.items():
        for value in values:
            nearest = min(numbers, key=lambda number: abs(number - value), default=Decimal("Infinity"))
            allowed = max(last_digit(value) / 2, claim.within * (abs(value) if unit in CLOCKS else 1))
            holds = abs(nearest - value) <= allowed
            yield f"{unit.replace('_', ' ')}: {value} claimed, {nearest} now: {'holds' if holds else 'DIFFERS'}", holds


def unrepeated(claim: Claim, output: str) -> Iterator[str]:
    """The lines of a transcript that an output does not have; `...` on the page stands for what was left out.

    What is typed is no output.
    """
    now, lines = " ".join(output.split()), transcripts(text_of(claim.pages[0]))[claim.command].splitlines()
    for line in (line for line in lines if not line.startswith("> ")):
        pieces = (" ".join(piece.split()) for piece in line.split("..."))
        yield from (piece for piece in pieces if piece not in now)


def differing(table: str, again: str, within: Decimal) -> str:
    """How many numbers of a table are further from those of another than a share of themselves."""
    pairs = [[Decimal(plain(number)) for number in ALONE.findall(prose(text))] for text in (table, again)]
    if len(pairs[0]) != len(pairs[1]):
        return f"{len(pairs[0])} numbers were claimed, and there are {len(pairs[1])}"
    apart = sum(abs(old - new) > within * abs(old) for old, new in zip(*pairs, strict=True))
    return f"{apart} of {len(pairs[0])} numbers differ by more than {within:%}"


def check(claim: Claim, claims: Claims, anyway: bool) -> int:
    """Measure one claim again. Returns 0 where it holds, 1 where it differs, 2 where nothing was run."""
    where = claims.machines.get(claim.machine, "elsewhere")
    print(f"{claim.name}: {claim.what}", claim.command or claim.source, f"{where}, {claim.date}", sep="\n  ")
    if not claim.command:
        print("Not run: it has a source and no command.")
        return 2
    if not anyway and (reasons := list(obstacles(claim))):
        print(f"Not run: {'; '.join(reasons)}. --anyway runs it.")
        return 2
    with tempfile.TemporaryDirectory() as folder:
        output = repeat(claim, Path(folder))
        figures = Path(folder) / "figures.json"
        if figures.is_file() and claim.name in TABLES:
            again = table_of(claim.name, [figures, *(ROOT / file for file in claim.json.split()[1:])])
            print(f"now:\n{again}\n{(apart := differing(claims.table(claim.name), again, claim.within))}")
            return int(not apart.startswith("0 "))
    if claim.output:
        missing = list(unrepeated(claim, output))
        print(*(f"  not printed now: {piece}" for piece in missing), f"{len(missing)} lines differ", sep="\n")
        return int(bool(missing))
    lines = list(compare(claim, output))
    print(*(f"  {line}" for line, _ in lines), sep="\n")
    return int(not all(holds for _, holds in lines))


def renew(claim: Claim, today: date, file: Path = FILE) -> None:
    """Run the command of a transcript again, and write its output on its page, its digest and the day into the file."""
    pages_with = [page for page in claim.pages if claim.command in transcripts(text_of(page))]
    if not claim.output or not pages_with:
        raise ValueError(f"{claim.name}: no transcript of a command; edit the page, or make its table by --write")
    page, text = pages_with[0], text_of(pages_with[0])
    old = transcripts(text)[claim.command]
    as_long_as(old, old)  # before minutes of work
    with tempfile.TemporaryDirectory() as folder:
        new = as_long_as(old, repeat(replace(claim, command=f"{claim.command} {claim.also}".strip()), Path(folder)))
    begin = f"$ {claim.command}\n"
    (ROOT / page).write_text(text.replace(begin + old, begin + new), encoding="utf-8")
    before, head, rest = file.read_text(encoding="utf-8").partition(f"[claim.{claim.name}]\n")
    table, gap, after = rest.partition("\n\n")
    table = table.replace(f'output = "{claim.output}"', f'output = "{digest(new)}"')
    table = table.replace(f"date = {claim.date}", f"date = {today}")
    file.write_text(before + head + table + gap + after, encoding="utf-8")
    print(f'{page} and {file.name} are written; machine = "{claim.machine}" stays: edit it where this is another')


def as_long_as(old: str, output: str) -> str:
    """An output, cut where the transcript before it was: `...` at its end stands for the paragraphs that follow."""
    shown_part, dots, _ = old.rpartition("\n...\n")
    if "\n...\n" in shown_part or (dots and not old.endswith(dots)):
        raise ValueError("the transcript leaves out something in its middle; edit the page by hand")
    paragraphs = output.rstrip().split("\n\n")
    kept = len(shown_part.rstrip().split("\n\n")) if dots else len(paragraphs)
    left_out = "\n\n...\n" if kept < len(paragraphs) else "\n"
    return "\n\n".join(paragraphs[:kept]) + left_out


def listing(claims: Claims, words: list[str]) -> str:
    """A line for each claim: its name, pages, date, and what was measured."""
    chosen = [
        claim
        for claim in claims.claims.values()
        if not words or any(word in f"{claim.name} {claim.pages}" for word in words)
    ]
    width = max((len(claim.name) for claim in chosen), default=0)
    lines = []
    for claim in chosen:
        numbers = [shown(value) for row in claim.shows.values() for value in row]
        values = ", ".join([*numbers[:6], *["..."] * (len(numbers) > 6)]) or "a table or a transcript"
        lines.append(f"{claim.name:{width}}  {claim.date}  {values}: {claim.what} ({', '.join(claim.pages)})")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Read the flags and the file, do what they ask, and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--list", nargs="*", metavar="WORD", help="list the claims")
    what.add_argument("--write", action="store_true", help="make the tables between their markers again")
    what.add_argument("--check", metavar="ID", help="measure a claim again")
    what.add_argument("--renew", metavar="ID", help="run a transcript again, and put it on its page")
    parser.add_argument("--anyway", action="store_true", help="check, though it takes long or needs another machine")
    flags = parser.parse_args(arguments)
    try:
        return run(flags, Claims.read())
    except (ValueError, OSError) as error:
        parser.exit(2, f"claims: {error}\n")


def run(flags: argparse.Namespace, claims: Claims) -> int:
    """Do what the flags ask."""
    if flags.list is not None:
        print(listing(claims, flags.list))
    elif name := flags.check or flags.renew:
        if name not in claims.claims:
            raise ValueError(f"no claim is called {name!r}; python docs/claims.py --list shows all")
        if flags.check:
            return check(claims.claims[name], claims, flags.anyway)
        renew(claims.claims[name], date.today())
    elif flags.write:
        for page in (page for page in pages() if page.endswith(".md")):
            text = text_of(page)
            if (new := rewritten(text, claims)) != text:
                (ROOT / page).write_text(new, encoding="utf-8")
                print(f"{page} is written")
    else:
        faults = drift(claims)
        print(*faults, f"{len(claims.claims)} claims, {len(faults)} faults", sep="\n")
        return int(bool(faults))
    return 0


if __name__ == "__main__":
    sys.exit(main())
