"""Load a run: its model, its tokenizer and its recipe, ready to generate."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from nanotx.errors import ConfigError, NanotxError, RunError, RunWarning
from nanotx.generation import Generation, Sampling
from nanotx.generation.chat import Chat
from nanotx.generation.text import bias_by_id, check_texts, ignore, token_ids
from nanotx.nn.transformer import Transformer
from nanotx.recipe import Recipe
from nanotx.runs import checkpoint, pack_reader, valid
from nanotx.runs.folder import RunFolder, is_pack, not_a_run
from nanotx.runs.formats import read_saved_recipe
from nanotx.runs.loaded_files import describe_edits, edits, naming_edits, read_record
from nanotx.runs.resume import check_tokenizer, load_model
from nanotx.runs.trainer_state import read_state
from nanotx.tokenizers import Codec
from nanotx.tokenizers import load as load_tokenizer
from nanotx.tokenizers.chat_template import chat_template_of
from nanotx.training.plugin_checks import check_foreign


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class LoadedRun:
    """A trained model with its tokenizer and recipe."""

    model: Transformer
    tokenizer: Codec
    recipe: Recipe
    step: int
    folder: str  # as it was given
    corpus_sha256: str = ""  # of its corpus
    remarks: tuple[str, ...] = ()  # which files with its parts are not those that it was trained with
    val_loss: float | None = None  # at this step, in nats per token; None where the run's summary is of another one

    def __repr__(self) -> str:
        loss = "" if self.val_loss is None else f", validation loss {self.val_loss:.4f}"
        return (
            f"<LoadedRun {self.folder}: step {self.step:,}, {self.model.parameter_count:,} weights, "
            f"{self.tokenizer.part} of {self.tokenizer.vocab_size:,}{loss}; .model .tokenizer .recipe .generate()>"
        )

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
        banned_tokens: str | Sequence[str] = (),
        bias: Mapping[str, float] = MappingProxyType({}),
        seed: int = 0,
        stop: str | Sequence[str] = (),
    ) -> str:
        """Return the text with its continuation; the other arguments are the fields of `Sampling`, with tokens by text.

        Args:
            text: the prompt.
            max_new_tokens: the number of tokens to sample.
            temperature: divides the logits; 0 always takes the most likely token.
            top_k: keep the k most likely tokens.
            top_p: keep the fewest most likely tokens whose probabilities sum to this.
            min_p: keep tokens whose probability is at least this fraction of the largest.
            typical: keep tokens whose surprisal is nearest to the entropy, until they sum to this.
            repetition_penalty: divides positive logits of tokens in the text so far, multiplies negative ones.
            frequency_penalty: subtracted from a token's logit for each time that it was sampled.
            presence_penalty: subtracted from a token's logit once it was sampled.
            banned_tokens: the text of a token that is never sampled, or of several.
            bias: texts of tokens, each with the number to add to its logit.
            seed: of the random numbers.
            stop: the continuation ends before this text, or before the first of these.

        Raises:
            TextError: the tokenizer cannot encode the text.
            ConfigError: a number is out of range, a token's text is not one token, or `text` is not a str.
        """
        if not isinstance(text, str):
            raise ConfigError(
                f"text: expected a str, got {type(text).__name__}; for several prompts, use generation(prompts, ...)."
            )
        sampling = Sampling(
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            typical=typical,
            repetition_penalty=repetition_penalty,
            frequency_penalty=frequency_penalty,
            presence_penalty=presence_penalty,
            banned_tokens=token_ids(self.tokenizer, as_texts("banned_tokens", banned_tokens), "banned_tokens"),
            bias=bias_by_id(self.tokenizer, bias),
            seed=seed,
        )
        generation = self.generation([text], max_new_tokens, sampling, as_texts("stop", stop))
        return text + "".join(piece for _, piece in generation)

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
        lookup: bool = False,
        compiled: bool | Literal["auto"] = False,
        top_log_probs: int = 0,
        say: Callable[[str], None] = ignore,
    ) -> Generation:
        """Return the continuations of prompts as a `Generation`, which samples them while one iterates over it.

        Args:
            prompts: the texts to continue; repeat one for several samples of it.
            max_new_tokens: the number of tokens to sample per prompt.
            sampling: the sampling config; completion r uses its seed plus r.
            stops: a completion ends before the first of these.
            rolling: use a rolling cache beyond the context instead of recomputing its newer half.
            draft_model: a smaller model for speculative decoding, which samples one text after another.
            draft_tokens: the number of tokens that it, or lookup, proposes per round.
            lookup: try the tokens that followed the same ones before; the text stays the same.
            compiled: compile the single-token step first; auto only where that costs no time.
            top_log_probs: how many of the likeliest ids to keep with each token.
            say: takes remarks for the user.

        Raises:
            ConfigError: the draft model has another tokenizer, or as for `Generation`.
            TextError: the tokenizer cannot encode a prompt.
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
            lookup=lookup,
            compiled=compiled,
            top_log_probs=top_log_probs,
            say=say,
        )

    def chat(
        self, sampling: Sampling | None = None, max_new_tokens: int = 256, system: str = "", template: str = ""
    ) -> Chat:
        """Return a conversation with the model; `ask` yields its answers.

        Args:
            sampling: the sampling config; each answer uses the next seed.
            max_new_tokens: the most tokens of an answer.
            system: what the system says before the conversation.
            template: the chat template in Jinja; if empty, the one that the tokenizer holds.

        Raises:
            ConfigError: the tokenizer holds no chat template, or a template is not valid.
        """
        codec = self.tokenizer.with_chat_template(template) if template else self.tokenizer
        chat_template = chat_template_of(codec)
        if chat_template is None:
            raise ConfigError(
                f"{self.folder}: its tokenizer holds no chat template, so nobody has taught it where an answer ends; "
                "train one with --corpus chat --corpus.path talk.jsonl, or name the template of an imported model by "
                "--template FILE."
            )
        return Chat(self.model, chat_template, sampling, max_new_tokens, system)


def as_texts(name: str, texts: str | Sequence[str]) -> Sequence[str]:
    """Return a list of texts: a single text is one of them, and an empty one is none.

    Raises:
        ConfigError: the value is neither a text nor a list of texts.
    """
    if isinstance(texts, str):
        return [texts] if texts else []
    check_texts(name, texts)
    return texts


def check_draft(loaded: LoadedRun, draft_model: LoadedRun) -> None:
    """Raise ConfigError if two runs have different tokenizers."""
    if draft_model.tokenizer.digest != loaded.tokenizer.digest:
        draft, own = (
            f"{run.folder} has {run.tokenizer.part} of {run.tokenizer.vocab_size} ids ({run.tokenizer.digest[:12]}...)"
            for run in (draft_model, loaded)
        )
        raise ConfigError(
            f"draft_model: {draft}, and {own}; a draft model needs the same tokenizer: train it with "
            f"--tokenizer {loaded.folder}/tokenizer.json."
        )


def load(folder: str | Path, step: int | None = None) -> LoadedRun:
    """Load a run, on the CPU, from its newest valid checkpoint, or from the checkpoint of a step; or load a pack.

    A `RunWarning` says so where a file with a part of the model is not the one that the run was trained with.

    Raises:
        RunError: there is no run, no such checkpoint, or no valid one; says which.
        UnknownPart: its recipe names a part that must be supplied by --load FILE.py.
    """
    loaded = read_run(folder, step)
    for remark in loaded.remarks:
        warnings.warn(remark, RunWarning, stacklevel=2)
    return loaded


def read_run(folder: str | Path, step: int | None = None) -> LoadedRun:
    """Load a run as `load` does, without a warning: what there is to say is in its `remarks`."""
    if is_pack(Path(folder)):
        return load_pack(Path(folder), str(folder), step)
    run = RunFolder(Path(folder))
    if not run.is_run or (run.path.resolve().parent.name == "checkpoints" and not run.checkpoints.exists()):
        raise not_a_run(folder)
    return valid.while_saved(partial(read_loaded, run, str(folder), step), run.checkpoints)


def read_loaded(run: RunFolder, folder: str, step: int | None) -> LoadedRun:
    """Load a run from a checkpoint that no save replaces meanwhile."""
    path = find_checkpoint(run, folder, step)
    state = read_state(path)
    remarks = describe_edits(edits(read_record(path, state)), run.path)
    with naming_edits(remarks):
        recipe, tokenizer = read_parts(path)
        check_tokenizer(path, state, tokenizer)
        # The run was evaluated with the average of its weights, if it kept one.
        weights = path / ("ema.safetensors" if recipe.train.ema_decay else "model.safetensors")
        at = int(path.name.removeprefix("step-"))
        return LoadedRun(
            model=read_model(weights, recipe, tokenizer),
            tokenizer=tokenizer,
            recipe=recipe,
            step=at,
            folder=folder,
            corpus_sha256=state["corpus_sha256"],
            remarks=remarks,
            val_loss=summarized_loss(run, at),
        )


def summarized_loss(run: RunFolder, step: int) -> float | None:
    """Return the validation loss in a run's summary; None where it is of another step, or cannot be read."""
    try:
        figures = valid.read_json(run.summary)
    except (OSError, ValueError, NanotxError):
        return None
    loss = figures.get("val_loss")
    return loss if figures.get("steps") == step and isinstance(loss, float) else None


def load_pack(path: Path, folder: str, step: int | None) -> LoadedRun:
    """Load a pack, a folder or a zip file; see `pack_reader.py`.

    Raises:
        RunError: it is damaged, holds what no pack holds, or is of another step.
        UnknownPart: its recipe names a part that must be supplied by --load FILE.py.
    """
    with pack_reader.opened(path) as files:
        about = pack_reader.read_about(files)
        if step not in (None, about["step"]):
            raise RunError(f"{folder}: a pack of step {about['step']:,}; it holds no step {step}.")
        remarks = describe_edits(edits(read_record(path, about)), path)
        with naming_edits(remarks):
            recipe, tokenizer = read_parts(files)
            if tokenizer.digest != about["tokenizer_sha256"]:
                raise RunError(
                    f"{folder}: its tokenizer is not the one that the run was trained with; the digests differ."
                )
            return LoadedRun(
                model=read_model(files / "model.safetensors", recipe, tokenizer),
                tokenizer=tokenizer,
                recipe=recipe,
                step=about["step"],
                folder=folder,
                corpus_sha256=about["corpus_sha256"],
                remarks=remarks,
            )


def read_parts(path: Path) -> tuple[Recipe, Codec]:
    """Return the recipe and the tokenizer of a checkpoint or a pack; parts from elsewhere are tried first."""
    recipe = read_saved_recipe(path / "recipe.toml")
    check_foreign(recipe.model)
    return recipe, load_tokenizer(path / "tokenizer.json")


def read_model(weights: Path, recipe: Recipe, tokenizer: Codec) -> Transformer:
    """Return the model of a recipe with the weights of a file, ready to evaluate."""
    model = load_model(weights, recipe.model, tokenizer.vocab_size)
    model.undefined_ids = tokenizer.undefined_ids
    return model.eval()


def find_checkpoint(run: RunFolder, folder: str, step: int | None) -> Path:
    """Return the newest valid checkpoint, or the checkpoint of a step.

    Raises:
        RunError: there is none, or that of the step is invalid; says why.
    """
    if step is None:
        path, reasons = valid.newest(run.checkpoints)
        if path is None:
            raise RunError(f"{folder}: no checkpoint can be read.{''.join(f' {reason}' for reason in reasons)}")
        return path
    steps = checkpoint.steps(run.checkpoints)
    if step not in steps:
        near = f" The nearest is {min(sorted(steps), key=lambda kept: abs(kept - step))}." if len(steps) > 1 else ""
        raise RunError(f"{folder}: no checkpoint of step {step}; it has {sorted(steps)}.{near}")
    valid.verify(steps[step])
    return steps[step]
