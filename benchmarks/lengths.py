"""Which position extends to longer contexts: bits per byte in windows of 1x, 2x and 4x the trained length.

    python benchmarks/lengths.py --device cpu --json benchmarks/results/lengths-cpu.json
    python benchmarks/lengths.py --parts rope,mine --load mine.py --times 1,8

One small model is trained with each position, on the same windows in the same order, from the same seed. Then each is
evaluated on the whole validation text in windows of each length, the one with rope also with its rope extended.
"""

import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

import numpy as np
from harness import Row
from harness.machine import choose_machines, describe
from harness.report import Announce, Flags, known_names, open_output, progress, whole_numbers, write_json
from harness.tables import Cell, number, open_console, print_table, word

from nanotx.cli.entry import run_and_exit
from nanotx.config.flags import parse
from nanotx.config.registry import load_file
from nanotx.config.schema import check_min, fields, to_table
from nanotx.data.corpus import Corpus
from nanotx.evaluation.by_position import position_segments
from nanotx.evaluation.longer_contexts import extending, moved, read_position
from nanotx.evaluation.loss import bits_per_byte, cross_entropies
from nanotx.hardware.device import Machine
from nanotx.nn.attention.sdpa import Sdpa
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.ffn.swiglu import SwiGlu
from nanotx.nn.position import Position
from nanotx.nn.transformer import Model, Transformer
from nanotx.optim.adamw import AdamW
from nanotx.optim.schedules.cosine import Cosine
from nanotx.recipe import Recipe, Train
from nanotx.training.dataset import Dataset, load_dataset
from nanotx.training.trainer import Trainer


@dataclass(frozen=True, kw_only=True)
class LengthFlags(Flags):
    """Trains a small model with each position, and evaluates it in longer windows than those of training."""

    parts: str = ""  # positions to train with, separated by commas; without it all but the extended ones
    stretched: str = "rope_linear,rope_ntk,rope_yarn"  # what then replaces rope
    times: str = "1,2,4"  # lengths of windows, relative to those of training
    corpus: str = "tiny_shakespeare"  # or another, by name
    context: int = 64  # tokens of a window of training
    dim: int = 128  # width of the models
    layers: int = 2  # of the models
    steps: int = 300  # of training
    batch: int = 32  # windows of a step
    seed: int = 1337  # of weights and order
    load: tuple[str, ...] = ()  # Python files of your own, with parts in them

    def lengths(self) -> list[int]:
        """Return the lengths of the windows, in tokens; raises as `whole_numbers`."""
        return [times * self.context for times in whole_numbers("--times", self.times)]


def recipe_of(flags: LengthFlags, part: str) -> Recipe:
    """Return the recipe that trains with one position."""
    block = PreNorm(attention=Sdpa(heads=4), ffn=SwiGlu())
    position = Position.find(part)()
    size = Model(dim=flags.dim, layers=flags.layers, context=flags.context, position=position, block=block)
    return Recipe(
        corpus=Corpus.find(flags.corpus)(),
        model=size,
        optimizer=AdamW(lr=3e-3),
        schedule=Cosine(warmup=min(30, flags.steps), final=0.05),
        train=Train(steps=flags.steps, batch_size=flags.batch, eval_tokens=0),
        dtype="float32",
        seed=flags.seed,
    )


def train(recipe: Recipe, data: Dataset, machine: Machine) -> Transformer:
    """Return the trained model."""
    model = recipe.model.build(data.codec.vocab_size, recipe.seeds.weights)
    trainer = Trainer(recipe, model, data.windows, machine)
    for _ in range(recipe.train.steps):
        trainer.train_step()
    return model.eval()


def evaluate(model: Transformer, data: Dataset, machine: Machine, context: int, trained_context: int) -> Row:
    """Evaluate on the whole validation text in windows of a length."""
    eval_text = data.eval_texts["val"]
    batches = cross_entropies(model, eval_text, machine, "none", context)
    nats = np.concatenate([batch.cpu().numpy() for batch in batches])
    loss = float(nats.mean())
    return {
        "context": context,
        "trained_context": trained_context,
        "position": to_table(model.config.position),
        "loss": loss,
        "bits_per_byte": bits_per_byte(loss, len(eval_text.ids), eval_text.size),
        "positions": [asdict(span) for span in position_segments(nats, context, trained_context)],
    }


def rows_of(flags: LengthFlags, part: str, data: Dataset, machine: Machine, announce: Announce) -> Iterator[Row]:
    """Yield the rows of one position, and after rope those of what replaces it."""
    recipe = recipe_of(flags, part)
    announce(f"training with {part}")
    model = train(recipe, data, machine)
    announce(f"scoring with {part}")
    others = [name for name in flags.stretched.split(",") if name and part == "rope"]
    extends = part in extending(recipe.model)
    for name in (part, *others):
        for context in flags.lengths():
            row: Row = {"name": name, "trained_with": part, "device": machine.device.type, "dtype": "float32"}
            words = [f"--position={name}"] if name != part else []
            if extends or context <= flags.context:
                position = read_position(recipe, context, words, "lengths.py")
                row |= evaluate(moved(model, context, position), data, machine, context, flags.context)
            else:
                row |= {"context": context, "trained_context": flags.context, "loss": None, "bits_per_byte": None}
            yield row | {"steps": flags.steps, "seed": flags.seed}


def main() -> int:
    """Read the flags, train, score, show, write."""
    flags = parse(LengthFlags, sys.argv[1:], "lengths.py")
    check_min(flags, 1, "context", "dim", "layers", "steps", "batch")
    for file in flags.load:
        load_file(file)
    flags.lengths()
    if flags.stretched:
        known_names("--stretched", flags.stretched, Position.names())
    plain = [name for name in Position.names() if "factor" not in fields(Position.find(name))]
    parts = [name.strip() for name in flags.parts.split(",")] if flags.parts else plain
    (machine,) = choose_machines(flags.device, flags.threads, "float32")
    out, recipes = open_output(flags.json), [recipe_of(flags, part) for part in parts]
    for recipe in recipes:
        recipe.model.check(machine.device.type)
    data, about, rows = load_dataset(replace(recipes[0], device="cpu")), describe([machine]), list[Row]()
    with progress(total=2 * len(parts)) as announce:
        for part in parts:
            rows += rows_of(flags, part, data, machine, announce)
    write_json(out, about, rows)
    words = f"{flags.layers} layers, {flags.dim} wide, {flags.steps} steps of {flags.batch} windows, seed {flags.seed}"
    title = f"{flags.corpus}, bits per byte of the validation text, trained in windows of {flags.context}; {words}"
    columns: dict[str, Cell] = {"position": word("name")}
    columns |= {f"{length // flags.context}x, {length:,}": number(str(length), ".4f") for length in flags.lengths()}
    by_name: dict[str, Row] = {}
    for row in rows:
        by_name.setdefault(row["name"], {"name": row["name"]})[str(row["context"])] = row["bits_per_byte"]
    print_table(open_console(), title, columns, list(by_name.values()))
    return 0


if __name__ == "__main__":
    run_and_exit(main)
