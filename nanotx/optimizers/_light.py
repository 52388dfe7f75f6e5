"""The library's AdamW, without the compiler that the library imports at an optimizer's first use: half a start-up.

What it wraps marks code that is not to be compiled. Nobody compiles an optimizer's step here.
"""

import inspect
from collections.abc import Callable
from typing import Any

import torch


class LightAdamW(torch.optim.AdamW):
    """The library's AdamW; the very same kernels."""

    add_param_group = inspect.unwrap(torch.optim.AdamW.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.AdamW.zero_grad)
    state_dict = inspect.unwrap(torch.optim.AdamW.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.AdamW.load_state_dict)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Change the parameters by their gradients."""
        return inspect.unwrap(torch.optim.AdamW.step)(self, closure)
