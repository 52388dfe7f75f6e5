"""A trainer whose model is in slices among ranks: how it gets them, and how rank 0 collects the whole.

Only a trainer that is divided so imports this file: the libraries of FSDP2 take seconds.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace

import torch
from torch import Tensor

from nanotx.distributed import AVERAGE, STATE, WEIGHT, Ranks
from nanotx.distributed.slices import Slices
from nanotx.errors import ConfigError
from nanotx.hardware.memory import leaves_as_much
from nanotx.nn.canonical import to_canonical
from nanotx.nn.empty import allocate, empty_weights, is_empty, moved, set_constants
from nanotx.nn.transformer import Transformer
from nanotx.optim.matrices import MatrixOptimizer
from nanotx.optim.state import Saved, State, StateCodec, device_of
from nanotx.training.ema import EMA
from nanotx.training.trainer import SavedState, Trainer


def take_slices(trainer: Trainer, ranks: Ranks, costs: Mapping[str, float]) -> None:
    """Keep this rank's slices of the model, of the optimizer's state and of the average of the weights.

    Args:
        trainer: with a whole model, or one whose weights have no memory.
        ranks: the processes that train together.
        costs: of an optimizer's step of each parameter that learns, by name.
    """
    state = None if is_empty(trainer.model) else trainer.state_codec.read()
    averages = trainer.ema.averages if trainer.ema and state is not None else {}
    decay = trainer.ema.decay if trainer.ema else 0.0
    del trainer.optimizer, trainer.state_codec, trainer.ema  # which hold the weights
    slices = ranks.slice(trainer.model, trainer.model.blocks, trainer.machine.device)
    assert slices is not None
    own, trainer.slices = slices.own, slices
    trainer.optimizer = trainer.recipe.optimizer.build_grouped((name, own[name]) for name in costs)
    trainer.state_codec = StateCodec(trainer.optimizer, own, trainer.model)
    slices.optimizer = trainer.optimizer
    if isinstance(trainer.optimizer, MatrixOptimizer):
        trainer.optimizer.matrices = slices.whole_matrices(costs)
    trainer.ema = EMA(own, decay) if decay else None
    if trainer.ema is not None:
        slices.averages = trainer.ema.averages
        for name, average in averages.items():
            trainer.ema.averages[name].copy_(slices.cut(name, average))
    if state is not None:
        load_slices(trainer, cut(state, slices))


def cut(saved: Saved, slices: Slices) -> Saved:
    """Return the state of an optimizer with a rank's slices of what is shaped like a parameter."""
    state: State = {}
    for name, values in saved.state.items():
        tensors = {key: slices.cut(name, value) for key, value in values.items() if isinstance(value, Tensor)}
        state[name] = values | tensors
    return replace(saved, state=state)


def load_slices(trainer: Trainer, saved: Saved) -> None:
    """Load the state of the optimizer of a model in slices; its tensors become the optimizer's own.

    Args:
        trainer: whose optimizer it is.
        saved: in the model's own layout, with slices of what is shaped like a parameter.
    """
    assert trainer.slices is not None
    trainer.state_codec.put(replace(saved, state={}), {}, "rank 0")
    names = {param: name for name, param in trainer.slices.own.items()}
    for group in trainer.optimizer.param_groups:
        for param in group["params"]:
            if (values := saved.state.get(names[param])) is not None:
                trainer.optimizer.state[param] = {
                    key: value.to(device_of(key, param, group)) if isinstance(value, Tensor) else value
                    for key, value in values.items()
                }


# The whole, of which rank 0 alone collects what all ranks have.


def saved_state(trainer: Trainer, slices: Slices) -> SavedState:
    """Return the state for a checkpoint, in the canonical layout and in the memory of the CPU.

    Raises:
        ConfigError: some of the optimizer's state cannot be saved; names the parameter and the key.
    """
    own, names = trainer.state_codec.read(), slices.names
    check_divisible(own.state, slices)
    whole = {(names[index], key): tensor for (index, key), tensor in trainer.ranks.collect_slices().items()}
    weights = {name: whole[name, WEIGHT] for name in names}
    state: State = {
        name: {key: whole.get((name, STATE + key), value) for key, value in values.items()}
        for name, values in own.state.items()
    }
    saved = trainer.state_codec.in_canonical_layout(replace(own, state=state), weights)
    averages = {name: whole[name, AVERAGE] for name in names} if trainer.ema else {}
    return SavedState(to_canonical(trainer.model, weights), *saved.encode(), to_canonical(trainer.model, averages))


def check_divisible(state: State, slices: Slices) -> None:
    """Raise ConfigError if some of an optimizer's state grows with the rows of a slice, and is not shaped like it.

    No checkpoint could put it together. Of all else than what is shaped like its parameter, rank 0's is that of all.
    """
    for name, values in state.items():
        own, whole = slices.own[name].shape, slices.shapes[name]
        for key, value in values.items():
            of_rows = isinstance(value, Tensor) and value.numel() > 1 and len(value) == own[0] != whole[0]
            if of_rows and value.shape != own:
                raise ConfigError(
                    f"--parallel fsdp: the optimizer's state {key!r} of {name} has the shape {tuple(value.shape)} for "
                    f"{own[0]} of {whole[0]} rows; expected a tensor shaped like the parameter, or one that is the "
                    "same for all rows; try --parallel owner."
                )


@contextmanager
def eval_model(trainer: Trainer, slices: Slices) -> Iterator[Transformer]:
    """Context with a model that has the weights to evaluate and sample, as `Trainer.eval_model` says."""
    if has_memory_for_whole(trainer, slices):
        model, ema = collected_model(trainer, slices, trainer.machine.device)
        with ema.applied() if ema else nullcontext():
            yield model
    else:
        with trainer.use_eval_weights(), trainer.ranks.calls():
            yield trainer.model


def final_model(trainer: Trainer, slices: Slices) -> tuple[Transformer, EMA | None]:
    """Return a whole model, and the average of its weights if there is one; on the CPU if the device has no memory."""
    fits = has_memory_for_whole(trainer, slices)
    return collected_model(trainer, slices, trainer.machine.device if fits else torch.device("cpu"))


def has_memory_for_whole(trainer: Trainer, slices: Slices) -> bool:
    """Return whether the device has memory for the whole of a model in slices, and for as much besides."""
    size = sum(shape.numel() * slices.own[name].element_size() for name, shape in slices.shapes.items())
    return leaves_as_much(2 * size if trainer.ema else size, trainer.machine.device.type)


def collected_model(trainer: Trainer, slices: Slices, device: torch.device) -> tuple[Transformer, EMA | None]:
    """Return a new model on a device, with the weights that all ranks have in slices, and their average if any."""
    recipe = trainer.recipe
    with empty_weights():
        model = recipe.model.build_empty(trainer.model.vocab_size)
        model.add_loss(recipe.loss, recipe.seeds.weights)
    model = moved(model, device).train(trainer.model.training)
    model.undefined_ids = trainer.model.undefined_ids
    allocate(model, model.parameters(), device)
    parameters, whole = dict(model.named_parameters()), trainer.ranks.collect_slices(with_optimizer=False)
    with torch.no_grad():
        for index, name in enumerate(slices.names):
            parameters[name].copy_(whole.pop((index, WEIGHT)))
    set_constants(model, dict(trainer.model.named_buffers()))
    if trainer.ema is None:
        return model, None
    ema = EMA({}, trainer.ema.decay)
    ema.weights = dict(parameters)
    ema.averages = {name: whole.pop((index, AVERAGE)).to(device) for index, name in enumerate(slices.names)}
    return model, ema
