"""The norm of the gradient of each block, of the embedding and of the head, in every row of a step."""

from dataclasses import dataclass

import torch
from torch import Tensor

from nanotx.config.schema import check_min
from nanotx.training.callbacks.base import Callback
from nanotx.training.loop import Row, TrainingRun


@Callback.register("gradient_norms")
@dataclass(kw_only=True)
class GradientNorms(Callback):
    """Log `grad_norm/<module>`: the norm of a module's gradient after clipping."""

    every: int = 1  # steps between two rows that have them

    def __post_init__(self) -> None:
        check_min(self, 1, "every")

    def on_step(self, run: TrainingRun, row: Row) -> None:
        if run.step % self.every:
            return
        grads: dict[str, list[Tensor]] = {}
        for name, param in run.model.named_parameters():
            if param.grad is not None:
                parts = name.split(".")
                module = ".".join(parts[: 2 if parts[0] == "blocks" else 1])
                grads.setdefault(module, []).append(param.grad.values() if param.grad.is_sparse else param.grad)
        norms = {
            module: torch.linalg.vector_norm(torch.stack(torch._foreach_norm(ones))) for module, ones in grads.items()
        }
        for module, norm in zip(norms, torch.stack([*norms.values()]).tolist(), strict=True):
            row[f"grad_norm/{module}"] = norm
