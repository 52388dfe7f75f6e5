"""Laws of learning: a schedule is a pure function of the step; an optimizer misses no parameter and loses no state."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.optim import Optimizer as TorchOptimizer

from nanotx.errors import LawBroken, NanotxError
from nanotx.optim import Optimizer, ParamGroup
from nanotx.optim.schedules import Schedule
from nanotx.optim.state import StateCodec

Parameters = dict[str, nn.Parameter]
Gradients = Sequence[dict[str, Tensor]]
"""For each step the gradient of each parameter that has one, by name."""

ENOUGH = 10
"""Steps after which a run has learned something; a shorter one may be all warm-up."""

# Schedules.


def finite_factor(schedule: Schedule, at: Sequence[int], steps: int) -> None:
    """Raise LawBroken unless every step, also one beyond the end, has a factor that is finite and at least zero.

    Args:
        schedule: the schedule.
        at: steps to check in addition to those of the run and the first beyond it.
        steps: the length of the run; a run of at least ENOUGH steps has a factor above zero.

    Raises:
        LawBroken: a factor is invalid; the message says which, and of which step.
    """
    factors = {step: schedule.factor(step, steps) for step in [*range(steps + 1), *at]}
    for step, factor in factors.items():
        if not isinstance(factor, float) or not math.isfinite(factor) or factor < 0:
            raise LawBroken(
                f"finite_factor: the factor of step {step} of {steps} is {factor!r}; expected a float of at least 0."
            )
    if steps >= ENOUGH and not any(factors[step] > 0 for step in range(steps)):
        raise LawBroken(f"finite_factor: the factor of each of the {steps} steps of a run is 0, so nothing is learned.")


def pure(schedule: Schedule, at: Sequence[int], steps: int, other: int) -> None:
    """Raise LawBroken unless a step's factor is the same whatever was computed before it, in this or another run.

    Args:
        schedule: the schedule.
        at: the steps to check.
        steps: the length of the run.
        other: the length of another.

    Raises:
        LawBroken: two factors of a step differ; the message gives the step and both.
    """
    first = [schedule.factor(step, steps) for step in at]
    for step in at:
        schedule.factor(step, other)
    again = [schedule.factor(step, steps) for step in reversed(at)]
    for step, before, after in zip(at, first, reversed(again), strict=True):
        if before != after:
            raise LawBroken(f"pure: the factor of step {step} of {steps} is {before!r}, and asked again {after!r}.")


def factors(schedule: Schedule, runs: Sequence[int]) -> dict[str, Tensor]:
    """Return the factors of all steps of runs of some lengths, by a name for each run."""
    return {
        f"{steps} steps": torch.tensor([schedule.factor(step, steps) for step in range(steps)], dtype=torch.double)
        for steps in runs
    }


# Optimizers.


def grouped(config: Optimizer, parameters: Parameters) -> None:
    """Raise LawBroken unless each trainable parameter is in one group, and each group has its full rate as `base_lr`.

    Args:
        config: the optimizer's.
        parameters: by name; those that require no gradient do not learn.

    Raises:
        LawBroken: a parameter is in no group or in several, or a group has no rate; the message says which.
    """
    optimizer = config.build(parameters.items())
    for index, group in enumerate(optimizer.param_groups):
        rate = group.get("base_lr")
        if not isinstance(rate, float | int) or not (math.isfinite(rate) and rate >= 0):
            raise LawBroken(f"groups: base_lr of group {index} is {rate!r}; expected a number of at least 0.")
    inside = [id(param) for group in optimizer.param_groups for param in group["params"]]
    for name, parameter in parameters.items():
        count = inside.count(id(parameter))
        if count > 1 or (parameter.requires_grad and not count):
            raise LawBroken(f"groups: {name} of shape {tuple(parameter.shape)} is in {count} groups; expected one.")
    if strange := set(inside) - {id(param) for param in parameters.values()}:
        raise LawBroken(f"groups: {len(strange)} parameters in the groups are not among those given.")


def honours_groups(config: Optimizer, parameters: Parameters, gradients: Gradients, match: str) -> None:
    """Raise LawBroken unless a group of a recipe applies to the parameters that it matches, and to no others.

    At a learning rate of zero they stay bit for bit the same, as they do without weight decay and without a gradient;
    at half the rate their groups have half the `base_lr`.

    Args:
        config: the optimizer's.
        parameters: by name; they are not changed.
        gradients: of some steps.
        match: the name of a parameter that learns.

    Raises:
        LawBroken: a parameter moved, or did not move, against these rules; the message says which.
    """

    def stepped(group: ParamGroup, gradients: Gradients) -> Parameters:
        changed = copies(parameters)
        optimizer = replace(config, groups=(group,)).build_grouped(changed.items())
        for count, gradient in enumerate(gradients):
            step(optimizer, changed, gradient, count)
        return changed

    still, free = stepped(ParamGroup(match=match, lr_scale=0.0), gradients), copies(parameters)
    optimizer = config.build_grouped(free.items())
    for count, gradient in enumerate(gradients):
        step(optimizer, free, gradient, count)
    for name, param in parameters.items():
        want = param if name == match else free[name]
        if not torch.allclose(still[name], want, rtol=1e-3, atol=1e-4):
            how = "moved" if name == match else "moved otherwise"
            raise LawBroken(f"honours_groups: with {match} in a group of rate 0, {name} {how}.")
    if all("weight_decay" in group for group in optimizer.param_groups):
        none = [{name: torch.zeros_like(param) for name, param in parameters.items()}]
        if not torch.equal(stepped(ParamGroup(match=match, weight_decay=0.0), none)[match], parameters[match]):
            raise LawBroken(f"honours_groups: without weight decay, and without a gradient, {match} moved.")
    rates = [rate_of(config, parameters, match), rate_of(replace(config, groups=(HALF,)), parameters, match)]
    if rates[1] != rates[0] / 2:
        raise LawBroken(
            f"honours_groups: at half the rate, the base_lr of {match} is {rates[1]:g}, and was {rates[0]:g}."
        )


HALF = ParamGroup(lr_scale=0.5)


def rate_of(config: Optimizer, parameters: Parameters, name: str) -> float:
    """Return the full learning rate of the group that holds a parameter."""
    groups = config.build_grouped(parameters.items()).param_groups
    return float(
        next(group["base_lr"] for group in groups if any(param is parameters[name] for param in group["params"]))
    )


def no_grad_no_move(config: Optimizer, parameters: Parameters) -> None:
    """Raise LawBroken unless a first step with a zero gradient only decays, by the `weight_decay` of the group.

    A decayed parameter shrinks towards zero and does not pass it; every other one stays bit for bit the same.

    Args:
        config: the optimizer's.
        parameters: by name; they are changed.

    Raises:
        LawBroken: which parameter moved, and by how much.
    """
    before = {name: param.detach().clone() for name, param in parameters.items()}
    optimizer = config.build_grouped(parameters.items())
    step(optimizer, parameters, {name: torch.zeros_like(param) for name, param in parameters.items()})
    decays = {id(param): group.get("weight_decay", 0) for group in optimizer.param_groups for param in group["params"]}
    for name, param in parameters.items():
        now, was = param.detach(), before[name]
        decay = decays.get(id(param), 0)
        shrunk = (now.abs() <= was.abs()) & (now * was >= 0)
        if not bool((shrunk if decay else now == was).all()):
            moved = float((now - was).abs().nan_to_num(nan=math.inf).max())
            raise LawBroken(
                f"no_grad_no_move: with no gradient, {name} moved by {moved:.3g}; its weight_decay is {decay:g}."
            )


def zero_lr_no_move(config: Optimizer, parameters: Parameters, gradients: Gradients) -> None:
    """Raise LawBroken if a parameter moves or decays at a learning rate of zero, which a schedule may give at any step.

    Args:
        config: the optimizer's.
        parameters: by name; they are changed.
        gradients: of some steps, all but the first of which are taken at a rate of zero.

    Raises:
        LawBroken: which parameter moved, and by how much.
    """
    optimizer = config.build_grouped(parameters.items())
    step(optimizer, parameters, gradients[0])
    before = copies(parameters)
    for gradient in gradients:
        step(optimizer, parameters, gradient, rate=0.0)
    for name, param in parameters.items():
        if not torch.equal(param, before[name]):
            moved = float((param.detach() - before[name].detach()).abs().nan_to_num(nan=math.inf).max())
            raise LawBroken(f"zero_lr_no_move: at a rate of 0, {name} moved by {moved:.3g}.")


def descends(config: Optimizer, parameters: Parameters, targets: dict[str, Tensor], steps: int, rate: float) -> None:
    """Raise LawBroken unless each small step of a new optimizer brings every parameter nearer to its target.

    The loss is half the square of the distance, which is also its gradient.

    Args:
        config: the optimizer's.
        parameters: by name; they are changed.
        targets: by name, the minimum of the convex loss; so far away that no small step passes it.
        steps: their number.
        rate: the schedule's factor.

    Raises:
        LawBroken: the loss of a parameter did not fall; the message says at which step.
    """
    optimizer, losses = config.build_grouped(parameters.items()), dict[str, float]()
    for count in range(steps + 1):
        for name, param in parameters.items():
            loss = float((param.detach().double() - targets[name]).square().sum()) / 2
            if param.requires_grad and not loss < losses.get(name, math.inf):
                raise LawBroken(
                    f"descends: step {count} took the loss of {name} from {losses[name]:.9g} to {loss:.9g}."
                )
            losses[name] = loss
        step(
            optimizer,
            parameters,
            {name: param.detach() - targets[name] for name, param in parameters.items()},
            count,
            rate,
        )


def resumes(config: Optimizer, parameters: Parameters, gradients: Gradients, cut: int) -> None:
    """Raise LawBroken unless an optimizer that was stopped, saved, rebuilt and loaded continues bit for bit the same.

    It is saved in the format of a checkpoint: the bytes of tensors and the text of a table (`nanotx.optim.state`).

    Args:
        config: the optimizer's.
        parameters: by name; they are not changed.
        gradients: of all steps; a parameter may have none in some of them.
        cut: the number of steps after which it is stopped.

    Raises:
        LawBroken: a parameter differs (the message says after which step, and by how much), or the state cannot be
            saved.
    """
    whole, parted = copies(parameters), copies(parameters)
    uninterrupted, before = config.build_grouped(whole.items()), config.build_grouped(parted.items())
    codec = StateCodec(before, parted)
    for count in range(cut):
        step(uninterrupted, whole, gradients[count], count)
        step(before, parted, gradients[count], count)
    try:
        tensors, table = codec.save()
        saved = safetensors.torch.save({name: tensor.contiguous() for name, tensor in tensors.items()})
        text = json.dumps(table, allow_nan=False)
        parted = copies(parted)
        after = config.build_grouped(parted.items())
        StateCodec(after, parted).load(safetensors.torch.load(saved), json.loads(text))
    except NanotxError as error:
        raise LawBroken(f"resumes: after {cut} steps: {error}") from error
    for count in range(cut, len(gradients)):
        step(uninterrupted, whole, gradients[count], count)
        step(after, parted, gradients[count], count)
        for name, parameter in whole.items():
            if not torch.equal(parameter, parted[name]):
                moved = float((parameter.detach() - parted[name].detach()).abs().max())
                raise LawBroken(
                    f"resumes: stopped after {cut} steps and resumed, {name} differs by {moved:.3g} after step "
                    f"{count + 1}."
                )


def learned(config: Optimizer, parameters: Parameters, gradients: Gradients) -> dict[str, Tensor]:
    """Return copies of parameters after one step for each of some gradients, by name."""
    changed = copies(parameters)
    optimizer = config.build_grouped(changed.items())
    for count, gradient in enumerate(gradients):
        step(optimizer, changed, gradient, count)
    return {name: param.detach().double() for name, param in changed.items()}


def step(
    optimizer: TorchOptimizer, parameters: Parameters, gradient: dict[str, Tensor], count: int = 0, rate: float = 1.0
) -> None:
    """Take one step as training does: with gradients set, the rates of a falling schedule, and a seeded generator."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * rate / (1 + count)
    for name, param in parameters.items():
        param.grad = gradient[name].clone() if param.requires_grad and name in gradient else None
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed queries every device, and takes longer than a step.
        torch.default_generator.manual_seed(count)
        optimizer.step()


def copies(parameters: Parameters) -> Parameters:
    """Return copies of parameters."""
    return {name: nn.Parameter(param.detach().clone(), param.requires_grad) for name, param in parameters.items()}
