"""Weights, gradients and optimizer state in slices, one for each rank: PyTorch's FSDP2.

Each block is gathered when it computes, and given up again after it; what is outside of blocks, among it an embedding
tied to the head, is one unit. Gradients are summed over ranks in float32, in the backend's order. An evaluation gathers
as a step does. For a checkpoint or a sample rank 0 alone collects what all have.

Source: Zhao et al. 2023, https://arxiv.org/abs/2304.11277
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

from nanotx.distributed.matrices import SlicedMatrices
from nanotx.distributed.ranks import AVERAGE, STATE, WEIGHT, State, rows_of
from nanotx.distributed.table_rows import note_rows
from nanotx.nn.empty import allocate


class Slices:
    """This rank's slices of a model: rows of each parameter, as evenly as they can be divided."""

    def __init__(
        self, model: nn.Module, blocks: Iterable[nn.Module], rank: int, size: int, device: torch.device | None = None
    ) -> None:
        """Slice a model; of other ranks' rows nothing is kept.

        Args:
            model: whose methods `forward` and `hidden_states` compute from ids. Where its weights have no memory, they
                get it unit by unit, and the slices have any contents.
            blocks: its modules that are gathered one after the other.
            rank: of this process.
            size: the number of ranks.
            device: of this process; None for that of the model.
        """
        self.model: Any = model
        self.rank, self.size = rank, size
        self.shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
        self.device = device = device or next(model.parameters()).device
        mesh = init_device_mesh(device.type, (size,))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.data = parameter.data.contiguous()
        self.units: list[Any] = [*blocks, model]
        for unit in self.units:
            allocate(model, unit.parameters(), device)
            fully_shard(unit, mesh=mesh, mp_policy=MixedPrecisionPolicy(reduce_dtype=torch.float32))
            unit.set_gradient_divide_factor(1.0)  # losses are divided by the number of all micro-batches already
            unit.set_force_sum_reduction_for_comms(True)
        register_fsdp_forward_method(model, "hidden_states")
        self.rows = note_rows(model)  # by the name of the table
        self.sliced: dict[str, Any] = dict(model.named_parameters())  # tensors that know of their other slices
        self.own = {
            name: nn.Parameter(parameter.to_local().detach(), requires_grad=parameter.requires_grad)
            for name, parameter in self.sliced.items()
        }  # the slices as plain parameters, of the same memory
        self.names = list(self.own)
        self.optimizer: torch.optim.Optimizer | None = None  # of these
        self.averages: Mapping[str, Tensor] | None = None  # of these, by name, where the run averages weights

    def cut(self, name: str, value: Tensor) -> Tensor:
        """Return this rank's slice of a tensor shaped like a parameter; a copy of what has another shape."""
        if value.shape != self.shapes[name]:
            return value.clone()
        return value[rows_of(len(value), self.rank, self.size)].clone()

    def whole_matrices(self, costs: Mapping[str, float]) -> SlicedMatrices:
        """Return what computes from the whole of matrices in slices.

        Args:
            costs: of a step of each parameter, by name, in any unit.
        """
        of = {name: self.own[name] for name in costs}
        return SlicedMatrices(
            {param: self.shapes[name] for name, param in of.items()},
            {param: costs[name] for name, param in of.items()},
            self.rank,
            self.size,
        )

    # A step.

    def clear_gradients(self) -> None:
        """Forget the gradients, to which a backward pass would add."""
        for parameter in self.sliced.values():
            parameter.grad = None
        for met in self.rows.values():
            met.clear()

    def step(self, step: Callable[[], object]) -> None:
        """Call the step of an optimizer of `own`, with the gradients of the model."""
        for name, parameter in self.sliced.items():
            self.own[name].grad = None if parameter.grad is None else parameter.grad.to_local()
        for name, met in self.rows.items():
            own = self.own[name]
            if own.grad is not None:
                own.grad = met.of(own.grad, rows_of(self.shapes[name][0], self.rank, self.size))
        try:
            step()
        finally:
            for parameter in self.own.values():
                parameter.grad = None

    # Calls without gradients.

    @contextmanager
    def each_call(self, around: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
        """Context in which each call of the model's `hidden_states` is made within another one, and not for training.

        Args:
            around: returns that context; all ranks have to gather what is called in it.
        """
        gathered = self.model.hidden_states

        def call(*args: Any, **kwargs: Any) -> Any:
            # what is gathered in inference mode could not be trained with
            with around(), torch.inference_mode(False), torch.no_grad():
                return gathered(*args, **kwargs)

        self.model.hidden_states = call
        try:
            yield
        finally:
            self.model.hidden_states = gathered

    def call(self) -> None:
        """Call the model with one token, to gather its slices for another rank."""
        with torch.no_grad():
            self.model.hidden_states(torch.zeros(1, 1, dtype=torch.int64, device=self.device))

    # The whole.

    def state(self, with_optimizer: bool = True) -> State:
        """Return this rank's slices by the number of the parameter and the key: of weights, of their averages if there
        are any, and of optimizer state.

        Args:
            with_optimizer: include the optimizer's state that is shaped like its parameter.
        """
        state: State = {}
        for index, own in enumerate(self.own.values()):
            state[index, WEIGHT] = own.detach()
            if self.averages is not None:
                state[index, AVERAGE] = self.averages[self.names[index]]
            values = self.optimizer.state.get(own, {}) if with_optimizer and self.optimizer else {}
            for key, value in values.items():
                if isinstance(value, Tensor) and value.shape == own.shape:
                    state[index, STATE + key] = value
        return state

    def whole(self, own: State) -> State:
        """Return whole tensors on the CPU, of which this rank's rows are set.

        Args:
            own: the slices of this rank.
        """
        tensors: State = {}
        for (index, key), value in own.items():
            tensor = torch.empty(self.shapes[self.names[index]], dtype=value.dtype)
            tensor[rows_of(len(tensor), self.rank, self.size)] = value.cpu()
            tensors[index, key] = tensor
        return tensors

    def release(self) -> None:
        """Give up what is gathered."""
        for unit in self.units:
            unit.reshard()

    def local(self, tensor: Tensor) -> Tensor:
        """Return this rank's slice of a sliced tensor, in the same memory; another tensor as it is."""
        return tensor.to_local() if isinstance(tensor, DTensor) else tensor
