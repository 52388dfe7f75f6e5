"""Capture the tensors of a forward pass by name, and replace some of them.

A pass is run when a tensor is first asked for, with hooks that live only as long as the pass. The model is in
evaluation mode meanwhile, and eager: blocks that are compiled run as they are written.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from types import TracebackType
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from nanotx.errors import ConfigError, did_you_mean
from nanotx.lens.sites import Site, sites
from nanotx.lens.weights import AttentionCall, weighted
from nanotx.nn.attention import MultiHeadAttention
from nanotx.nn.shapes import Tokens
from nanotx.nn.transformer import Transformer
from nanotx.runs.load import LoadedRun

Edit = Tensor | Callable[[Tensor], Tensor]
"""The replacement of a tensor: another tensor, or a function of it."""

OF_ATTENTION = ("weights", "values", "heads")
"""Names after an attention's: its weights "b h t s", its values "b h s k", and the outputs of its heads "b h t k"."""


def skipped(output: Tensor) -> Tensor:
    """Stand for "the module's input", as what replaces its output; it is never called."""
    raise AssertionError(f"a module is skipped by its hook, not by its output of shape {tuple(output.shape)}")


def capture(run: LoadedRun | Transformer, ids: str | Sequence[int] | Tensor) -> "Capture":
    """Return the context in which the tensors of one forward pass can be read and replaced.

    Args:
        run: a run from `nanotx.load`, or a model.
        ids: a text, which needs a run with its tokenizer; the ids of a text; or a tensor of ids, "b t" or "t".

    Raises:
        ConfigError: there are no ids, or ids that the model does not have, or more than its context.
        TextError: the tokenizer cannot encode the text.
    """
    model = run if isinstance(run, Transformer) else run.model
    if isinstance(ids, str):
        if isinstance(run, Transformer):
            raise ConfigError("capture: a model alone has no tokenizer; pass the run, or ids.")
        encoded: list[int] = run.tokenizer.encode(ids).tolist()
        return Capture(model, checked_ids(model, encoded))
    return Capture(model, checked_ids(model, ids))


def checked_ids(model: Transformer, ids: Sequence[int] | Tensor) -> Tokens:
    """Return ids as a tensor "b t" on the model's device.

    Raises:
        ConfigError: as for `capture`.
    """
    tokens = torch.as_tensor(ids)
    if tokens.ndim not in (1, 2) or not tokens.numel() or tokens.is_floating_point():
        raise ConfigError(
            f'capture: expected ids of shape "t" or "b t", with one at least, got shape {tuple(tokens.shape)} of '
            f'{str(tokens.dtype).removeprefix("torch.")}; try capture(run, "some text").'
        )
    if int(tokens.min()) < 0 or int(tokens.max()) >= model.vocab_size:
        raise ConfigError(
            f"capture: ids from {int(tokens.min())} to {int(tokens.max())}; the model has 0 to {model.vocab_size - 1}."
        )
    if tokens.shape[-1] > model.context:
        raise ConfigError(
            f"capture: {tokens.shape[-1]} tokens do not fit the context of {model.context}; "
            f"try ids[..., -{model.context}:]."
        )
    tokens = tokens.long().to(next(model.parameters()).device)
    return tokens if tokens.ndim == 2 else rearrange(tokens, "t -> 1 t")


class Capture:
    """The tensors of one forward pass by name; each is a copy, without gradient.

    A name is that of a module, for its output: `embedding`, `blocks.2`, `blocks.2.attention`, `norm`, `head`; or
    `logits`, which are soft-capped where the model does that; or an attention's with `.weights`, `.values` or `.heads`.
    A module that is called more than once in a pass, as where layers share it, has `:0`, `:1` and so on after its name.
    """

    def __init__(self, model: Transformer, ids: Tokens) -> None:
        self.model, self.ids = model, ids
        self.edits: dict[str, Edit] = {}
        self._pass: Pass | None = None
        compiled = any(getattr(module, "_compiled_call_impl", None) is not None for module in model.modules())
        self.notes: tuple[str, ...] = (
            ("This model is compiled; it is looked at eagerly, so the last bits of a number may differ.",)
            if compiled
            else ()
        )

    def __enter__(self) -> "Capture":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pass = None
        self.edits.clear()

    def __getitem__(self, name: str) -> Tensor:
        """Return the tensor of a name; the pass is run if it was not, or if something was replaced since.

        Raises:
            ConfigError: there is no such name, or an attention has no weights; says which there are, or why.
        """
        seen = self._seen()
        place, _, kind = name.partition(":")[0].rpartition(".")
        call = name.partition(":")[2]
        full = f"{place}:{call}" if call else place
        if kind in ("weights", "values") and full in seen.attentions:
            return self._of_attention(seen.attentions[full], kind, self._edit(f"{place}.weights", call))
        tensors = seen.tensors
        if name not in tensors:
            raise ConfigError(self._unknown(name))
        return tensors[name]

    def _edit(self, name: str, number: str) -> Edit | None:
        return self.edits.get(f"{name}:{number}", self.edits.get(name))

    def _of_attention(self, call: AttentionCall, kind: str, edit: Edit | None) -> Tensor:
        if kind == "weights":
            return edit if isinstance(edit, Tensor) else edit(call.weights()) if edit else call.weights()
        values = call.values()
        if values is None:
            raise ConfigError(f"{call.name}: the values of {call.config.part} cannot be had; see docs/looking.md.")
        return values

    def replace(self, name: str, tensor: Edit) -> None:
        """Put a tensor in place of the one of a name, from now on; what is read later is of a pass with it.

        Args:
            name: as for reading; not an attention's `.values`.
            tensor: of the same shape; or a function from the tensor to another one of its shape.

        Raises:
            ConfigError: there is no such name, or the shape is another one.
        """
        if name.partition(":")[0].endswith(".values"):
            raise ConfigError(f"{name}: values can be read and not replaced; replace the weights or the heads.")
        old = self[name]
        if isinstance(tensor, Tensor) and tensor.shape != old.shape:
            raise ConfigError(
                f"{name}: expected a tensor of shape {tuple(old.shape)}, got {tuple(tensor.shape)}; "
                f"try torch.zeros_like(c[{name!r}])."
            )
        self.edits[name] = tensor
        self._pass = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names, in the order in which the pass comes to them."""
        seen = self._seen()
        of_attention = (f"{call.name}.{kind}" for call in seen.attentions.values() for kind in ("weights", "values"))
        return (*seen.tensors, *of_attention)

    def _seen(self) -> "Pass":
        if self._pass is None:
            with eager_evaluation(self.model, bool(self.notes)), hooked(self.model, self.edits, keep=True) as seen:
                self.model(self.ids)
            self._pass = seen
        return self._pass

    def _unknown(self, name: str) -> str:
        names = self.names
        if several := [other for other in names if other.startswith(f"{name}:")]:
            return f"{name}: called {len(several)} times in a pass; name one of them: {', '.join(several[:8])}."
        start, _, kind = name.partition(":")[0].rpartition(".")
        if kind in OF_ATTENTION and start in dict(self.model.named_modules()):
            return (
                f"{name}: there are none to be had: {start} is not an attention whose heads are merged by a module "
                "`to_out` of its own; see docs/looking.md."
            )
        near = [other for other in names if start and other.startswith(f"{start}.")] or list(names)
        more = f" and {len(near) - 12} more, in c.names" if len(near) > 12 else ""
        return f"{name}: no such name.{did_you_mean(name, names)} Known: {', '.join(near[:12])}{more}."


@contextmanager
def replaced(model: Transformer, edits: Mapping[str, Edit]) -> Iterator[None]:
    """Context in which every forward pass of a model has some of its tensors replaced, as by `Capture.replace`.

    Raises:
        ConfigError: at the end, a name was met in no pass.
    """
    with hooked(model, edits, keep=False) as seen:
        yield
    if missed := [name for name in edits if name not in seen.met]:
        raise ConfigError(f"{missed[0]}: no such name in this model; capture(run, ids).names lists them.")


@contextmanager
def eager_evaluation(model: nn.Module, compiled: bool) -> Iterator[None]:
    """Context in which a model is in evaluation mode, without gradients, and eager; then each module is as before."""
    training = {module: module.training for module in model.modules()}
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        if compiled:  # the import of PyTorch's compiler takes seconds
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        model.eval()
        try:
            yield
        finally:
            for module, before in training.items():
                module.training = before


class Pass:
    """The tensors of the most recent forward pass, as the hooks recorded them."""

    def __init__(self, edits: Mapping[str, Edit], keep: bool) -> None:
        self.edits, self.keep = edits, keep
        self.met: set[str] = set()  # names of edits that were applied
        self.seen: dict[str, list[Tensor]] = {}
        self.calls: Counter[str] = Counter()
        self.attention_calls: list[tuple[str, AttentionCall]] = []
        self.open: dict[str, AttentionCall] = {}

    def begin(self) -> None:
        """Forget the pass before."""
        self.seen.clear()
        self.calls.clear()
        self.attention_calls.clear()

    def edited(self, name: str, tensor: Tensor, module_input: Tensor | None = None) -> Tensor:
        """Return the tensor of a name, or what replaces it, and keep a copy."""
        number = self.calls[name]
        self.calls[name] += 1
        for key in (name, f"{name}:{number}"):
            if key not in self.edits:
                continue
            self.met.add(key)
            edit = self.edits[key]
            new = module_input if edit is skipped else edit if isinstance(edit, Tensor) else edit(tensor)
            if not isinstance(new, Tensor) or new.shape != tensor.shape:
                got = tuple(new.shape) if isinstance(new, Tensor) else type(new).__name__
                raise ConfigError(f"{key}: expected a tensor of shape {tuple(tensor.shape)}, got {got}.")
            tensor = new.to(tensor)
        if self.keep:
            self.seen.setdefault(name, []).append(tensor.detach().clone())
        return tensor

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The tensors by name; a number follows the name of what is called more than once."""
        return {
            f"{name}:{number}" if len(tensors) > 1 else name: tensor
            for name, tensors in self.seen.items()
            for number, tensor in enumerate(tensors)
        }

    @property
    def attentions(self) -> dict[str, AttentionCall]:
        """The calls of attentions by name, numbered in the same way."""
        counts, calls = Counter(name for name, _ in self.attention_calls), dict[str, AttentionCall]()
        numbers: Counter[str] = Counter()
        for name, call in self.attention_calls:
            calls[f"{name}:{numbers[name]}" if counts[name] > 1 else name] = call
            numbers[name] += 1
        return calls


@contextmanager
def hooked(model: Transformer, edits: Mapping[str, Edit], keep: bool) -> Iterator[Pass]:
    """Context in which the hooks are on a model; they are removed at its end, whatever happens in it."""
    seen = Pass(edits, keep)
    with ExitStack() as stack:

        def add(handle: Any) -> None:
            stack.callback(handle.remove)

        add(model.embedding.register_forward_pre_hook(lambda module, args: seen.begin()))
        for site in attention_sites(model):
            watch_attention(stack, model, site, seen)
        for name, module in model.named_modules():
            if keep or any(edit.partition(":")[0] == (name or "logits") for edit in edits):
                add(module.register_forward_hook(partial(see_output, seen, name or "logits")))
        yield seen


def see_output(seen: Pass, name: str, module: nn.Module, args: tuple[Any, ...], output: Any) -> Tensor | None:
    """Keep the output of a module, and return what replaces it; None for nothing. Outputs of other types are left."""
    if not isinstance(output, Tensor):
        return None
    new = seen.edited(name, output, args[0] if args and isinstance(args[0], Tensor) else None)
    return None if new is output else new


def attention_sites(model: Transformer) -> list[Site]:
    """Return the attentions of a model, each module once."""
    return list({site.module: site for site in sites(model) if site.attention is not None}.values())


def watch_attention(stack: ExitStack, model: Transformer, site: Site, seen: Pass) -> None:
    """Put hooks on an attention, on its `attend`, `to_out` and `dropout`, and on the `to_v` of its heads."""
    name, config = site.module, site.attention
    module = model.get_submodule(name)
    children = dict(module.named_modules())
    if config is None or "to_out" not in children:
        return

    def begin(module: nn.Module, args: Any) -> None:
        seen.open[name] = AttentionCall(name=name, config=config)

    def dropped(module: nn.Module, args: Any, output: Tensor) -> None:
        if name in seen.open:
            seen.open[name].dropped.append(output.detach())

    def value(module: nn.Module, args: Any, output: Tensor) -> None:
        if name in seen.open:
            seen.open[name].per_head.append(output.detach())

    def attended(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> None:
        if name in seen.open:
            seen.open[name].inputs = (q.detach(), k.detach(), v.detach(), bias)

    def merge(module: nn.Module, args: Any) -> tuple[Any, ...] | None:
        return merged(seen, seen.open.pop(name, None), args)

    stack.callback(module.register_forward_pre_hook(begin).remove)
    stack.callback(children["to_out"].register_forward_pre_hook(merge).remove)
    if "dropout" in children:
        stack.callback(children["dropout"].register_forward_hook(dropped).remove)
    for head in range(config.heads):
        if f"heads.{head}.to_v" in children:
            stack.callback(children[f"heads.{head}.to_v"].register_forward_hook(value).remove)
    if isinstance(module, MultiHeadAttention):
        module.attend_hooks.append(attended)
        stack.callback(module.attend_hooks.remove, attended)


def merged(seen: Pass, call: AttentionCall | None, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """Keep the outputs of the heads, which `to_out` reads, and return what replaces them; None for nothing."""
    if call is None or not args or not isinstance(args[0], Tensor) or args[0].ndim != 3:
        return None
    if args[0].shape[-1] % call.config.heads:
        return None
    heads = rearrange(args[0], "b t (h k) -> b h t k", h=call.config.heads)
    call.output = heads.detach()
    new = seen.edited(f"{call.name}.heads", with_weights(seen, call, heads))
    if seen.keep:
        seen.attention_calls.append((call.name, call))
    return None if new is heads else (rearrange(new, "b h t k -> b t (h k)"), *args[1:])


def with_weights(seen: Pass, call: AttentionCall, heads: Tensor) -> Tensor:
    """Return the outputs of the heads under replaced attention weights; the same tensor if none are."""
    name = f"{call.name}.weights"
    number = seen.calls[name]
    seen.calls[name] += 1
    for key in (name, f"{name}:{number}"):
        if key in seen.edits:
            seen.met.add(key)
            edit, values = seen.edits[key], call.values()
            if values is None:
                raise ConfigError(f"{name}: {call.config.part} does not show its values; replace {call.name}.heads.")
            heads = weighted(edit if isinstance(edit, Tensor) else edit(call.weights()), values)
    return heads
