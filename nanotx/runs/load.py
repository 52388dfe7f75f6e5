"""A run taken up again: its model, its tokenizer and its recipe, ready to write."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

import torch

from nanotx.errors import ConfigError, RunError
from nanotx.generation import Sampling
from nanotx.generation.completion import Generation
from nanotx.generation.text import bias_by_id, stream_text, token_ids
from nanotx.nn.transformer import Transformer
from nanotx.recipe import Recipe
from nanotx.runs import checkpoint, valid
from nanotx.runs.folder import RunFolder
from nanotx.runs.formats import read_saved_recipe
from nanotx.runs.resume import check_tokenizer, load_model
from nanotx.runs.trainer_state import read_state
from nanotx.tokenizers import Codec
from nanotx.tokenizers import load as load_tokenizer
from nanotx.training.plugins import check_foreign


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedRun:
    """A trained model with its tokenizer and recipe."""

    model: Transformer
    tokenizer: Codec
    recipe: Recipe
    step: int
    folder: str  # as it was named
    corpus_sha256: str = ""  # of the text that it was trained on

    def generate(
        self,
        text: str = "",
        *,
        max_new_tokens: int = 300,
        temperature: float = 0.8,
        top_k: int | None = None,
        top_p: float = 1.0,
        min_p: float = 0.0,
        typical: float = 1.0,
        repetition_penalty: float = 1.0,
        frequency_penalty: float = 0.0,
        presence_penalty: float = 0.0,
        banned_tokens: Sequence[str] = (),
        bias: Mapping[str, float] = MappingProxyType({}),
        seed: int = 0,
        stop: str | Sequence[str] = (),
    ) -> str:
        """The text and what the model makes of it; the fields of `Sampling` say how, with tokens called by their text.

        Raises:
            TextError: the tokenizer cannot hold the text.
            ConfigError: a field is out of range, a token's text is no token, or the text is something else.
        """
        if not isinstance(text, str):
            raise ConfigError(f"text: expected a str, got {type(text).__name__}; several prompts are given one by one.")
        sampling = Sampling(
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            typical=typical,
            repetition_penalty=repetition_penalty,
            frequency_penalty=frequency_penalty,
            presence_penalty=presence_penalty,
            banned_tokens=token_ids(self.tokenizer, banned_tokens, "banned_tokens"),
            bias=bias_by_id(self.tokenizer, bias),
            seed=seed,
        )
        stops = [stop] * bool(stop) if isinstance(stop, str) else stop
        return text + "".join(self.stream(text, max_new_tokens, sampling, stops))

    def stream(self, text: str, max_new_tokens: int, sampling: Sampling, stops: Sequence[str] = ()) -> Iterator[str]:
        """What follows the text, piece by piece."""
        return stream_text(self.model, self.tokenizer, text, max_new_tokens, sampling, stops, self.device)

    def generation(
        self,
        prompts: Sequence[str],
        max_new_tokens: int,
        sampling: Sampling,
        stops: Sequence[str] = (),
        *,
        rolling: bool = False,
        draft_model: "LoadedRun | None" = None,
        draft_tokens: int = 4,
        compiled: bool = False,
    ) -> Generation:
        """Texts to be written side by side, with the log-probability of each token; n samples of one are n times it.

        Args:
            prompts: what they continue.
            max_new_tokens: how many tokens each gets at most.
            sampling: how they are chosen; text r has the seed of it plus r.
            stops: each ends before the first of these that is written.
            rolling: keep a rolling cache beyond the context (`nanotx.generation.rolling`) instead of recomputing it.
            draft_model: a smaller model that guesses ahead (`nanotx.generation.speculative`);
                texts are then generated one by one.
            draft_tokens: how many tokens it guesses at a time.
            compiled: whether the reading of one more token is compiled first (`nanotx.generation.compiled`).

        Raises:
            ConfigError: the draft has another tokenizer, or what is asked for does not go together; says which.
            TextError: the tokenizer cannot hold a prompt.
        """
        if draft_model is not None:
            check_draft(self, draft_model)
        return Generation(
            model=self.model,
            codec=self.tokenizer,
            prompts=prompts,
            max_new_tokens=max_new_tokens,
            sampling=sampling,
            stops=stops,
            rolling=rolling,
            draft_model=draft_model.model.to(next(self.model.parameters())) if draft_model is not None else None,
            draft_tokens=draft_tokens,
            compiled=compiled,
            device=self.device,
        )

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device


def check_draft(loaded: LoadedRun, draft_model: LoadedRun) -> None:
    """Raise ConfigError where two runs have not the same tokenizer: an id of one is then no id of the other."""
    if draft_model.tokenizer.digest != loaded.tokenizer.digest:
        one, other = (
            f"{run.folder} has {run.tokenizer.part} of {run.tokenizer.vocab_size} ids ({run.tokenizer.digest[:12]}...)"
            for run in (draft_model, loaded)
        )
        raise ConfigError(
            f"draft_model: {one}, and {other}; a draft model needs the same tokenizer: train it with "
            f"--tokenizer {loaded.folder}/tokenizer.json."
        )


def load(folder: str | Path, step: int | None = None) -> LoadedRun:
    """Read a run's model, on the CPU, from its newest checkpoint that verifies, or from that of a step.

    Raises:
        RunError: there is no run, no such checkpoint, or none that verifies; says which.
        UnknownPart: its recipe names a part that has to be supplied by --load FILE.py.
    """
    run = RunFolder(Path(folder))
    if not run.is_run:
        raise RunError(f"{folder}: expected a run's folder, with a recipe.toml in it.")
    return valid.while_saved(partial(read_loaded, run, str(folder), step), run.checkpoints)


def read_loaded(run: RunFolder, folder: str, step: int | None) -> LoadedRun:
    """As `load`, of a run whose checkpoints stay where they are meanwhile."""
    found, passed = (None, []) if step is not None else valid.newest(run.checkpoints)
    if step is not None:
        found = checkpoint.steps(run.checkpoints).get(step)
        if found is None:
            raise RunError(
                f"{folder}: no checkpoint of step {step}; it has {sorted(checkpoint.steps(run.checkpoints))}."
            )
        valid.verify(found)
    if found is None:
        raise RunError(f"{folder}: no checkpoint can be read.{''.join(f' {reason}' for reason in passed)}")
    recipe = read_saved_recipe(found / "recipe.toml")
    check_foreign(recipe.model)
    tokenizer = load_tokenizer(found / "tokenizer.json")
    state = read_state(found)
    check_tokenizer(found, state, tokenizer)
    # What the run was judged by is the average of its weights, if it kept one.
    weights = found / ("ema.safetensors" if recipe.train.ema_decay else "model.safetensors")
    model = load_model(weights, recipe.model, tokenizer.vocab_size)
    model.undefined_ids = tokenizer.undefined_ids
    return LoadedRun(
        model=model.eval(),
        tokenizer=tokenizer,
        recipe=recipe,
        step=int(found.name.removeprefix("step-")),
        folder=folder,
        corpus_sha256=state["corpus_sha256"],
    )
