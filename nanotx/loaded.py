"""A run taken up again: its model, its tokenizer and its recipe, ready to write."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nanotx import checkpoint
from nanotx.errors import RunError
from nanotx.folder import RunFolder
from nanotx.layers import read_config
from nanotx.model import Transformer
from nanotx.recipe import Recipe
from nanotx.resume import check_tokenizer, load_weights, read_state
from nanotx.sample import Sampling
from nanotx.tokenizers import Codec
from nanotx.tokenizers import load as load_tokenizer
from nanotx.write import write


@dataclass(frozen=True, kw_only=True, eq=False)
class Loaded:
    """What a run left."""

    model: Transformer
    tokenizer: Codec
    recipe: Recipe
    step: int

    def generate(
        self,
        text: str = "",
        *,
        max_new_tokens: int = 300,
        temperature: float = 0.8,
        top_k: int | None = None,
        top_p: float = 1.0,
        seed: int = 0,
        stop: str = "",
    ) -> str:
        """The text and what the model makes of it; the fields of `Sampling` say how.

        Raises:
            TextError: the tokenizer cannot hold the text.
            ConfigError: a field is out of range.
        """
        sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, seed=seed)
        return text + "".join(self.stream(text, max_new_tokens, sampling, stop))

    def stream(self, text: str, max_new_tokens: int, sampling: Sampling, stop: str = "") -> Iterator[str]:
        """What follows the text, piece by piece."""
        device = next(self.model.parameters()).device
        return write(self.model, self.tokenizer, text, max_new_tokens, sampling, stop, device)


def load(folder: str | Path, step: int | None = None) -> Loaded:
    """Read a run's model, on the CPU, from its newest checkpoint that verifies, or from that of a step.

    Raises:
        RunError: there is no run, no such checkpoint, or none that verifies; says which.
        UnknownPart: its recipe names a part that has to be supplied by --load FILE.py.
    """
    run = RunFolder(Path(folder))
    if not run.recipe.is_file():
        raise RunError(f"{folder}: expected a run's folder, with a recipe.toml in it.")
    found, passed = checkpoint.newest(run.checkpoints)
    if step is not None:
        found = checkpoint.steps(run.checkpoints).get(step)
        if found is None:
            raise RunError(
                f"{folder}: no checkpoint of step {step}; it has {sorted(checkpoint.steps(run.checkpoints))}."
            )
        checkpoint.verify(found)
    if found is None:
        raise RunError(f"{folder}: no checkpoint can be read.{''.join(f' {reason}' for reason in passed)}")
    recipe: Recipe = read_config(Recipe, found / "recipe.toml")
    tokenizer = load_tokenizer(found / "tokenizer.json")
    check_tokenizer(found, read_state(found), tokenizer)
    model = recipe.model.build(tokenizer.vocab_size)
    load_weights(model, checkpoint.read_tensors(found / "model.safetensors"))
    return Loaded(model=model.eval(), tokenizer=tokenizer, recipe=recipe, step=int(found.name.removeprefix("step-")))
