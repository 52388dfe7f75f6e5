"""Reference implementation of a training step, and the law that the trainer's steps equal it bit for bit.

To see exactly what happens in a step, read `training_step`: its loops are plain, its state is a dictionary, and it
shares nothing with the trainer but the model and its dropout, the text, the schedule and PyTorch's kernels.
"""

import math
from copy import deepcopy
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nanotx.data.batches import Windows
from nanotx.errors import ConfigError, LawBroken
from nanotx.nn.dropout import named_dropouts, row_seeded
from nanotx.nn.hooks import OnStepModule
from nanotx.nn.loss.cross_entropy import CrossEntropy
from nanotx.nn.transformer import Transformer
from nanotx.optim import ParamGroup
from nanotx.optim.adamw import AdamW
from nanotx.optim.muon import Muon, orthogonal
from nanotx.recipe import Recipe
from nanotx.training.trainer import Trainer

State = dict[str, Any]
Tensors = dict[str, Tensor]


def initial_state(model: Transformer) -> State:
    """Return the state that a step changes in addition to the weights, as it is before the first step."""
    return {
        "optimizer": {name: {} for name, _ in model.named_parameters()},  # steps taken, and moving averages
        "ema": {name: weight.detach().clone() for name, weight in model.named_parameters()},
        "loss_scale": 65536.0,  # in float16 the loss is multiplied by it, so that small gradients do not vanish
        "clean_steps": 0,  # in float16: steps since an overflow, or since the scale grew
    }


def training_step(
    recipe: Recipe, model: Transformer, windows: Windows, step: int, state: State, dtype: torch.dtype
) -> dict[str, float]:
    """Take one step on the CPU: change the weights and the state in place, and return the numbers of its history row.

    Args:
        recipe: of the run, with AdamW or Muon.
        model: in training mode.
        windows: the training text.
        step: the number of earlier steps.
        state: from `initial_state` or the step before.
        dtype: of the mathematics; the weights stay float32.

    Raises:
        ConfigError: the optimizer or the loss is another one.
    """
    if not isinstance(recipe.optimizer, AdamW | Muon):
        raise ConfigError(f"optimizer {recipe.optimizer.part}: a step is written out for adamw and muon alone.")
    if not isinstance(recipe.loss, CrossEntropy):
        raise ConfigError(f"loss {recipe.loss.part}: a step is written out for cross_entropy alone.")
    train, weights = recipe.train, dict(model.named_parameters())  # a tied weight is listed once
    scale = state["loss_scale"] if dtype is torch.float16 else 1.0

    for module in model.modules():
        if isinstance(module, OnStepModule):
            module.on_step(step, train.steps)

    # The gradient is the mean of those of the micro-batches, which are the batch's rows in order.
    x, y = windows.batch(step, train.batch_size)
    rows = int(train.micro_batch_size) or train.batch_size // train.grad_accum_steps
    count, losses_of, gradients_of = train.batch_size // rows, list[Tensors](), list[Tensors]()
    for first in range(0, train.batch_size, rows):
        part = slice(first, first + rows)
        # Dropout is drawn from one seed and the number of each row; other randomness from the seed and the first row.
        seed = dropout_seed(recipe.seeds.dropout, step)
        torch.manual_seed(seed + first)
        with row_seeded(named_dropouts(model), seed, range(first, first + rows), x.device):
            reported, micro_gradients = micro_batch(recipe, model, x[part], y[part], scale, count, dtype)
        losses_of.append({name: loss / count for name, loss in reported.items()})
        gradients_of.append(
            {name: grad.coalesce() if grad.is_sparse else grad for name, grad in micro_gradients.items()}
        )
    losses, gradients = summed(losses_of), summed(gradients_of)

    # Of a table whose gradient is sparse, only the rows that occurred in the batch count.
    met = {name: gradient.coalesce().indices()[0] for name, gradient in gradients.items() if gradient.is_sparse}
    gradients |= {name: gradients[name].coalesce().values() for name in met}

    # The scale is divided out; then the norm is taken, and reported; then the gradient is clipped.
    gradients = {name: gradient / scale for name, gradient in gradients.items()}
    overflow = not all(bool(gradient.isfinite().all()) for gradient in gradients.values())
    norm = torch.stack([gradient.norm() for gradient in gradients.values()]).norm()
    if train.grad_clip:
        shrink = (train.grad_clip / (norm + 1e-6)).clamp(max=1.0)
        gradients = {name: gradient * shrink for name, gradient in gradients.items()}

    # The first step has the schedule's factor of step 0. In float16 a step that overflowed moves nothing.
    factor = recipe.schedule.factor(step, train.steps)
    if not overflow:
        optimize(recipe.optimizer, weights, gradients, met, factor, state["optimizer"])

    # In float16 the scale is halved by an overflow, and doubled by 2000 steps without one.
    state["clean_steps"] = 0 if overflow else state["clean_steps"] + 1
    if overflow or state["clean_steps"] == 2000:
        state["loss_scale"], state["clean_steps"] = state["loss_scale"] * (0.5 if overflow else 2.0), 0

    # The average keeps the fraction `decay` of itself; in the first steps, less.
    decay = min(train.ema_decay, (step + 1) / (step + 10))
    for name, weight in weights.items():
        state["ema"][name] = torch.lerp(state["ema"][name], weight.detach(), 1 - decay)
    numbers = {name: loss.item() for name, loss in losses.items()}
    return numbers | {"grad_norm": norm.item(), "lr": recipe.optimizer.lr * factor}


def summed(parts: list[Tensors]) -> Tensors:
    """Return the sums of tensors by name: an even number of them as the sums of two halves, an odd one as all but one.

    A sparse gradient is coalesced after each addition, as it is before the first.
    """
    if len(parts) == 1:
        return parts[0]
    middle = len(parts) // 2 if len(parts) % 2 == 0 else len(parts) - 1
    first, second = summed(parts[:middle]), summed(parts[middle:])
    total = {name: first[name] + second[name] for name in first.keys() & second.keys()}
    total |= {name: (first | second)[name] for name in first.keys() ^ second.keys()}
    order = [*first, *(name for name in second if name not in first)]
    return {name: total[name].coalesce() if total[name].is_sparse else total[name] for name in order}


def micro_batch(
    recipe: Recipe, model: Transformer, x: Tensor, y: Tensor, scale: float, count: int, dtype: torch.dtype
) -> tuple[Tensors, Tensors]:
    """Return the losses that a micro-batch reports, and the scaled gradient of its objective divided by `count`.

    The objective is the sum `total_loss` of the cross-entropy, the z-loss and the modules' auxiliary losses. Reported
    are the cross-entropy as `loss` and, where they differ, the total and the auxiliary losses.
    """
    weights, targets, chunk = dict(model.named_parameters()), y.flatten(), recipe.train.loss_chunk_size
    head = {name: weight for name, weight in weights.items() if any(weight is own for own in model.head.parameters())}
    at_head, at_hidden = {name: torch.zeros_like(weight) for name, weight in head.items()}, list[Tensor]()
    with torch.autocast("cpu", dtype=dtype, enabled=dtype is not torch.float32):
        hidden = model.hidden_states(x).flatten(0, 1)
        aux = model.aux_losses()
        penalty = sum(aux.values())
        whole = not 0 < chunk < len(hidden)
        if whole:
            cross_entropy, z_loss = token_losses(recipe, model, hidden, targets)
            lowered = (cross_entropy + z_loss) / len(targets) + penalty
            total = lowered
        else:  # the gradient at the hidden states, and of the head, chunk by chunk
            cross_entropy, total = torch.zeros(()), torch.zeros(())
            for piece, target in zip(hidden.detach().split(chunk), targets.split(chunk), strict=True):
                leaf = piece.detach().requires_grad_()
                cross, z_loss = token_losses(recipe, model, leaf, target)
                at_piece = torch.autograd.grad(cross + z_loss, [leaf, *head.values()])
                cross_entropy, total = cross_entropy + cross.detach(), total + (cross + z_loss).detach()
                at_hidden.append(at_piece[0])
                at_head = {name: at_head[name] + gradient for name, gradient in zip(head, at_piece[1:], strict=True)}
            total = total / len(targets) + penalty
    reported = {"loss": cross_entropy.detach() / len(targets)}
    if aux or recipe.loss != CrossEntropy():
        reported["total_loss"] = total.detach()
    if aux:
        reported["aux_loss"] = torch.stack([loss.detach().float() for loss in aux.values()]).sum()
        reported |= {f"aux_loss/{name}": loss.detach().float() for name, loss in aux.items()}
    if whole:
        return reported, weight_gradients([lowered / count * scale], weights)
    part = torch.tensor(scale) / count
    share = part / len(targets)  # of one token
    roots = {hidden: torch.cat(at_hidden) * share.to(hidden.dtype)} | ({penalty: part} if penalty else {})
    gradients = weight_gradients([*roots], weights, [*roots.values()])
    for name, gradient in at_head.items():
        gradients[name] = gradient * share + gradients[name] if name in gradients else gradient * share
    return reported, gradients


def token_losses(recipe: Recipe, model: Transformer, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the cross-entropy of some tokens and their z-loss, each summed."""
    assert isinstance(recipe.loss, CrossEntropy)
    logits, weight = model.logits(hidden).float(), recipe.loss.z_loss
    z_loss = weight * logits.logsumexp(dim=-1).square().sum() if weight else torch.zeros(())
    return F.cross_entropy(logits, targets, reduction="sum"), z_loss


def weight_gradients(
    of: list[Tensor], weights: dict[str, nn.Parameter], cotangents: list[Tensor] | None = None
) -> Tensors:
    """Return the gradients of the weights by name, without weights that have none."""
    gradients = torch.autograd.grad(of, list(weights.values()), cotangents, allow_unused=True)
    pairs = zip(weights, gradients, strict=True)
    return {name: grad if grad.is_sparse else grad.contiguous() for name, grad in pairs if grad is not None}


@torch.no_grad()
def optimize(
    optimizer: AdamW | Muon,
    weights: dict[str, nn.Parameter],
    gradients: Tensors,
    met: Tensors,
    factor: float,
    state: dict[str, Tensors],
) -> None:
    """Update the weights by AdamW; with Muon, matrices other than the embedding and the head by its own rule.

    Args:
        optimizer: AdamW or Muon.
        weights: by name.
        gradients: of those that have one; for a table in `met`, only of the rows that occurred.
        met: by the tables' names, the rows that occurred in the batch.
        factor: the schedule's.
        state: the moving averages, by the weights' names.
    """
    matrices: dict[Any, list[str]] = {}  # by shape and group, because Muon multiplies those of one shape at once
    for name, gradient in gradients.items():
        weight, moments, table = weights[name], state[name], {"embedding", "head"} & set(name.split("."))
        moments["step"] = moments.get("step", torch.zeros(())) + 1
        group = group_of(optimizer, name)
        decay = optimizer.weight_decay if weight.ndim >= 2 else 0.0  # norms and biases do not decay
        decay = decay if group.weight_decay is None else group.weight_decay
        lr = (optimizer.adamw_lr if isinstance(optimizer, Muon) else optimizer.lr) * group.lr_scale * factor
        if isinstance(optimizer, Muon) and weight.ndim >= 2 and not table:
            matrices.setdefault((weight.shape, group), []).append(name)
        elif isinstance(optimizer, Muon) and name in met:
            rows_step(optimizer, weight, gradient, met[name], moments, lr, decay)
        else:
            adamw_step(weight, gradient, moments, lr, optimizer.betas, optimizer.eps, decay)
    for (_, group), names in matrices.items():
        assert isinstance(optimizer, Muon)
        decay = optimizer.weight_decay if group.weight_decay is None else group.weight_decay
        muon_step(optimizer, names, weights, gradients, state, optimizer.lr * group.lr_scale * factor, decay)


def group_of(optimizer: AdamW | Muon, name: str) -> ParamGroup:
    """Return the settings of a parameter: those of the first group whose pattern matches its name."""
    return next((group for group in optimizer.groups if fnmatchcase(name, group.match)), ParamGroup())


def adamw_step(
    weight: Tensor, gradient: Tensor, moments: Tensors, lr: float, betas: tuple[float, float], eps: float, decay: float
) -> None:
    """Take a step of algorithm 2 of https://arxiv.org/abs/1711.05101, by PyTorch's kernel for its order of rounding.

    With t steps taken, in this order::

        weight -= lr * decay * weight
        mean += (1 - betas[0]) * (gradient - mean)
        square += (1 - betas[1]) * (gradient**2 - square)
        weight -= lr * (mean / (1 - betas[0]**t)) / (sqrt(square / (1 - betas[1]**t)) + eps)
    """
    for key in ("mean", "square"):
        moments.setdefault(key, torch.zeros_like(weight))
    torch._fused_adamw_(
        [weight],
        [gradient],
        [moments["mean"]],
        [moments["square"]],
        [],
        [moments["step"]],
        lr=lr,
        beta1=betas[0],
        beta2=betas[1],
        weight_decay=decay,
        eps=eps,
        amsgrad=False,
        maximize=False,
    )


def muon_step(
    optimizer: Muon,
    names: list[str],
    weights: dict[str, nn.Parameter],
    gradients: Tensors,
    state: dict[str, Tensors],
    lr: float,
    decay: float,
) -> None:
    """Update matrices by Muon, https://kellerjordan.github.io/posts/muon/, along the orthogonalised momentum."""
    ahead = []
    for name in names:
        before, gradient = state[name].get("momentum", torch.zeros_like(weights[name])), gradients[name]
        state[name]["momentum"] = torch.lerp(before, gradient, 1 - optimizer.momentum)
        ahead.append(torch.lerp(gradient, state[name]["momentum"], optimizer.momentum))
    directions = orthogonal(torch.stack(ahead), optimizer.iterations).float()
    for name, direction in zip(names, directions, strict=True):
        height, width = direction.shape[-2:]
        weights[name].mul_(1 - lr * decay)
        weights[name].sub_(direction, alpha=lr * math.sqrt(max(1.0, height / width)))


def rows_step(
    optimizer: Muon, table: Tensor, gradient: Tensor, rows: Tensor, moments: Tensors, lr: float, decay: float
) -> None:
    """Update the rows of a table that occurred in the batch, by AdamW without its mean; leave the others."""
    second, step = optimizer.betas[1], float(moments["step"])
    moments.setdefault("square", torch.zeros_like(table))
    square = moments["square"][rows].mul_(second).addcmul_(gradient, gradient, value=1 - second)
    moments["square"][rows] = square
    root = (square / (1 - second**step)).sqrt() + optimizer.eps
    table[rows] = (table[rows] * (1 - lr * decay)).addcdiv_(gradient, root, value=-lr)


def dropout_seed(seed: int, step: int) -> int:
    """Return the seed of all randomness in a step: SplitMix64 (doi:10.1145/2660193.2660195) of both numbers."""
    z = (step + 2**63 + seed * 0xD1342543DE82EF95 + 0x9E3779B97F4A7C15) % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return (z ^ (z >> 31)) >> 1


def matches_training_step(trainer: Trainer, steps: int) -> None:
    """Raise LawBroken unless a trainer's first steps equal `training_step`: rows, weights, EMA and loss scale.

    Args:
        trainer: on the CPU, before its first step; it takes the steps.
        steps: their number.

    Raises:
        LawBroken: a value differs; the message says which, at which step, and by how much.
    """
    recipe, model, dtype = trainer.recipe, deepcopy(trainer.model), trainer.machine.dtype
    model.activation_checkpointing, model.embedding.sparse = False, isinstance(recipe.optimizer, Muon)
    state = initial_state(model)
    if dtype is torch.float16:
        saved = trainer.scaler.state_dict()
        state["loss_scale"], state["clean_steps"] = saved["scale"], saved["_growth_tracker"]
    windows = trainer.windows
    assert isinstance(windows, Windows)  # of one text, all of whose tokens are learned
    for step in range(steps):
        row, expected = trainer.train_step(), training_step(recipe, model, windows, step, state, dtype)
        if dtype is torch.float16:
            row |= {"loss_scale": trainer.scaler.get_scale()}
            expected |= {"loss_scale": state["loss_scale"]}
        for key, value in expected.items():
            if row[key] != value and not (math.isnan(row[key]) and math.isnan(value)):
                raise LawBroken(f"step: of step {step + 1}, {key} is {row[key]!r}, and as written {value!r}.")
        with trainer.use_eval_weights():
            averages = {name: param.detach().clone() for name, param in trainer.model.named_parameters()}
        learned = (dict(trainer.model.named_parameters()), dict(model.named_parameters()))
        pairs: dict[str, tuple[Any, Any]] = {"weight": learned}
        pairs |= {"ema": (averages, state["ema"])} if recipe.train.ema_decay else {}
        for kind, (got, written) in pairs.items():
            for name, tensor in got.items():
                if not torch.equal(tensor, written[name]):
                    away = float((tensor.detach() - written[name].detach()).abs().max())
                    raise LawBroken(
                        f"step: after step {step + 1} the {kind} {name} differs by {away:.3g} from the written."
                    )
