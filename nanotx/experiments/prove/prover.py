"""Prove a part: laws, equality, speed, and a comparison of runs, each written into one folder when it is done.

`card.json` is the card so far, and `compare` the folder of the comparison (`nanotx.experiments.experiment`), so
whatever kills it, the same command continues it. Nothing is timed and nothing is trained before the laws hold.
"""

import json
import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from nanotx.config.registry import Slot, file_of
from nanotx.errors import ConfigError, NanotxError, RunError
from nanotx.experiments import report
from nanotx.experiments.experiment import Design, Experiment
from nanotx.experiments.plan import Arm, changed_parts, digest
from nanotx.experiments.prove import benches, equality
from nanotx.experiments.prove.card import Card, Claim, Laws, Speed
from nanotx.experiments.prove.timing import Run, interleave, peak_bytes, ratio
from nanotx.experiments.statistics import SMALLEST
from nanotx.files import read_regular, write_atomic
from nanotx.hardware.cpu import describe_machine
from nanotx.hardware.device import Machine, choose_machine
from nanotx.laws.all_laws import LAWS, SLOTS, laws_not_asked, laws_on, part_of
from nanotx.laws.runner import attempt_all
from nanotx.recipe import Recipe
from nanotx.recipe_flags import read_recipe, walk_configs
from nanotx.tokenizers import Codec

Say = Callable[[str], None]

MOST_BYTES = 2**26
"""The largest card.json that is read."""

CASES_OF_EQUALITY = 10
"""Random inputs on which two functions are compared."""

SECONDS_OF_PASS = 5.0
"""Wall time after which no round of the timing of one pass begins."""

NOT_ON_CARDS = {
    "corpus": "a corpus is what the arms of a comparison share; compare corpora with nanotx eval",
    "model": "a model is no part of a slot; compare its fields with nanotx compare RECIPE --change model.dim=96",
    "data": "the batches are no part of a slot",
}
"""Why there is no card for what has laws."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is to be proved, and how thoroughly."""

    part: str  # slot/part
    against: str  # name of another part of the slot
    name: str  # of the recipe
    flags: tuple[str, ...] = ()  # that changed the recipe, as they were typed
    arms: tuple[Arm, Arm]  # the recipe with `against`, and with the part
    seeds: int = 5
    examples: int = 50  # random cases of each law
    cases_seed: int = 0  # of those cases, and of the inputs on which functions are compared
    rounds: int = 15  # of the timing; 0 times nothing
    smallest: float = SMALLEST  # the smallest difference that matters, in bits per byte
    load: tuple[str, ...] = ()  # files with parts of the user's own

    @property
    def slot(self) -> str:
        """Return the name of the slot."""
        return self.part.partition("/")[0]

    @cached_property
    def key(self) -> str:
        """A digest of the question, of the sources of its parts, and of the machine and versions."""
        files = [*self.load, *(file_of(part_of(name)) for name in (self.part, f"{self.slot}/{self.against}"))]
        sources = [sha256(read_regular(Path(file))).hexdigest() for file in files if file]
        numbers = (self.seeds, self.examples, self.cases_seed, self.rounds, self.smallest)
        recipes = [digest(arm.recipe) for arm in self.arms]
        return sha256(f"{recipes} {numbers} {sources} {describe_machine('torch')}".encode()).hexdigest()[:6]


class Prover:
    """The proof of a question in its folder."""

    def __init__(self, question: Question, folder: Path, say: Say = lambda line: None) -> None:
        """Open the folder, or prepare it.

        Raises:
            ConfigError: it holds another card, or something else.
            RunError: its card cannot be read.
        """
        self.question, self.folder, self.say = question, folder, say
        self.file = folder / "card.json"
        self.base, self.changed = (arm.recipe for arm in question.arms)
        self.card = self.opened()

    def opened(self) -> Card:
        """Return the card in the folder, or a new one."""
        if self.folder.exists() and not self.folder.is_dir():
            raise ConfigError(f"--out {self.folder}: not a folder; choose another.")
        if not self.file.exists():
            if self.folder.exists() and any(self.folder.iterdir()):
                raise ConfigError(f"--out {self.folder}: not empty, and no card; choose another folder.")
            return new_card(self.question)
        try:
            card = Card.of(json.loads(read_regular(self.file, MOST_BYTES)))
        except (OSError, ValueError, AttributeError) as error:
            raise RunError(f"{self.file}: cannot be read: {error}; choose another --out.") from None
        if card.key != self.question.key:
            raise ConfigError(
                f"--out {self.folder}: holds the card of {card.part} against {card.against} that differs in flags, "
                "sources, machine or versions; choose another folder, or give the same flags to continue it."
            )
        return card

    def write(self) -> None:
        """Write the card so far."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomic(self.file, json.dumps(self.card.plain(), indent=1, allow_nan=False) + "\n")

    def run(self, processes: int = 1) -> Card:
        """Measure what is missing on the card, and return it; after a broken law, nothing more.

        Args:
            processes: runs to train side by side.

        Raises:
            KeyboardInterrupt: a signal stopped it; the same call continues it.
            NanotxError: the runs cannot be trained.
        """
        card = self.card
        card.laws = card.laws or self.laws()
        self.write()
        if card.broken:
            return card
        card.claims = card.claims or self.claims()
        self.write()
        if card.speeds is None:
            card.speeds = self.speeds()
            self.write()
        if card.learning is None and "learning" not in card.left_out:
            card.learning = self.learning(processes)
            self.write()
        return card

    # Laws and equality.

    def laws(self) -> list[Laws]:
        """Check the laws of the part, and of every other part that the recipe has only with it."""
        name = self.question.part
        others = [other for other in changed_parts(self.question.arms) if other != name]
        return [self.laws_of(part) for part in (name, *others) if part.partition("/")[0] in LAWS]

    def laws_of(self, name: str) -> Laws:
        """Check the laws of one part."""
        self.say(f"laws of {name}")
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        verdicts = attempt_all(laws_on(name), part_of(name), self.question.examples, start=self.question.cases_seed)
        torch.set_num_threads(threads)
        broken = [
            {"law": verdict.law, "how": verdict.broken, "replay": verdict.replay(self.question.load)}
            for verdict in verdicts
            if verdict.broken
        ]
        return Laws(
            part=name,
            held=sum(verdict.passed for verdict in verdicts),
            cases=sum(verdict.cases for verdict in verdicts),
            seed=self.question.cases_seed,
            seconds=math.fsum(verdict.seconds for verdict in verdicts),
            broken=tuple(broken),
            not_asked=dict(laws_not_asked([name]).keys()),
        )

    def claims(self) -> list[Claim]:
        """Compare the part as a function with the other one, then with all parts of the slot that it may equal."""
        question = self.question
        self.say(f"what {question.part} is equal to")
        claims = [self.claim(question.against, self.base)]
        if question.slot == "tokenizer":  # each would have to be trained
            return claims
        name = question.part.partition("/")[2]
        for other in SLOTS[question.slot].names():
            if other in (name, question.against):
                continue
            try:
                recipe, _ = read_recipe(self.changed, [f"--{question.slot}={other}"], "nanotx prove")
                recipe.model.check("cpu")
                same = self.claim(other, recipe)
            except (NanotxError, ImportError, RuntimeError):  # it does not fit the recipe, or this machine or torch
                continue
            claims += [same] if same.same else []
        return claims

    def claim(self, other: str, recipe: Recipe) -> Claim:
        """Compare the part with one other; a part that cannot be built is no equal."""
        first = self.question.cases_seed
        seeds = range(first, first + CASES_OF_EQUALITY)
        try:
            return equality.claim(self.question.slot, other, self.changed, recipe, seeds, self.codec)
        except NanotxError as error:
            return Claim(other=other, same=False, cases=0, tolerance=0.0, why=f"cannot be built: {error}")

    def codec(self, recipe: Recipe) -> Codec:
        """Return the tokenizer of one of the two recipes, trained on the training text."""
        index = 0 if recipe is self.base else 1
        return self.codecs[index]

    @cached_property
    def codecs(self) -> tuple[Codec, Codec]:
        """The trained tokenizers of both recipes."""
        training, _ = self.base.corpus.split()
        first, second = (recipe.tokenizer.train_checked([training], training) for recipe in (self.base, self.changed))
        return first, second

    # Speed.

    def speeds(self) -> list[Speed]:
        """Time both parts in turns, at each size."""
        question, card = self.question, self.card
        if question.slot not in benches.SETTINGS or not question.rounds:
            reason = benches.NOT_TIMED.get(question.slot, "--rounds 0")
            card.left_out["speed"] = reason
            return []
        machine = choose_machine(self.base.device, self.base.dtype, 1)
        dtype = "" if question.slot in ("tokenizer", "optimizer") else f", {machine.dtype_name}"
        threads = ", one thread" if machine.device.type == "cpu" else ""
        card.setting = f"{benches.SETTINGS[question.slot]}{dtype}, {machine.device.type}{threads}"
        if question.slot in benches.NO_MEMORY:
            card.left_out["memory"] = "PyTorch's allocator does not see it"
        speeds = list[Speed]()
        for size, passes in self.pairs(machine):
            self.say(f"timing at {size}")
            if isinstance(passes, str):
                speeds.append(Speed(size=size, what="", why=passes))
                continue
            for what, (mine, theirs) in passes.items():
                speeds.append(self.speed(size, what, mine, theirs, machine))
        return speeds

    def pairs(self, machine: Machine) -> list[tuple[str, dict[str, Any] | str]]:
        """Return for each size the passes of both parts by name, or why there are none."""
        slot, pairs = self.question.slot, list[tuple[str, Any]]()
        if slot == "tokenizer":
            training, _ = self.base.corpus.split()
            for length in sorted({min(length, len(training)) for length in benches.TEXT_SIZES}):
                theirs, mine = (benches.text_passes(codec, training[:length]) for codec in self.codecs)
                pairs.append((f"{length:,} characters", {what: (mine[what], theirs[what]) for what in mine}))
            return pairs
        theirs, mine = (config_of(recipe, slot) for recipe in (self.base, self.changed))
        for size in benches.SIZES:
            try:
                both = [benches.passes_of(slot, config, size, machine) for config in (mine, theirs)]
                pairs.append((str(size), {what: (both[0][what], both[1][what]) for what in both[0]}))
            except NanotxError as error:
                pairs.append((str(size), str(error)))
        return pairs

    def speed(
        self, size: str, what: str, mine: Callable[[], Run], theirs: Callable[[], Run], machine: Machine
    ) -> Speed:
        """Time one pass of both parts, then measure the memory of each."""
        device = machine.device
        try:
            times, others = interleave(mine(), theirs(), self.question.rounds, device, SECONDS_OF_PASS)
            memory = [self.memory(build, device) for build in (mine, theirs)]
        except Exception as error:  # of a part at this size: it may raise anything
            line = str(error).strip().partition("\n")[0]
            why = line if isinstance(error, NanotxError) else f"{type(error).__name__}: {line}"
            return Speed(size=size, what=what, why=why)
        middle, interval = ratio(times, others)
        return Speed(
            size=size,
            what=what,
            ms=1000 * statistics.median(times),
            against_ms=1000 * statistics.median(others),
            ratio=middle,
            interval=interval,
            rounds=len(times),
            memory=memory[0],
            against_memory=memory[1],
        )

    def memory(self, build: Callable[[], Run], device: torch.device) -> int | None:
        """Return the peak memory of one pass; None where it is not measured."""
        slot = self.question.slot
        return None if slot in benches.NO_MEMORY else peak_bytes(build(), device, warm=slot != "optimizer")

    # Learning.

    def learning(self, processes: int) -> dict[str, Any] | None:
        """Compare runs with both parts on the same seeds; None where that is left out, with the reason on the card."""
        question, card = self.question, self.card
        assert card.claims is not None
        if not question.seeds:
            card.left_out["learning"] = "--seeds 0"
        elif card.claims[0].same:
            card.left_out["learning"] = (
                f"as one function with {question.against}, its runs would differ by rounding alone"
            )
        else:
            try:
                self.changed.model.build_meta(equality.VOCAB)
            except NanotxError as error:
                card.left_out["learning"] = f"it does not fit the recipe {question.name}: {error}"
        if "learning" in card.left_out:
            return None
        first = self.base.seed
        design = Design(
            name=question.name,
            arms=question.arms,
            seeds=tuple(range(first, first + question.seeds)),
            looks=(question.seeds,),
            equal="bytes" if question.slot == "tokenizer" else self.base.train.budget[0],
            smallest=question.smallest,
            rounds=3 if question.rounds else 0,
            examples=0,  # they were checked
            load=question.load,
        )
        return report.to_json(Experiment(design, self.folder / "compare", self.say).run(processes))


def new_card(question: Question) -> Card:
    """Return the card of a question, without any measurement."""
    theirs, mine = (config_of(arm.recipe, question.slot) for arm in question.arms)
    return Card(
        part=question.part,
        against=question.against,
        config=repr(mine),
        against_config=repr(theirs),
        recipe=question.name,
        flags=list(question.flags),
        key=question.key,
        files=list(question.load),
        machine=describe_machine("torch", "numpy"),
        swapped=list(question.arms[1].swapped),
    )


def config_of(recipe: Recipe, slot: str) -> Any:
    """Return the first part of a recipe in a slot."""
    return next(config for _, _, config in walk_configs(recipe) if isinstance(config, Slot) and config.slot == slot)
