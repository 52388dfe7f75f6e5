"""Read a model of the Hugging Face world."""

import dataclasses
import importlib.util
import sys
from pathlib import Path

from nanotx.config.flags import argument, option, parse
from nanotx.errors import shell_quoted
from nanotx.hub.huggingface.import_run import import_run
from nanotx.hub.nanogpt import checkpoint_of

USAGE = "PATH --run RUN"
GROUP = "Hand a run on"
ORDER = 41


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """Read a folder of the Hugging Face world (GPT-2, Llama, Qwen2, Qwen3, Mistral, Arcee, GPT-NeoX), or of nanoGPT.

    Every key of its config.json is understood or refused by name, every tensor has its place, and nothing in the folder
    is executed. Where transformers is installed, ids, logits and greedy text are compared with it before the result is
    written. What takes a run takes the result: sample, eval, look, show, export, and nanotx.load.

    A model of the Hub is named by its id, and fetched by the package huggingface-hub: safetensors, JSON and tokenizer
    files alone.

        nanotx import gpt2/ --run runs/gpt2
        nanotx import openai-community/gpt2 --run runs/gpt2
        nanotx import out/ckpt.pt --tokenizer data/shakespeare_char/meta.pkl --run runs/old
        nanotx sample runs/gpt2 --prompt "To be"
    """

    folder: str = argument("PATH")  # folder with config.json; a model of the Hub; or nanoGPT's ckpt.pt
    run: str = option("RUN", dataclasses.MISSING)  # folder to write, or a zip file
    tokenizer: str = option("PATH", "")  # tokenizer of a ckpt.pt; without it, the meta.pkl in the same folder
    overwrite: bool = False  # replace an import or a pack that is there already
    proof: bool = True  # compare the result with transformers, where it is installed


def run(argv: list[str]) -> int:
    """Write the model as a pack, print what it is, and return the exit code."""
    flags = parse(Flags, argv, "nanotx import")
    foreign = checkpoint_of(Path(flags.folder)) is None
    if foreign and flags.proof and importlib.util.find_spec("transformers"):
        sys.stdout.write(f"{flags.folder}: reading it, and comparing it with transformers; --no-proof is quicker\n")
        sys.stdout.flush()
    tokenizer = Path(flags.tokenizer) if flags.tokenizer else None
    imported = import_run(flags.folder, Path(flags.run), flags.overwrite, flags.proof, tokenizer)
    model = imported.run.model
    for note in imported.notes:
        sys.stdout.write(f"{flags.folder}: {note}\n")
    sys.stdout.write(
        f"{flags.run}: {imported.class_name}, {model.parameter_count:,} weights, {imported.run.tokenizer.part} of "
        f"{imported.run.tokenizer.vocab_size:,} ids\n"
    )
    why = "transformers is not installed" if flags.proof else "--no-proof"
    why = why if foreign else "it does not read this file"
    proof = f"proven with {imported.proof}" if imported.proof else f"not compared with transformers: {why}"
    sys.stdout.write(f"{flags.run}: {proof}\n")
    sys.stdout.write(f"nanotx sample {shell_quoted(flags.run)}\n")
    return 0
