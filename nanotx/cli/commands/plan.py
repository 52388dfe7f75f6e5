"""Plan a run: memory, micro-batch, days and cost."""

import re
import sys
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from rich.console import Console

from nanotx.cli.console import write_json
from nanotx.cli.experiments import check_outputs, read_base, split_flags
from nanotx.cli.tables import print_table
from nanotx.config.command_line import positional_args
from nanotx.config.flags import argument, option, parse, repeated
from nanotx.config.registry import load_file
from nanotx.config.schema import check_min, divisors, in_range
from nanotx.errors import ConfigError, printable
from nanotx.recipe import Recipe
from nanotx.training.dataset import assumed_vocab_size
from nanotx.training.live_tensors import KINDS
from nanotx.training.memory_plan import HEADROOM, StepPlan, plan_step

PROG = "nanotx plan"
USAGE = "RECIPE"
GROUP = "Experiment"
ORDER = 14

UNITS = {
    "": 1,
    "K": 1e3,
    "M": 1e6,
    "B": 1e9,
    "G": 1e9,
    "T": 1e12,
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
    "TIB": 2**40,
}


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Print what a run of a recipe takes before it is begun: parameters, FLOPs, memory of each GPU, days and cost.

    Nothing is trained or fetched: a step runs on tensors that have a shape and no data. Memory is that of tensors at
    the fullest moment of a step. `replicas` has weights and the optimizer's state on each GPU, `owner` divides the
    state, `fsdp` divides both: of several GPUs a step of one runs without the others.

        nanotx plan shakespeare_char --gpus 8 --memory 80GB
        nanotx plan shakespeare_char --model.dim 768 --model.layers 12 --gpus 8 --tokens 10B --price 2.5
    """

    names: tuple[str, ...] = argument("RECIPE")  # recipe, and files of TOML that change it
    gpus: int = 1  # number of GPUs
    memory: str = option("SIZE", "80GB")  # memory of each
    tokens: str = option("COUNT")  # tokens to train on, such as 10B; without it, those of the recipe
    mfu: float = 0.4  # share of the peak that training reaches; measure it on a short run
    peak: str = option("FLOPS", "989T")  # dense FLOPs per second of a GPU; an H100's in bfloat16 by its data sheet
    price: float = 0.0  # price of an hour of one GPU, in any currency; 0 prints no cost
    vocab_size: int = 0  # tokens in the vocabulary; 0 for those of the recipe's tokenizer
    json: str = option("FILE")  # write the figures to this file
    load: tuple[str, ...] = repeated("FILE.py")  # Python file of your own, which registers parts

    def __post_init__(self) -> None:
        check_min(self, 1, "gpus")
        check_min(self, 0, "price", "vocab_size")
        in_range("mfu", self.mfu, 0.001, 1.0)
        for name in ("memory", "peak", "tokens"):
            if getattr(self, name):
                amount(name, getattr(self, name))


def run(argv: list[str]) -> int:
    """Print the plan, and return the exit code."""
    own = [field.name for field in fields(Flags)]
    mine, others = split_flags(argv, own)
    flags = parse(Flags, [*positional_args(argv)[:1], *mine], PROG)
    check_outputs(json=flags.json)
    for file in flags.load:
        load_file(file)
    words = [*positional_args(argv), *others]
    recipe, name = read_base(PROG, words, own, lambda recipe: vocabulary(recipe, flags)[0])
    vocab_size, assumed = vocabulary(recipe, flags)
    windows, micro_batches = rows_of_rank(recipe, flags.gpus)
    dtype = torch.bfloat16 if recipe.dtype == "auto" else getattr(torch, recipe.dtype)
    plan = plan_step(recipe, vocab_size, windows, dtype, flags.gpus, micro_batches, amount("memory", flags.memory))
    table = {"vocab_size": vocab_size, "vocab_size_assumed": assumed or None}
    table |= figures(plan, recipe, flags, windows, micro_batches)
    show(table, name, flags, str(dtype).removeprefix("torch."))
    if flags.json:
        write_json(flags.json, table)
    return 0


def vocabulary(recipe: Recipe, flags: Flags) -> tuple[int, str]:
    """Return the size of the vocabulary, and the reason if it is an assumption."""
    return (flags.vocab_size, "") if flags.vocab_size else assumed_vocab_size(recipe)


def rows_of_rank(recipe: Recipe, gpus: int) -> tuple[int, int]:
    """Return the windows of a micro-batch, and the micro-batches of a GPU per step.

    Raises:
        ConfigError: the windows of a step, or its micro-batches, cannot be divided among the GPUs.
    """
    plan = recipe.train
    if plan.batch_size % gpus:
        raise ConfigError(
            f"{PROG}: train.batch_size={plan.batch_size} windows of a step cannot be divided among --gpus {gpus}; try "
            f"{listed(divisors(plan.batch_size))} GPUs, or another --train.batch-size."
        )
    own = plan.batch_size // gpus
    size = own if plan.micro_batch_size in (0, "auto") and plan.grad_accum_steps == 1 else 0
    size = size or min(own, plan.batch_size // (1 if plan.micro_batch_size == "auto" else plan.num_micro_batches))
    if own % size:
        raise ConfigError(
            f"{PROG}: the {own} windows of a GPU are no multiple of the micro-batch of {size}; try "
            f"--train.micro-batch-size {max(count for count in divisors(own) if count <= size)}."
        )
    return size, own // size


def figures(plan: StepPlan, recipe: Recipe, flags: Flags, windows: int, micro_batches: int) -> dict[str, Any]:
    """Return all figures of a plan."""
    per_step = recipe.train.batch_size * recipe.model.context
    tokens = amount("tokens", flags.tokens) if flags.tokens else tokens_of_budget(recipe, plan.flops_per_token)
    seconds = tokens * plan.flops_per_token / (flags.gpus * amount("peak", flags.peak) * flags.mfu)
    own, memory = recipe.train.batch_size // flags.gpus, amount("memory", flags.memory)
    wrappers = {}
    for wrapper, step in plan.wrappers.items():
        bytes_, most = step.memory, step.most_windows(memory)
        wrappers[wrapper] = {
            **asdict(bytes_),
            "total": bytes_.total,
            "fits": bytes_.total <= memory * (1 - HEADROOM),
            "largest_micro_batch": max((size for size in divisors(own) if size <= most), default=0),
            "most_windows": most,
        }
    return {
        "parameters": plan.parameters,
        "flops_per_token": plan.flops_per_token,
        "micro_batch": windows,
        "micro_batches_per_gpu": micro_batches,
        "gpus": flags.gpus,
        "memory": int(memory),
        "wrappers": wrappers,
        "refused": plan.refused,
        "tokens": int(tokens),
        "steps": int(-(-tokens // per_step)),
        "flops": float(tokens * plan.flops_per_token),
        "days": seconds / 86400,
        "cost": seconds / 3600 * flags.gpus * flags.price,
    }


def tokens_of_budget(recipe: Recipe, flops_per_token: int) -> float:
    """Return the tokens that a recipe's budget buys.

    Raises:
        ConfigError: the budget is in bytes or seconds, of which a text and a machine decide how many tokens they are.
    """
    name, budget = recipe.train.budget
    if name in ("bytes", "seconds"):
        raise ConfigError(
            f"{PROG}: train.{name}={budget:,.10g}: how many tokens these are depends on the text or the machine; state "
            "the tokens by --tokens, such as --tokens 10B."
        )
    per_step = recipe.train.batch_size * recipe.model.context
    return float({"steps": budget * per_step, "tokens": budget, "flops": budget / flops_per_token}[name])


def show(table: dict[str, Any], name: str, flags: Flags, dtype: str) -> None:
    """Print a plan."""
    out, console = sys.stdout, Console(highlight=False)
    gpus = f"{table['gpus']} GPU{'s' * (table['gpus'] > 1)} of {flags.memory}"
    out.write(f"{printable(name)} on {gpus}, weights in float32, arithmetic in {dtype}\n")
    out.write(f"parameters {table['parameters']:,}, FLOPs per token {table['flops_per_token']:.4g}\n")
    if table["vocab_size_assumed"]:
        out.write(
            f"vocabulary assumed to be {table['vocab_size']:,} tokens: {table['vocab_size_assumed']}; state it by "
            "--vocab-size N\n"
        )
    micro = f"{table['micro_batches_per_gpu']} of {table['micro_batch']} windows"
    out.write(f"micro-batches of a GPU per step: {micro}\n\n")
    out.flush()
    cells = [["per GPU", *KINDS, "total", "fits", "windows that fit", "micro-batch"]]
    for wrapper, row in table["wrappers"].items():
        sizes = [size_text(row[kind]) for kind in (*KINDS, "total")]
        most = f"{row['largest_micro_batch']:,}" if row["largest_micro_batch"] else "none"
        cells.append([wrapper, *sizes, "yes" if row["fits"] else "no", f"{row['most_windows']:,}", most])
    print_table(console, "", cells, console.is_terminal)
    for reason in table["refused"].values():
        out.write(f"not planned: {printable(reason)}\n")
    cost = f", {table['cost']:,.2f} at {flags.price:g} per hour of a GPU" if flags.price else ""
    out.write(
        f"\n{table['tokens']:,} tokens in {table['steps']:,} steps are {table['flops']:.3g} FLOPs: "
        f"{time_text(table['days'])} at {flags.mfu:.0%} of {flags.peak} FLOPs per second and GPU{cost}\n"
        f"Memory is that of tensors at the fullest moment of a step; {HEADROOM:.0%} of a GPU is left free. The last "
        "column is the largest micro-batch that fits and divides the windows of a GPU.\n"
    )


def time_text(days: float) -> str:
    """Return a number of days in the unit in which it is read best."""
    for unit, length in (("days", 1.0), ("hours", 1 / 24)):
        if days >= 2 * length:
            return f"{days / length:.3g} {unit}"
    return f"{days * 24 * 60:.3g} minutes"


def size_text(size: int) -> str:
    """Return a number of bytes in the unit in which it is read best."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(size) >= factor:
            return f"{size / factor:.3g} {unit}" if abs(size) < 1000 * factor else f"{size / factor:,.0f} {unit}"
    return f"{size} B"


def amount(name: str, text: str) -> float:
    """Return the number of a text such as 80GB, 24GiB, 10B or 989T.

    Raises:
        ConfigError: it is none.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?(?:e\d+)?)\s*([KMBGT]?(?:iB)?)B?", text.strip(), re.IGNORECASE)
    number = float(match[1]) * UNITS.get(match[2].upper(), 0) if match else 0.0
    if not 0 < number < 1e30:
        example = {"memory": "80GB or 24GiB", "tokens": "10B", "peak": "989T"}[name]
        raise ConfigError(f"{PROG}: --{name}: expected a number such as {example}, got {text!r}.")
    return number


def listed(numbers: list[int]) -> str:
    """Return some numbers as words."""
    few = numbers[:8]
    return ", ".join(map(str, few[:-1])) + f" or {few[-1]}" if len(few) > 1 else str(few[0])
