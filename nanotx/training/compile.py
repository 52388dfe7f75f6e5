"""Compile blocks one by one: equal blocks share compiled code, so a deep model compiles as fast as a shallow one.

Only training is compiled: with gradients, without a cache, and with one shape. Evaluation and sampling have other
shapes, each of which would be compiled anew; they run the same modules in eager mode.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import nn

from nanotx.errors import ConfigError
from nanotx.hardware.compiler import CompileDecision, decide_compile, find_compiler, limit_compile_threads, try_compile
from nanotx.hardware.device import Machine
from nanotx.hardware.onednn import onednn_is_faster
from nanotx.nn.ffn import Sparse
from nanotx.nn.kv_cache import KVCache
from nanotx.nn.position import NO_POSITION, PositionalEncoding
from nanotx.nn.shapes import Stream
from nanotx.nn.transformer import Transformer

Wish = Literal["auto", "on", "off"]


SHARES = {torch.float32: 0.6, torch.bfloat16: 0.3, torch.float16: 0.3}
"""Fraction of the measured peak that small models reach in eager mode: docs/decisions/device.md."""


def plan_compile(wish: Wish, model: Transformer, machine: Machine, tokens: int, peak: float) -> CompileDecision:
    """Decide whether a run compiles; a small function is compiled first to check that it works.

    Args:
        wish: the recipe's `compile`.
        model: the model to train.
        machine: its device and dtype.
        tokens: trained on in the whole run.
        peak: the machine's measured operations per second in its dtype.

    Raises:
        ConfigError: compiling was requested and does not work; the message says why, and the remedy.
    """
    if wish == "off":
        return CompileDecision(on=False, reason="not requested")
    plan = CompileDecision(on=True, reason="requested, and it works")
    if wish == "auto":
        seconds = tokens * model.flops_per_token / peak / SHARES[machine.dtype]
        plan = decide_compile(machine, seconds, find_compiler() is not None, onednn_is_faster())
        if plan.on and any(map(has_experts, model.blocks)):
            plan = CompileDecision(
                on=False, reason="the number of tokens per expert varies, and each number would be compiled"
            )
    trial = try_compile(machine.device) if plan.on else None
    if trial is None or not trial.fault:
        return plan
    if wish == "on":
        raise ConfigError(f"compile: {trial}; or try --no-compile.")
    return CompileDecision(on=False, reason=f"{trial}; until then training is slower, with the same results")


def has_experts(block: nn.Module) -> bool:
    """Return whether shapes in a block change from step to step."""
    return any(isinstance(module, Sparse) for module in block.modules())


class TrainingCall:
    """A block's call: compiled in training, eager otherwise."""

    def __init__(self, block: nn.Module, eager: Callable[..., Any], compiled: Callable[..., Any]) -> None:
        self.block, self.eager, self.compiled = block, eager, compiled

    def __call__(self, x: Stream, position: PositionalEncoding = NO_POSITION, cache: KVCache | None = None) -> Stream:
        if self.block.training and cache is None and torch.is_grad_enabled():
            return self.compiled(x, position, cache)
        return self.eager(x, position, cache)


def compile_training_calls(block: nn.Module, **options: Any) -> None:
    """Compile a block's calls in training.

    PyTorch keeps a module's compiled call and its eager one in private attributes. A version without them compiles
    evaluation and sampling too: slower at first, with the same results.

    Args:
        block: compiled in place.
        options: of torch.compile.
    """
    block.compile(**options)
    compiled, eager = getattr(block, "_compiled_call_impl", None), getattr(block, "_call_impl", None)
    if compiled is not None and eager is not None:
        block._compiled_call_impl = TrainingCall(block, eager, compiled)


def compile_blocks(model: Transformer, backend: str = "inductor") -> None:
    """Compile each block of a model in place, at its first training step; names and state stay the same.

    A copy of the model is not compiled.

    Args:
        model: on its device already.
        backend: of torch.compile; "eager" and "aot_eager" trace the model but write no C++.
    """
    from torch._dynamo import config  # slow to import; runs that do not compile skip it

    if backend == "inductor":
        limit_compile_threads()
    kinds = len(set(model.config.pattern()))
    config.recompile_limit = max(config.recompile_limit, 4 * kinds)  # all blocks call one function of PyTorch
    for block in model.blocks:
        compile_training_calls(block, backend=backend, dynamic=None if has_experts(block) else False)
