"""The plan of an experiment: arms, each a change of one recipe, on the same seeds, texts and budget."""

import hashlib
import math
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nanotx.config.registry import Slot, file_of, is_foreign
from nanotx.config.schema import fields
from nanotx.config.toml import write_toml
from nanotx.data.conversations import Conversations, as_line
from nanotx.data.corpus import Corpus
from nanotx.data.corpus.chat import Chat
from nanotx.data.corpus.file import File
from nanotx.data.corpus.tokens import Tokens
from nanotx.errors import ConfigError, DataError, NanotxError
from nanotx.files import write_atomic
from nanotx.recipe import BUDGETS, Budget, Recipe
from nanotx.recipe_flags import read_recipe, walk_configs
from nanotx.recipe_swaps import find_swaps
from nanotx.tokenizers.token_corpus import token_files_of

BASELINE = "baseline"
"""Name of the arm without a change."""

CHECKPOINTS = 4
"""Checkpoints of a run at most, after that of the first step: a kill can cost the steps between two of them."""

APART = 400_000
"""Tokens between two checkpoints at least: one costs what some 1,000 tokens of training cost, at any width."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One variant of the recipe."""

    name: str  # the change as it was typed, or "baseline"
    recipe: Recipe
    swapped: tuple[str, ...] = ()  # fields that the change did not name, and that differ because a part does
    values: str = ""  # of the fields that were tried, where the arm chose others than its own

    @property
    def folder(self) -> str:
        """The name of the folder of its runs: readable, and different for different changes."""
        name = f"{self.name}; {self.values}" if self.values else self.name
        plain = re.sub(r"[^A-Za-z0-9.]+", "_", name).strip("_.")[:40]
        return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What an arm's budget is computed from."""

    tokens_per_step: int
    bytes_per_token: float  # of the training text
    flops_per_token: float
    seconds_per_step: float | None  # measured alone, interleaved with the others; None where nothing was timed
    parameters: int
    memory_bytes: int | None = None  # the most that tensors hold during a step; None where it was not measured
    warnings: tuple[str, ...] = ()  # of its texts and its schedule, as nanotx train prints them


# Changes.


def split_change(change: str) -> list[tuple[str, Any]]:
    """Return the assignments of a change, such as `ffn=relu2; optimizer.lr=4e-3`, as fields and values.

    A value is TOML; a bare word is a string.

    Raises:
        ConfigError: there is no assignment, or a value is neither.
    """
    assignments = []
    for piece in outside_quotes(change, ";"):
        if not piece.strip():
            continue
        key, equals, text = piece.partition("=")
        key, text = key.strip(), text.strip()
        if not equals or not re.fullmatch(r"[A-Za-z_][\w.-]*", key) or not text:
            raise ConfigError(
                f"--change {change!r}: expected FIELD=VALUE such as ffn=relu2, or several separated by ';', "
                f"got {piece.strip()!r}."
            )
        assignments.append((key.replace("-", "_"), read_value(change, text)))
    if not assignments:
        raise ConfigError(f"--change {change!r}: expected FIELD=VALUE such as ffn=relu2, got nothing.")
    return assignments


def outside_quotes(text: str, separator: str) -> list[str]:
    """Return the pieces of a text between separators that are in no quotes, braces or brackets."""
    pieces, quote, depth = [""], "", 0
    for character in text:
        if character == separator and not quote and not depth:
            pieces.append("")
            continue
        pieces[-1] += character
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        else:
            depth += (character in "{[") - (character in "}]")
    return pieces


def read_value(change: str, text: str) -> Any:
    """Return a value of TOML, or a bare word as a string.

    Raises:
        ConfigError: it is neither.
    """
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, KeyError) as error:
        if re.fullmatch(r"[\w./-]+", text):
            return text
        raise ConfigError(f"--change {change!r}: {text}: {error}; strings with spaces need quotes.") from None


def change_flags(assignments: Sequence[tuple[str, Any]]) -> list[str]:
    """Return the flags of a recipe that make some assignments."""
    return [word for key, value in assignments for word in flags_of(key, value)]


def flags_of(key: str, value: Any) -> list[str]:
    """Return the flags of one assignment; a table names a part and fields of it."""
    if isinstance(value, dict):
        part = [f"--{key}={value['part']}"] if "part" in value else []
        return part + [
            word for name, item in value.items() if name != "part" for word in flags_of(f"{key}.{name}", item)
        ]
    if isinstance(value, bool):
        return [f"--{key}={'true' if value else 'false'}"]
    if isinstance(value, list):
        return [f"--{key}", *map(str, value)]
    return [f"--{key}={value}"]


def make_arms(
    base: Recipe, changes: Sequence[str], allow_swaps: bool = False, prog: str = "nanotx train NAME"
) -> list[Arm]:
    """Return the baseline and an arm per change.

    Args:
        base: the recipe that is changed.
        changes: as typed.
        allow_swaps: accept changes that change fields beside those they name.
        prog: a command whose help lists the fields, for errors.

    Raises:
        ConfigError: a change cannot be read or built, is given twice, changes the texts or the budget, or swaps fields.
    """
    arms = [Arm(name=BASELINE, recipe=base)]
    for change in changes:
        name = "; ".join(piece.strip() for piece in outside_quotes(change, ";") if piece.strip())
        if name in [arm.name for arm in arms]:
            raise ConfigError(f"--change {change!r}: given twice; each arm needs a change of its own.")
        arms.append(make_arm(base, change, name, allow_swaps, prog))
    return arms


def make_arm(base: Recipe, change: str, name: str, allow_swaps: bool, prog: str) -> Arm:
    """Return the arm of a change; raises as `make_arms`."""
    assignments = split_change(change)
    for key, _ in assignments:
        check_field(change, key)
    flags = change_flags(assignments)
    try:
        recipe, _ = read_recipe(base, flags, prog)
    except NanotxError as error:
        raise type(error)(f"--change {change!r}: {str(error).removeprefix(f'{prog}: ')}") from None
    except SystemExit:
        raise ConfigError(f"--change {change!r}: expected FIELD=VALUE such as ffn=relu2.") from None
    swaps = [swap for swap in find_swaps(base, flags, recipe) if swap.fields]
    moved = [str(swap) for swap in swaps if swap.changed]
    if moved and not allow_swaps:
        raise ConfigError(
            f"--change {change!r} changes other fields too: {'; '.join(moved)}. Name them in the change, separated by "
            "';', or accept them with --allow-swaps."
        )
    return Arm(name=name, recipe=recipe, swapped=tuple(map(str, swaps)))


def check_field(change: str, key: str) -> None:
    """Raise ConfigError where a change would make arms incomparable."""
    first, _, rest = key.partition(".")
    if first == "corpus":
        raise ConfigError(f"--change {change!r}: all arms have the same text; compare corpora by nanotx eval instead.")
    if first == "train" and rest in BUDGETS:
        raise ConfigError(
            f"--change {change!r}: budgets would differ; all arms have that of the recipe. Set it for all with "
            f"--train.{rest}, or choose what is equal with --equal {'|'.join(BUDGETS)}."
        )
    if key == "seed" or key.endswith("_seed"):
        raise ConfigError(f"--change {change!r}: seeds are the same for all arms; set them with --seeds.")


def equal_arms(arms: Sequence[Arm]) -> list[str]:
    """Return the names of the arms whose recipe equals the baseline's."""
    return [arm.name for arm in arms[1:] if arm.recipe == arms[0].recipe]


def changed_parts(arms: Sequence[Arm]) -> list[str]:
    """Return the parts, as slot/part, that an arm has and the baseline has not."""
    before = parts_of(arms[0].recipe)
    return sorted({name for arm in arms[1:] for name in parts_of(arm.recipe) - before})


def parts_of(recipe: Recipe) -> set[str]:
    """Return the parts of a recipe, as slot/part."""
    configs = [config for _, _, config in walk_configs(recipe) if isinstance(config, Slot)]
    return {f"{type(config).slot}/{config.part}" for config in configs}


def values_of(recipe: Recipe, field: str) -> list[Any]:
    """Return the values of a field as flags name it, such as `attention.heads`, of all configs that have it."""
    group, _, name = field.rpartition(".")
    configs = [recipe] if not group else [config for place, _, config in walk_configs(recipe) if place == group]
    return [getattr(config, name) for config in configs if name in fields(type(config))]


def foreign_files(arms: Sequence[Arm]) -> list[Path]:
    """Return the files of the user that bring parts of the arms."""
    configs = [config for arm in arms for _, _, config in walk_configs(arm.recipe) if isinstance(config, Slot)]
    return sorted({Path(file_of(type(config))) for config in configs if is_foreign(type(config))})


# Texts.


def training_corpus(corpus: Corpus, folder: Path, fraction: float) -> Corpus:
    """Return a corpus of the training text alone, whose validation part is the end of that text.

    The training text, or the conversations to train on, are copied into the folder, and those to validate on are not:
    what the arms cannot read cannot decide between them. The training files of token files are used where they are.

    Args:
        corpus: the recipe's.
        folder: of the experiment.
        fraction: of the training text to hold out.

    Raises:
        DataError: the corpus cannot be read, is too short, or consists of token files without validation files, or of
            files that are kept apart.
    """
    if files := token_files_of(corpus):
        if not files.val:
            raise DataError(
                f"{corpus.where()}: has no files to validate on, so its last ids are for validation and none can be "
                "held out beside them; name some with --corpus.val-path."
            )
        if isinstance(corpus, Tokens):
            return replace(corpus, val_path=(), validation=fraction)
        if files.weights:
            raise DataError(
                f"{corpus.where()}: mixes texts by weights, of which --corpus tokens alone can hold pieces out."
            )
        return Tokens(path=tuple(map(str, files.train)), validation=fraction)
    if isinstance(corpus, Conversations):
        return training_conversations(corpus, folder, fraction)
    if corpus.keeps_apart:
        raise DataError(
            f"{corpus.where()}: a piece is held out of one text, not of files that are kept apart; try "
            "--corpus.documents join, or compare runs that exist: nanotx compare RUN RUN."
        )
    training, _ = corpus.split()
    try:
        held_out = File(path=str(folder / "training.txt"), validation=fraction)
        held_out.cut(len(training))
    except DataError as error:
        raise DataError(f"the training text is too short to hold a piece of it out: {error}") from None
    write_atomic(folder / "training.txt", training)
    return held_out


def training_conversations(corpus: Conversations, folder: Path, fraction: float) -> Chat:
    """Return a corpus of the conversations to train on alone, the last of which are for validation.

    Raises:
        DataError: there are too few of them.
    """
    training, _ = corpus.split_conversations()
    path = folder / "training.jsonl"
    held_out = Chat(path=str(path), validation=fraction, documents=corpus.documents, template=corpus.template)
    write_atomic(path, "".join(f"{as_line(conversation)}\n" for conversation in training))
    held_out.split_conversations()
    return held_out


# Budgets.


def equal_steps(arms: Sequence[Arm], facts: Sequence[Facts], equal: Budget) -> list[int]:
    """Return the steps of each arm, such that all have the same budget as the baseline.

    Raises:
        ConfigError: with equal steps an arm would learn from another number of tokens; nothing was timed; or the bytes
            of a token are not known.
    """
    base = facts[0]
    if equal == "steps":
        for arm, fact in zip(arms, facts, strict=True):
            if fact.tokens_per_step != base.tokens_per_step:
                raise ConfigError(
                    f"--change {arm.name!r}: budgets would differ: a step learns from {fact.tokens_per_step:,} tokens, "
                    f"and the baseline's from {base.tokens_per_step:,}; try --equal tokens, bytes, flops or seconds."
                )
    budget, amount = arms[0].recipe.train.budget
    if "bytes" in (equal, budget):
        counted = len(arms) if equal == "bytes" else 1
        check_bytes(arms[:counted], facts[:counted])
    total = amount * budget_per_step(base, equal) / budget_per_step(base, budget)
    return [max(1, round(total / budget_per_step(fact, equal))) for fact in facts]


def check_bytes(arms: Sequence[Arm], facts: Sequence[Facts]) -> None:
    """Raise ConfigError where a token of an arm stands for a number of bytes that is not known."""
    unknown = [arm for arm, fact in zip(arms, facts, strict=True) if math.isnan(fact.bytes_per_token)]
    if unknown:
        raise ConfigError(
            f"--equal bytes: {unknown[0].name}: {unknown[0].recipe.tokenizer.part} does not give the text back, so the "
            "bytes that it reads are not known; try --equal tokens or flops."
        )


def budget_per_step(facts: Facts, equal: Budget) -> float:
    """Return what a step takes of a budget.

    Raises:
        ConfigError: the budget is time, and nothing was timed.
    """
    tokens = facts.tokens_per_step
    if equal == "seconds":
        if not facts.seconds_per_step:
            raise ConfigError("--equal seconds needs the timing; leave out --rounds 0.")
        return facts.seconds_per_step
    return {
        "steps": 1.0,
        "tokens": float(tokens),
        "bytes": tokens * facts.bytes_per_token,
        "flops": tokens * facts.flops_per_token,
    }[equal]


def prepared(recipe: Recipe, corpus: Corpus, steps: int, seed: int) -> Recipe:
    """Return the recipe of a run of an arm: one thread, one evaluation at the end, checkpoints to resume from."""
    apart = max(-(-steps // CHECKPOINTS), -(-APART // (recipe.train.batch_size * recipe.model.context)))
    train = replace(
        recipe.train.with_steps(steps),
        eval_every=0,
        sample_every=0,
        sample_tokens=1,
        checkpoint_every=apart if apart < steps else 0,
    )
    return replace(recipe, corpus=corpus, train=train, seed=seed, threads=1, compile=recipe.compile is True)


def digest(recipe: Recipe) -> str:
    """Return a digest of a recipe."""
    return hashlib.sha256(write_toml(recipe).encode("utf-8")).hexdigest()
