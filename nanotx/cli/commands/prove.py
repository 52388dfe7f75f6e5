"""Prove a part: laws, equals, speed, and a verdict."""

import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path

from nanotx.cli.console import write_json, write_text
from nanotx.cli.experiments import check_outputs, page_of, read_base, say, side_by_side, split_flags, stopping
from nanotx.config.command_line import collect_flags, positional_args
from nanotx.config.flags import argument, option, parse, repeated
from nanotx.config.registry import Slot, load_file
from nanotx.config.schema import check_max, check_min, in_range
from nanotx.errors import ConfigError, NanotxError, printable, shell_quoted
from nanotx.experiments.plan import make_arms
from nanotx.experiments.prove import sections
from nanotx.experiments.prove.card import Card
from nanotx.experiments.prove.page import html, markdown
from nanotx.experiments.prove.picture import svg
from nanotx.experiments.prove.prover import NOT_ON_CARDS, Prover, Question
from nanotx.experiments.statistics import SMALLEST
from nanotx.laws.all_laws import LAWS, SLOTS, part_names, part_of
from nanotx.recipe import BUDGETS, Recipe
from nanotx.recipe_flags import read_recipe, walk_configs

PROG = "nanotx prove"
USAGE = "SLOT/PART"
GROUP = "Experiment"
ORDER = 18

STEPS, QUICK_STEPS = 200, 50
"""Steps of the runs, where no flag names a budget."""


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Put all that can be said of a part on one card: laws, equals, time and memory, and whether it helps.

    The laws come first, on random cases; if they hold, the part is compared as a function with the others of its slot,
    timed in turns with the part named by --against at three sizes, and trained in its place on the same seeds, as in
    nanotx compare. All other flags are those of the recipe, as in nanotx train, and hold for both.

    The same command continues a card that was interrupted. Exits with 1 where a law is broken.

        nanotx prove attention/gqa --against sdpa
        nanotx prove attention/mine --load mine.py --against sdpa --html card.html --svg card.svg
        nanotx prove ffn/swiglu --quick
        nanotx prove optimizer/muon --change optimizer.lr=0.01 --train.steps 500
    """

    names: tuple[str, ...] = argument("SLOT/PART")  # part to prove, such as attention/gqa
    against: str = option("PART")  # name of the part to compare it with; without it, the recipe's
    recipe: str = "macbook"  # recipe in which both are trained
    change: tuple[str, ...] = repeated(
        "FIELD=VALUE"
    )  # further change that comes with the part, such as attention.window=9
    seeds: int = 5  # number of seeds, from the recipe's on; 0 trains nothing
    examples: int = 50  # random cases of each law
    cases_seed: int = 0  # seed of those cases, and of the inputs on which functions are compared
    rounds: int = 15  # rounds of the timing of a pass; 0 times nothing
    smallest: float = SMALLEST  # smallest difference that matters, in bits per byte
    quick: bool = False  # shorten the card: at most 3 seeds, 10 cases and 7 rounds, and runs of 50 steps
    processes: int = 0  # runs to train side by side, each by one thread; 0 for one per core
    out: str = option("DIR")  # folder of the card and its runs; without it, runs/prove-<slot>-<part>-<digest>
    html: str = option("FILE")  # write the card as a page that fetches nothing
    svg: str = option("FILE")  # write the card as a picture
    markdown: str = option("FILE")  # write the card as Markdown, for a pull request
    json: str = option("FILE")  # write the card as JSON
    load: tuple[str, ...] = repeated("FILE.py")  # Python file of your own, which registers parts

    def __post_init__(self) -> None:
        check_min(self, 0, "seeds", "rounds", "processes", "cases_seed")
        check_min(self, 1, "examples")
        check_max(self, 1000, "seeds", "rounds")
        in_range("smallest", self.smallest, 1e-9, 100.0)


OWN = [field.name for field in fields(Flags)]
"""Names of the command's own flags."""


def run(argv: list[str]) -> int:
    """Prove a part, print the card, and return the exit code."""
    own, others = split_flags(argv, OWN)
    flags = shortened(parse(Flags, [*positional_args(argv), *own], PROG))
    check_outputs(html=flags.html, svg=flags.svg, markdown=flags.markdown, json=flags.json)
    for file in flags.load:
        load_file(file)
    question = question_of(flags, others)
    folder = Path(flags.out or f"runs/prove-{question.part.replace('/', '-')}-{question.key}")
    with stopping(folder):
        card = Prover(question, folder, say).run(flags.processes or side_by_side(question.arms[0].recipe))
    sys.stdout.write(printable(sections.text(card)) + "\n")
    write_files(flags, card)
    say(f"Card and runs: {shell_quoted(folder)}")
    return 1 if card.broken else 0


def write_files(flags: Flags, card: Card) -> None:
    """Write the card in the forms that the flags name.

    Raises:
        ConfigError: a path is a file of a run.
        RunError: a file cannot be written.
    """
    texts = {"html": html, "svg": svg, "markdown": markdown}
    for flag, write in texts.items():
        if path := getattr(flags, flag):
            write_text(path, write(card), f"--{flag}")
    if flags.json:
        write_json(flags.json, card.plain())


def shortened(flags: Flags) -> Flags:
    """Return the flags, lowered where the card is to be quick."""
    if not flags.quick:
        return flags
    return replace(flags, seeds=min(flags.seeds, 3), examples=min(flags.examples, 10), rounds=min(flags.rounds, 7))


def question_of(flags: Flags, others: list[str]) -> Question:
    """Return the question that the flags ask.

    Args:
        flags: of this command.
        others: flags of the recipe.

    Raises:
        ConfigError: there is no such part, recipe or change, or the two parts are the same.
    """
    if len(flags.names) != 1:
        raise ConfigError(f"{PROG}: expected one SLOT/PART such as attention/gqa, got {' '.join(flags.names)!r}.")
    part = checked_part(flags.names[0])
    slot, _, name = part.partition("/")
    base, recipe_name = read_base(PROG, [flags.recipe, *budgeted(others, flags.quick)], OWN)
    against = checked_against(flags.against, slot) or default_against(base, slot, name)
    if against == name:
        raise ConfigError(
            f"{PROG} {part}: against itself there is nothing to prove; name another part with --against: "
            f"{', '.join(other for other in SLOTS[slot].names() if other != name)}."
        )
    base, _ = read_recipe(base, [f"--{slot}={against}"], page_of(flags.recipe))
    change = "; ".join([f"{slot}={name}", *flags.change])
    first, second = make_arms(base, [change], allow_swaps=True, prog=page_of(flags.recipe))
    return Question(
        part=part,
        against=against,
        name=recipe_name,
        flags=tuple(others),
        arms=(first, second),
        seeds=flags.seeds,
        examples=flags.examples,
        cases_seed=flags.cases_seed,
        rounds=flags.rounds,
        smallest=flags.smallest,
        load=flags.load,
    )


def budgeted(flags: list[str], quick: bool) -> list[str]:
    """Return flags of a recipe with the steps of a short run, unless they name a budget."""
    named = collect_flags(flags)
    if any(f"train.{budget}" in named for budget in BUDGETS):
        return flags
    return [*flags, f"--train.steps={QUICK_STEPS if quick else STEPS}"]


def checked_part(word: str) -> str:
    """Return the name of a part as SLOT/PART.

    Raises:
        ConfigError: there is no such part, or none of its slot can be proved.
    """
    slot, _, name = word.partition("/")
    if slot in NOT_ON_CARDS:
        raise ConfigError(f"{PROG} {word}: {NOT_ON_CARDS[slot]}.")
    if slot in LAWS and not name:
        raise ConfigError(
            f"{PROG} {word}: expected SLOT/PART such as {slot}/{SLOTS[slot].names()[0]}. Known: "
            f"{', '.join(SLOTS[slot].names())}."
        )
    part_names(word)
    part_of(word)
    return word


def checked_against(word: str, slot: str) -> str:
    """Return the name of the other part, which may be given as SLOT/PART; empty where none is given.

    Raises:
        ConfigError: it is of another slot, or unknown.
    """
    other_slot, slash, name = word.rpartition("/")
    if slash and other_slot != slot:
        raise ConfigError(
            f"--against {word}: expected a part of the slot {slot}, got one of {other_slot}. Known: "
            f"{', '.join(SLOTS[slot].names())}."
        )
    if name and name not in SLOTS[slot].names():
        homes = [other for other, family in SLOTS.items() if name in family.names()]
        if homes:
            raise ConfigError(
                f"--against {word}: a part of the slot {' and '.join(homes)}, and {slot} was expected. Known: "
                f"{', '.join(SLOTS[slot].names())}."
            )
    if name:
        try:
            SLOTS[slot].find(name)
        except NanotxError as error:
            raise type(error)(f"--against {word}: {error}") from None
    return name


def default_against(recipe: Recipe, slot: str, name: str) -> str:
    """Return the recipe's part of a slot.

    Raises:
        ConfigError: the recipe has no part of the slot.
    """
    parts = [config.part for group, _, config in walk_configs(recipe) if isinstance(config, Slot) and group == slot]
    if not parts:
        raise ConfigError(f"{PROG} {slot}/{name}: the recipe has no {slot}; name another one with --recipe.")
    return str(parts[0])
