"""Evaluations and samples of a run that trains, with the weights that are to be judged."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from nanotx.evaluation.loss import EvalText, Score, Sharing, evaluate
from nanotx.generation import Generation, Sampling
from nanotx.nn.transformer import Transformer
from nanotx.training.callbacks.base import Callback
from nanotx.training.loop import TrainingRun
from nanotx.training.trainer import Row, Trainer


@dataclass(kw_only=True)
class Evaluation(Callback):
    """Score the validation text, and the training text if it is given, every `train.eval_every` steps."""

    eval_texts: dict[str, EvalText]  # val, and train unless its loss is not wanted

    def after_step(self, run: TrainingRun) -> None:
        if run.due(run.recipe.train.eval_every):
            run.attempt("evaluation", lambda: evaluation(run, self.scores(run)))

    def scores(self, run: TrainingRun) -> dict[str, Score]:
        """Return the scores of the texts, which processes that train together share."""
        return shared_scores(run.trainer, self.eval_texts, run.check)


def shared_scores(
    trainer: Trainer, eval_texts: Mapping[str, EvalText], check: Callable[[], None] = lambda: None
) -> dict[str, Score]:
    """Return the scores of some texts; on another rank than 0, after rank 0's order, take part in computing them.

    Where a model has buffers, each rank's may be of the rows that it saw, and rank 0 evaluates alone. A model in slices
    is gathered block by block for each batch, as in a step.

    Args:
        trainer: of this rank.
        eval_texts: the same on all ranks.
        check: called between two batches; may raise to stop.
    """

    def scores(model: Transformer, ranks: Sharing | None) -> dict[str, Score]:
        return {
            name: evaluate(model, eval_texts[name], trainer.machine, on_batch=check, sharing=ranks)
            for name in sorted(eval_texts)
        }

    if trainer.buffers.names:
        with trainer.eval_model() as model:
            return scores(model, None)
    with trainer.use_eval_weights():
        trainer.ranks.order("evaluate")
        return scores(trainer.model, trainer.ranks)


def evaluation(run: TrainingRun, scores: dict[str, Score]) -> Row:
    """Return the row of an evaluation, and record it as the last one and, if it is, as the best.

    Where the training text was not read, its figures are None, over 0 tokens.
    """
    progress, training, validation = run.trainer.progress, scores.get("train"), scores["val"]
    progress.scores = {
        "train_loss": training.loss if training else None,
        "val_loss": validation.loss,
        "train_bits_per_byte": training.bits_per_byte if training else None,
        "bits_per_byte": validation.bits_per_byte,
        "perplexity": validation.perplexity,
        "val_stderr": validation.stderr,
        "val_tokens": validation.tokens,
        "train_tokens": training.tokens if training else 0,
        "eval_tokens": validation.requested_tokens,
        "wall_seconds": progress.wall_seconds,
    }
    same_windows = progress.best.get("eval_tokens", 0) == validation.requested_tokens
    best = progress.best if same_windows else {}
    if validation.loss < best.get("val_loss", math.inf):
        progress.best = {"step": progress.step, "val_loss": validation.loss, "eval_tokens": validation.requested_tokens}
    return {"event": "eval", "step": progress.step, **progress.scores}


@dataclass(kw_only=True)
class Sample(Callback):
    """Generate a text every `train.sample_every` steps, from the start id on."""

    def after_step(self, run: TrainingRun) -> None:
        if run.due(run.recipe.train.sample_every):
            run.attempt("sample", lambda: {"event": "sample", "step": run.step, "text": self.text(run)})

    def text(self, run: TrainingRun) -> str:
        """Return a text that the model generates, of `train.sample_tokens` tokens; its seed is the step."""
        with run.trainer.eval_model() as model:
            generation = Generation(
                model=model,
                codec=run.tokenizer,
                prompts=[""],
                max_new_tokens=run.recipe.train.sample_tokens,
                sampling=Sampling(seed=run.step),
            )
            model.eval()
            try:
                for _ in generation:
                    run.check()
                    run.doing("sample", generation.completions[0].text)
            finally:
                model.train()
        return generation.completions[0].text
