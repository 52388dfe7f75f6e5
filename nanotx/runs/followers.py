"""The ranks of a run besides rank 0: they have its state, take its steps, and touch no file of its folder.

Rank 0 does all that a run in one process does. Before its first step it sends the others the recipe as it is resolved,
the tokenizer, and the trainer's state; so all ranks begin with the same bits, also where the run is resumed.
"""

import json
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from nanotx.config.registry import load_file
from nanotx.config.schema import from_table
from nanotx.config.toml import write_toml
from nanotx.distributed import Group, Order, Parallel, Ranks, rows_of
from nanotx.errors import ConfigError, RankLost
from nanotx.evaluation.loss import EvalText
from nanotx.hardware.device import choose_machine, make_deterministic
from nanotx.hardware.memory import keep_freed_memory
from nanotx.nn.empty import empty_weights, set_constants
from nanotx.optim.packing import split
from nanotx.optim.state import Saved, Table
from nanotx.recipe import Recipe
from nanotx.runs.resume import copy_in, load_state
from nanotx.runs.trainer_state import strict
from nanotx.tokenizers.loading import codec_of_json
from nanotx.training.callbacks.base import Callback
from nanotx.training.callbacks.evaluation import shared_scores
from nanotx.training.callbacks.logger import Logger
from nanotx.training.dataset import Dataset, check_same_corpus, load_dataset
from nanotx.training.loop import describe
from nanotx.training.signals import Stop
from nanotx.training.trainer import Progress, Trainer, check_rows


def lead(ranks: Ranks, trainer: Trainer, texts: Dataset, stop: Stop) -> None:
    """Send the state of a trainer, which is about to take a step, to the other ranks.

    Args:
        ranks: the processes that train together.
        trainer: in the state that they are to have.
        texts: its data.
        stop: what signals ask for; those of the other ranks are noted there.

    Raises:
        NanotxError: another rank cannot begin.
    """
    if not isinstance(ranks, Group):
        return
    ranks.agreement.requests, ranks.reduce = stop, trainer.recipe.reduce
    kinds, table = state_in_slices(trainer) if ranks.parallel == "fsdp" else whole_state(trainer)
    shapes = {name: param.shape for name, param in trainer.model.named_parameters()}

    def is_sliced(kind: str, name: str, tensor: Tensor) -> bool:
        param = {"weights": name, "ema": name, "optimizer": split(name)[0]}.get(kind, "")
        return ranks.parallel == "fsdp" and tensor.shape == shapes.get(param)

    items = [
        (kind, name, tensor, is_sliced(kind, name, tensor))
        for kind, named in kinds.items()
        for name, tensor in named.items()
    ]
    message = {
        "recipe": write_toml(trainer.recipe),
        "tokenizer": texts.codec.to_json(),
        "corpus": texts.sha256,
        "detect": trainer.detect,
        "optimizer": table,
        "progress": asdict(trainer.progress) | {"scores": strict(trainer.progress.scores)},
        "scaler": trainer.scaler.state_dict(),
        "tensors": [
            [kind, name, str(tensor.dtype).removeprefix("torch."), list(tensor.shape), sliced]
            for kind, name, tensor, sliced in items
        ],
    }
    ranks.order("start")
    ranks.send(json.dumps(message).encode(), [(tensor, sliced) for _, _, tensor, sliced in items])
    del kinds, items  # they hold the whole weights
    trainer.join(ranks)


Kinds = dict[str, dict[str, Tensor]]
"""Tensors by name, of each kind."""


def whole_state(trainer: Trainer) -> tuple[Kinds, Table]:
    """Return all tensors of a trainer, in the canonical layout, and the rest of the optimizer's state."""
    tensors, table = trainer.optimizer_state()
    averages = trainer.eval_weights() if trainer.ema else {}
    kinds = {"weights": trainer.weights(), "optimizer": tensors, "buffers": trainer.buffers.saved(), "ema": averages}
    return kinds, table


def state_in_slices(trainer: Trainer) -> tuple[Kinds, Table]:
    """Return all tensors of a trainer, which is whole, as ranks get slices of them: in the model's own layout.

    Buffers that are not saved are among them, as others may not be able to compute them: of those without weights of
    their own, which drew no random numbers, they may differ.
    """
    tensors, table = trainer.state_codec.read().encode()
    weights = {name: param.detach() for name, param in trainer.model.named_parameters()}
    saved = trainer.buffers.saved()
    constants = {name: buffer for name, buffer in trainer.model.named_buffers() if name not in saved}
    averages = trainer.ema.averages if trainer.ema else {}
    kinds = {"weights": weights, "optimizer": tensors, "buffers": saved, "constants": constants, "ema": averages}
    return kinds, table


def check_slices(trainer: Trainer, callbacks: Sequence[Callback]) -> None:
    """Raise ConfigError if a model cannot be divided into slices, or somebody looks at it between two steps.

    Raises:
        ConfigError: says what is in the way.
    """
    check_rows(trainer.model)
    if lookers := [callback for callback in callbacks if not isinstance(callback, Logger)]:
        raise ConfigError(
            f"--parallel fsdp: {describe(lookers[0])} may look at the model after any step, and it is in slices then; "
            "leave it out, or try --parallel owner."
        )


HEARD: dict[Parallel, tuple[Order, ...]] = {
    "replicas": ("start", "step", "evaluate"),
    "owner": ("start", "step", "evaluate"),
    "fsdp": ("start",),
}
"""Orders at which ranks meet, and hear of an error that came before, where weights or state are divided so."""


def follow(ranks: Group, stop: Stop, load: Sequence[str] = ()) -> int:
    """Take the steps that rank 0 orders, until it orders the end; return the exit code, which is that of rank 0.

    Errors of this rank are put down for rank 0, which reports them. No rank of a run that has failed leaves with 0: its
    launcher, which may be on another machine than rank 0's, would take its share for done, and not start it again.

    Args:
        ranks: the processes that train together.
        stop: what signals ask of this one.
        load: the user's files to import.

    Raises:
        RankLost: rank 0 no longer answers, and this is the lowest rank that does.
    """
    ranks.agreement.requests, stop.working = stop, True
    try:
        for file in load:
            load_file(file)
    except Exception as error:
        ranks.agreement.failure = error
    follower = Follower(ranks)
    try:
        while not ranks.lost and (order := ranks.next_order()) != "end":
            if ranks.agreement.failure is not None and order not in HEARD[ranks.parallel]:
                ranks.agreement.put_down(ranks.agreement.failure)
            elif order == "start":
                if ranks.receive(follower.prepare):
                    follower.begin()
            elif order == "evaluate":
                follower.evaluate()
            elif order == "calls":
                follower.answer_calls()
            elif order in ("state", "weights"):
                ranks.send_state(with_optimizer=order == "state")
            else:
                follower.step()
    except RankLost as lost:
        if lost.reporter == ranks.rank and ranks.agreement.number:
            raise
        return lost.exit_code
    except Exception:
        if not ranks.lost:
            raise
    if ranks.lost:  # rank 0 reports what was put down
        return ranks.agreement.exit_code
    if ranks.exit_code:
        ranks.wait_for_exit()
    return ranks.exit_code


class Follower:
    """A rank besides rank 0."""

    def __init__(self, ranks: Group) -> None:
        self.ranks = ranks
        self.trainer: Trainer | None = None
        self.eval_texts: dict[str, EvalText] = {}
        self.message: dict[str, Any] = {}
        self.named: Kinds = {}  # what rank 0 has sent

    def prepare(self, data: bytes) -> Iterator[tuple[Tensor, bool]]:
        """Build the trainer that rank 0 describes; return what receives its state, tensor by tensor.

        Of a model in slices this process never has more than they are, and one unit of those that are gathered.

        Raises:
            DataError: the corpus of this machine is another one.
            NanotxError: what the recipe needs is not there.
        """
        self.message = message = json.loads(data)
        recipe: Recipe = from_table(Recipe, tomllib.loads(message["recipe"]))
        self.ranks.reduce = recipe.reduce
        machine = choose_machine(recipe.device, recipe.dtype, recipe.threads)
        if recipe.deterministic:
            make_deterministic(machine.device)
        texts = load_dataset(recipe, codec_of_json(message["tokenizer"]))
        check_same_corpus("corpus", message["corpus"], texts.sha256, "copy that of rank 0 to this machine")
        keep_freed_memory()
        if self.ranks.parallel == "fsdp":
            with empty_weights():
                model = recipe.model.build_empty(texts.codec.vocab_size)
                self.trainer = Trainer(recipe, model, texts.windows, machine)
            self.trainer.join(self.ranks)
        else:
            model = recipe.model.build(texts.codec.vocab_size, recipe.seeds.weights)
            self.trainer = Trainer(recipe, model, texts.windows, machine)
        self.trainer.detect, self.eval_texts = message["detect"], texts.eval_texts
        return self.incoming(self.trainer)

    def incoming(self, trainer: Trainer) -> Iterator[tuple[Tensor, bool]]:
        """Yield tensors, or slices, that are filled with what rank 0 sends, and keep each."""
        slices, self.named = trainer.slices, {"weights": {}, "optimizer": {}, "buffers": {}, "ema": {}, "constants": {}}
        for kind, name, dtype, shape, sliced in self.message["tensors"]:
            if sliced:
                rows = rows_of(shape[0], self.ranks.rank, self.ranks.size)
                shape = [rows.stop - rows.start, *shape[1:]]
            tensor = torch.empty(shape, dtype=getattr(torch, dtype))
            yield tensor, sliced
            if slices is not None and kind == "weights":
                slices.own[name].detach().copy_(tensor)
            elif slices is not None and kind == "ema":
                assert trainer.ema is not None
                trainer.ema.averages[name].copy_(tensor)
            else:
                self.named[kind][name] = tensor

    def begin(self) -> None:
        """Load the state that rank 0 has sent."""
        assert self.trainer is not None
        named, self.named = self.named, {}
        try:
            if self.trainer.slices is None:
                load_state(self.trainer, named["weights"], named["optimizer"], self.message["optimizer"])
            else:
                from nanotx.training.slicing import load_slices  # FSDP2, which it needs, takes seconds to import

                load_slices(self.trainer, Saved.decode(named["optimizer"], self.message["optimizer"]))
                set_constants(self.trainer.model, named["constants"])
            self.trainer.buffers.load(named["buffers"])
            if self.trainer.ema and self.trainer.slices is None:
                copy_in(self.trainer.ema.averages, self.trainer.model, named["ema"])
            if self.trainer.scaler.is_enabled():
                self.trainer.scaler.load_state_dict(self.message["scaler"])
            self.trainer.progress = Progress(**self.message["progress"])
            if self.trainer.slices is None:
                self.trainer.join(self.ranks)
        except Exception as error:
            self.ranks.agreement.failure = error

    def step(self) -> None:
        """Take a step; all ranks hear of an error, also of one that came before."""
        assert self.trainer is not None
        try:
            if self.ranks.agreement.failure is None:
                self.trainer.train_step()
            else:
                self.ranks.fail(self.ranks.agreement.failure, [*self.trainer.model.parameters()])
        except RankLost:
            raise
        except Exception:  # rank 0 reports it
            return

    def evaluate(self) -> None:
        """Take part in an evaluation; all ranks hear of an error."""
        assert self.trainer is not None
        met = self.ranks.agreement.number
        try:
            if self.ranks.agreement.failure is not None:
                raise self.ranks.agreement.failure
            shared_scores(self.trainer, self.eval_texts)
        except RankLost:
            raise
        except Exception as error:
            if self.ranks.agreement.agreed or self.ranks.lost:
                return
            if self.ranks.parallel == "fsdp":  # the others wait for this rank's slices
                self.ranks.agreement.put_down(error)
                return
            self.ranks.agreement.failure = error
            if self.ranks.agreement.number < met + len(self.eval_texts):
                self.decline()

    def answer_calls(self) -> None:
        """Help rank 0 to call the model in slices, such as for a sample; all ranks hear of an error."""
        assert self.trainer is not None
        model = self.trainer.model
        try:
            with self.trainer.use_eval_weights():
                model.eval()
                try:
                    self.ranks.answer_calls()
                finally:
                    model.train()
        except RankLost:
            raise
        except Exception:  # it is put down
            return

    def decline(self) -> None:
        """Let the others, who wait for this rank's share of an evaluation, hear of its error."""
        try:
            self.ranks.gather(list)
        except RankLost:
            raise
        except Exception:  # rank 0 reports it
            return
