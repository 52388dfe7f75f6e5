"""Blocks compiled one by one: equal ones share one compiled code, so a deep model compiles as fast as a shallow one.

Only learning is compiled: with gradients, without a cache, and one shape. Evaluation and sampling come in other shapes,
each of which would be compiled anew; they run the same modules as they are written.
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


SHARES = {torch.float32: 0.6, torch.bfloat16: 0.2, torch.float16: 0.2}
"""Of the measured peak, what small models reach as they are written: likewise."""


def settle(wish: Wish, model: Transformer, machine: Machine, tokens: int, peak: float) -> CompileDecision:
    """Decide for a run; where it is to compile, something small is compiled first to see that it works.

    Args:
        wish: the recipe's.
        model: what will learn.
        machine: where.
        tokens: from how many, in the whole run.
        peak: the machine's measured best in its dtype, in operations a second.

    Raises:
        ConfigError: compiling was demanded and does not work; says why, and the remedy.
    """
    if wish == "off":
        return CompileDecision(on=False, reason="not wished for")
    plan = CompileDecision(on=True, reason="demanded, and it works")
    if wish == "auto":
        seconds = tokens * model.flops_per_token / peak / SHARES[machine.dtype]
        plan = decide_compile(machine, seconds, find_compiler() is not None, onednn_is_faster())
        if plan.on and any(map(has_experts, model.blocks)):
            plan = CompileDecision(
                on=False, reason="experts read as many tokens as choose them, and each number is compiled"
            )
    trial = try_compile(machine.device) if plan.on else None
    if trial is None or not trial.fault:
        return plan
    if wish == "on":
        raise ConfigError(f"compile: {trial}; or try --no-compile.")
    return CompileDecision(on=False, reason=f"{trial}; until then it is slower, and as right")


def has_experts(block: nn.Module) -> bool:
    """Return whether shapes in a block change from step to step."""
    return any(isinstance(module, Sparse) for module in block.modules())


class Learning:
    """A block's call: compiled in training, eager otherwise."""

    def __init__(self, block: nn.Module, compiled: Callable[..., Any]) -> None:
        self.block, self.compiled = block, compiled

    def __call__(self, x: Stream, position: PositionalEncoding = NO_POSITION, cache: KVCache | None = None) -> Stream:
        if self.block.training and cache is None and torch.is_grad_enabled():
            return self.compiled(x, position, cache)
        return self.block._call_impl(x, position, cache)  # what nn.Module calls where nothing is compiled


def compile_blocks(model: Transformer, backend: str = "inductor") -> None:
    """Compile each block of a model in place, when it first learns; its names and its state stay what they are.

    A copy of the model is not compiled.

    Args:
        model: on its device already.
        backend: of torch.compile; "eager" and "aot_eager" trace as ever and write no C++.
    """
    from torch._dynamo import config  # it takes seconds to import, and a run that does not compile waits for none

    if backend == "inductor":
        limit_compile_threads()
    kinds = len(set(model.config.pattern()))
    config.recompile_limit = max(config.recompile_limit, 4 * kinds)  # all blocks are calls of one function of torch's
    for block in model.blocks:
        block.compile(backend=backend, dynamic=None if has_experts(block) else False)
        compiled = block._compiled_call_impl
        assert compiled is not None
        block._compiled_call_impl = Learning(block, compiled)
