"""An experiment: plan, laws, timing, runs and verdicts, with all that was done written into one folder.

`experiment.json` is its record (`record.py`). Runs are ordinary run folders beside it, so whatever kills the
experiment, the same command continues it, and the verdicts are those of an experiment that was never disturbed.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from nanotx.data.corpus import Corpus
from nanotx.errors import ConfigError, LawBroken
from nanotx.evaluation.loss import evaluate
from nanotx.evaluation.texts import eval_texts_of
from nanotx.experiments.costs import measure, steps_to_baseline
from nanotx.experiments.plan import Arm, Facts, changed_parts, digest, equal_steps, prepared, training_corpus
from nanotx.experiments.record import ExperimentRecord, facts_of, strict
from nanotx.experiments.runner import Job, Result, finished, run_jobs
from nanotx.experiments.statistics import ALPHA, SMALLEST, Verdict, judge
from nanotx.experiments.tokens import check_exact, token_warnings
from nanotx.experiments.tries import BEYOND, SEEDS, Choice, Multiples, Tried, choose, multiple_of, tries_of
from nanotx.hardware.device import choose_machine
from nanotx.laws.all_laws import LAWS, laws_on, part_of
from nanotx.laws.runner import attempt_all
from nanotx.recipe import Budget
from nanotx.runs.checkpoint import digest as file_digest
from nanotx.runs.load import load
from nanotx.runs.metrics_log import Row
from nanotx.runs.start_warnings import warmup_warning

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Design:
    """What is compared, and how."""

    name: str  # of the recipe
    arms: tuple[Arm, ...]  # the baseline first
    seeds: tuple[int, ...]  # all that may be used, in order
    looks: tuple[int, ...]  # numbers of seeds after which there is a verdict; the last is the number of seeds
    equal: Budget = "steps"
    smallest: float = SMALLEST  # the smallest difference that matters, in bits per byte
    held_out: float = 0.1  # share of the training text, at its end, that decides
    rounds: int = 3  # of the timing
    examples: int = 20  # cases of each law of a changed part; 0 checks none
    load: tuple[str, ...] = ()  # files with parts of the user's own
    tries: tuple[Tried, ...] = ()  # fields of which every arm chooses a multiple of its own value, on other seeds

    @property
    def seeds_of_tries(self) -> tuple[int, ...]:
        """Return the seeds on which arms choose; no verdict uses them."""
        return tuple(range(self.seeds[0] + BEYOND, self.seeds[0] + BEYOND + SEEDS))


@dataclass(kw_only=True)
class Outcome:
    """The result of an experiment so far."""

    design: Design
    facts: list[Facts]
    steps: list[int]
    losses: dict[str, list[float | None]]  # of each arm by seed, in bits per byte, or nats where there are none
    nats: dict[str, list[float | None]]
    verdicts: dict[str, Verdict]
    unit: str  # of losses: "bits per byte" or "nats"
    diverged: dict[str, str]  # how an arm diverged, by its first seed that did
    to_baseline: dict[str, float | None]  # steps to the baseline's final training loss
    choices: dict[str, Choice] = field(default_factory=dict)  # of each arm, where there were tries
    notes: list[str] = field(default_factory=list)
    validation: list[dict[str, Any]] = field(default_factory=list)  # readings of the validation text


class Experiment:
    """An experiment in its folder."""

    def __init__(self, design: Design, folder: Path, say: Say = lambda line: None) -> None:
        """Open the folder, or prepare it.

        Raises:
            ConfigError: it holds another experiment, or something else.
            DataError: the training text is too short.
        """
        self.design, self.folder, self.say = design, folder, say
        self.record = ExperimentRecord(folder, self.planned())
        self.corpus = self.texts()
        self.choices = dict[str, Choice]()

    def planned(self) -> dict[str, Any]:
        """Return what may not change while an experiment lasts."""
        design = self.design
        return {
            "recipe": design.name,
            "recipe_sha256": digest(design.arms[0].recipe),
            "equal": design.equal,
            "held_out": design.held_out,
            "load_sha256": [file_digest(Path(file))[:12] for file in design.load],
            "looks": list(design.looks[:-1]),  # the last may move: more seeds, which is said
            "tries": [tried.field for tried in design.tries],  # their number may grow
        }

    def texts(self) -> Corpus:
        """Return the corpus of the arms."""
        self.folder.mkdir(parents=True, exist_ok=True)
        corpus = training_corpus(self.design.arms[0].recipe.corpus, self.folder, self.design.held_out)
        self.record.write()
        return corpus

    # Before anything is trained.

    def check_laws(self) -> None:
        """Check the laws of every part that an arm has and the baseline has not.

        Raises:
            LawBroken: one is broken; says which, and how to see the case again.
        """
        parts = changed_parts(self.design.arms) if self.design.examples else []
        for name in parts:
            if name.partition("/")[0] not in LAWS or self.record.table["laws"].get(name) == self.design.examples:
                continue
            self.say(f"laws of {name}")
            verdicts = attempt_all(laws_on(name), part_of(name), self.design.examples)
            broken = [verdict for verdict in verdicts if verdict.broken]
            if broken:
                lines = [f"{name} breaks {verdict.law}: {verdict.broken}" for verdict in broken]
                raise LawBroken(
                    "\n".join(
                        [*lines, broken[0].replay(self.design.load), "Nothing was trained; correct the part first."]
                    )
                )
            self.record.table["laws"][name] = self.design.examples
        self.record.write()

    def measured(self) -> tuple[list[Facts], list[int]]:
        """Return facts and steps of each arm; measured once, then read from the record."""
        names, known = [arm.name for arm in self.design.arms], self.record.table["arms"]
        if not all(name in known for name in names):
            if known and self.design.equal == "seconds":
                raise ConfigError(
                    f"--out {self.folder}: arms are timed together; choose another folder for other arms."
                )
            if self.design.rounds:
                self.say("timing the arms alone")
            facts = measure(self.design.arms, self.corpus, self.design.rounds)
            check_exact(self.design.arms, facts)
            steps = equal_steps(self.design.arms, facts, self.design.equal)
            of_tokens = token_warnings(self.design.arms, facts, self.design.equal)
            facts = [
                replace(fact, warnings=(*fact.warnings, *of_its_tokens, *of_schedule(arm, count)))
                for arm, fact, count, of_its_tokens in zip(self.design.arms, facts, steps, of_tokens, strict=True)
            ]
            for line in warned(names, [fact.warnings for fact in facts]):
                self.say(line)
            for arm, fact, count in zip(self.design.arms, facts, steps, strict=True):
                known[arm.name] = {**strict(asdict(fact)), "steps": count, "folder": arm.folder, "swapped": arm.swapped}
            self.record.write()
        facts = [facts_of(known[name]) for name in names]
        return facts, [known[name]["steps"] for name in names]

    # Tries.

    def choose(self, processes: int) -> None:
        """Train the tries of every arm, and give each arm the values that it chooses.

        Raises:
            ConfigError: a try cannot be built.
            Stopped: a signal stopped it, as Ctrl-C does; the same call continues it.
            NanotxError: a try cannot be trained.
        """
        design = self.design
        tries = {arm.name: tries_of(arm, design.tries) for arm in design.arms}
        arms = [arm for of in tries.values() for arm in of.values()]
        rounds = design.rounds if design.equal == "seconds" else 0
        seeds = design.seeds_of_tries
        held = replace(design, arms=tuple(arms), seeds=seeds, looks=(len(seeds),), rounds=rounds, examples=0, tries=())
        self.say(
            f"{len(arms) // len(tries)} tries of each arm, on {len(seeds)} seeds that are not those of the verdict"
        )
        losses = Experiment(held, self.folder / "tries", self.say).losses(processes)
        tried = {name: {by: losses[arm.name] for by, arm in of.items()} for name, of in tries.items()}
        chosen = choose(tried)
        for arm in design.arms:
            self.choices[arm.name] = self.choice(arm, *chosen[arm.name], tried[arm.name])
        self.design = replace(
            design, arms=tuple(self.with_choice(arm, tries[arm.name][chosen[arm.name][0]]) for arm in design.arms)
        )
        self.record.write()

    def losses(self, processes: int) -> dict[str, list[float | None]]:
        """Train all arms at all seeds, without a verdict, and return their losses by seed."""
        _, steps = self.measured()
        counts = {arm.name: count for arm, count in zip(self.design.arms, steps, strict=True)}
        self.train(self.design.arms, self.design.seeds, counts, processes)
        return {name: self.record.column(name, self.record.unit(), self.design.seeds) for name in counts}

    def choice(self, arm: Arm, by: Multiples, own: bool, losses: dict[Multiples, list[float | None]]) -> Choice:
        """Return the choice of an arm with what it rests on."""
        fields = [tried.field for tried in self.design.tries]

        def values(multiples: Multiples) -> dict[str, str]:
            pairs = zip(fields, multiples, strict=True)
            return {field: multiple_of(arm, field, multiple) for field, multiple in pairs}

        shown = {", ".join(values(multiples).values()): some for multiples, some in losses.items()}
        return Choice(multiples=by, values=values(by), own=own, losses=shown)

    def with_choice(self, arm: Arm, chosen: Arm) -> Arm:
        """Return an arm with the recipe that it chose; what was known of it with another one is forgotten."""
        choice = self.choices[arm.name]
        values = "; ".join(f"{field}={value}" for field, value in choice.values.items())
        self.record.choose(arm.name, choice)
        return replace(arm, recipe=chosen.recipe, values="" if set(choice.multiples) == {1.0} else values)

    # Runs.

    def job(self, arm: Arm, seed: int, steps: int) -> Job:
        """Return the run of an arm at a seed."""
        folder = self.folder / arm.folder / f"seed-{seed}"
        recipe = prepared(arm.recipe, self.corpus, steps, seed)
        if recipe.dtype == "auto":
            dtype: Row = {"dtype": self.record.dtype(recipe.device)}
            recipe = replace(recipe, **dtype)
        if recipe.init is not None and recipe.init_sha256 is None:
            recipe = replace(recipe, init_sha256=self.record.init_sha256(recipe.init))
        return Job(arm=arm.name, seed=seed, folder=folder, recipe=recipe)

    def train(self, arms: Sequence[Arm], seeds: Sequence[int], steps: Mapping[str, int], processes: int) -> None:
        """Train these arms at these seeds, those that are not complete; both arms of a pair come near each other."""
        jobs = [self.job(arm, seed, steps[arm.name]) for seed in seeds for arm in arms]
        missing = []
        for job in jobs:
            result = finished(job)
            if result:
                self.record.note(result)
            elif "diverged" not in self.record.results(job.arm).get(str(job.seed), {}):
                missing.append(job)
        self.record.write()
        done, total = len(jobs) - len(missing), len(jobs)
        if not missing:
            return

        def on_result(result: Result) -> None:
            nonlocal done
            done += 1
            self.record.note(result)
            self.record.write()
            self.say(f"{done} of {total} runs: {result.arm}, seed {result.seed}")

        self.say(f"{done} of {total} runs")
        run_jobs(missing, min(processes, len(missing)), self.design.load, on_result)

    # Verdicts.

    def run(self, processes: int = 1) -> Outcome:
        """Check, measure, train and judge; after each look, arms that are decided are left.

        Raises:
            LawBroken: a changed part breaks a law.
            Stopped: a signal stopped it, as Ctrl-C does; the same call continues it.
            NanotxError: an arm cannot be trained.
        """
        self.check_laws()
        if self.design.tries:
            self.choose(processes)
        facts, steps = self.measured()
        counts = dict(zip((arm.name for arm in self.design.arms), steps, strict=True))
        baseline, open_arms = self.design.arms[0], list(self.design.arms[1:])
        for size in self.design.looks:
            self.train([baseline, *open_arms], self.design.seeds[:size], counts, processes)
            verdicts = self.judged(size)
            open_arms = [arm for arm in open_arms if not verdicts[arm.name].decided]
            if not open_arms:
                break
        outcome = self.outcome(facts, steps, size)
        if size not in self.record.table["verdicts_after"]:
            self.record.table["verdicts_after"].append(size)
        self.record.write()
        return outcome

    def judged(self, size: int) -> dict[str, Verdict]:
        """Return the verdicts after a number of seeds."""
        key = self.record.unit()
        losses = {arm.name: self.record.column(arm.name, key, self.design.seeds[:size]) for arm in self.design.arms}
        baseline = losses.pop(self.design.arms[0].name)
        return judge(baseline, losses, smallest=self.design.smallest, alpha=ALPHA, looks=self.design.looks)

    def outcome(self, facts: list[Facts], steps: list[int], size: int) -> Outcome:
        """Return all that is known after a number of seeds."""
        names, key = [arm.name for arm in self.design.arms], self.record.unit()
        diverged = {
            name: next((entry["diverged"] for entry in self.record.results(name).values() if "diverged" in entry), "")
            for name in names
        }
        return Outcome(
            design=self.design,
            facts=facts,
            steps=steps,
            losses={name: self.record.column(name, key, self.design.seeds[:size]) for name in names},
            nats={name: self.record.column(name, "val_loss", self.design.seeds[:size]) for name in names},
            verdicts=self.judged(size),
            unit="bits per byte" if key == "bits_per_byte" else "nats",
            diverged={name: how for name, how in diverged.items() if how},
            to_baseline=self.times_to_baseline(steps),
            choices=self.choices,
            notes=self.record.notes(size, self.design.looks),
            validation=self.record.table["validation_readings"],
        )

    def times_to_baseline(self, steps: list[int]) -> dict[str, float | None]:
        """Return of each arm with the baseline's tokenizer the steps to the baseline's final training loss."""
        reached: dict[str, float | None] = {}
        base, base_steps = self.design.arms[0], steps[0]
        for arm, count in zip(self.design.arms, steps, strict=True):
            mine, theirs = self.record.results(arm.name), self.record.results(base.name)
            seeds = [
                seed
                for seed in mine
                if "diverged" not in mine[seed] and "diverged" not in theirs.get(seed, {"diverged": 1})
            ]
            if not seeds or any(mine[seed]["tokenizer_sha256"] != theirs[seed]["tokenizer_sha256"] for seed in seeds):
                continue
            folders = [
                [self.job(trained, int(seed), n).folder for seed in seeds]
                for trained, n in ((base, base_steps), (arm, count))
            ]
            reached[arm.name] = steps_to_baseline(*folders)
        return reached

    # The validation text.

    def read_validation(self, outcome: Outcome) -> None:
        """Evaluate every complete run on the validation text, once, and record that it was read.

        The verdicts remain those of the held-out piece.
        """
        base = self.design.arms[0].recipe
        training, validation = base.corpus.split()
        scores: dict[str, dict[str, float | None]] = {}
        for arm, steps in zip(self.design.arms, outcome.steps, strict=True):
            for seed, entry in self.record.results(arm.name).items():
                if "diverged" in entry:
                    continue
                loaded = load(self.job(arm, int(seed), steps).folder)
                machine = choose_machine(loaded.recipe.device, loaded.recipe.dtype, 1)
                text = eval_texts_of(
                    loaded.tokenizer, training, validation, loaded.recipe.model.context, loaded.recipe.train
                )
                score = evaluate(loaded.model.to(machine.device), text["val"], machine)
                scores.setdefault(arm.name, {})[seed] = score.bits_per_byte
        self.record.table["validation_readings"].append(
            {"time": time.strftime("%Y-%m-%d %H:%M:%S %z"), "bits_per_byte": scores}
        )
        self.record.write()
        outcome.validation = self.record.table["validation_readings"]


def of_schedule(arm: Arm, steps: int) -> tuple[str, ...]:
    """Return a warning where the warm-up of an arm is too long for its steps."""
    warning = warmup_warning(arm.recipe.schedule, steps)
    return (warning,) if warning else ()


def warned(arms: Sequence[str], warnings: Sequence[Sequence[str]]) -> list[str]:
    """Return each warning of some arms once, with those that it is of."""
    of: dict[str, list[str]] = {}
    for arm, some in zip(arms, warnings, strict=True):
        for warning in some:
            of.setdefault(warning, []).append(arm)
    return [
        f"{'every arm' if len(names) == len(arms) else ', '.join(names[:3]) + ', ...' * (len(names) > 3)}: {warning}"
        for warning, names in of.items()
    ]
