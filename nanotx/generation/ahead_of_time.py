"""A single-token step that is compiled ahead of time and kept on disk: the next process loads it in milliseconds.

The step is compiled without the weights, which are the model's own in memory, and with lengths that are dynamic: one
package fits every text and every run of the same model. Keys and values are written into the cache in place. Prompts
are read by the eager model.

The eager model computes the first token as well: if the two disagree, the package is not used.
"""

from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nanotx.errors import ConfigError, RunError
from nanotx.generation.step_cache import StepCache, step_key
from nanotx.hardware.compiler import INSTALL_COMPILER, explain_failure, find_compiler, limit_compile_threads
from nanotx.nn.kv_cache import KVCache
from nanotx.nn.shapes import Tokens
from nanotx.nn.transformer import Transformer

MIN_CONTEXT = 5
"""Smallest context for which a length can be dynamic: the compiler treats the integers 0 and 1 as constants."""

Run = Callable[[list[Tensor]], list[Tensor]]
"""A compiled step: from the inputs of `Step`, in one flat list, to its outputs."""


class AheadOfTimeModel:
    """A `LanguageModel`: the model, with a compiled step from the third token of a text on.

    The model must not change while it is sampled from, except for the values of its weights.

    Args:
        model: the model, on the CPU and in evaluation mode.
        run: its compiled step.
        batch: the number of texts that the step is compiled for; of another number all is eager.
        forget: called if the step disagrees with the model; it is not used from then on.
    """

    def __init__(self, model: Transformer, run: Run, batch: int, forget: Callable[[], None]) -> None:
        self.model, self.batch, self.forget = model, batch, forget
        self.run: Run | None = run
        self.checked = False

    @property
    def context(self) -> int:
        """Return the maximum number of tokens."""
        return self.model.context

    def next_logits(self, ids: Tokens, cache: KVCache | None = None) -> Float[Tensor, "b v"]:
        """Return the logits of the token after `ids`."""
        if cache is None:
            return self.model.next_logits(ids)
        if not cache.length:
            cache.capacity = step_capacity(self.model)
        compiled = ids.shape == (self.batch, 1) and 2 <= cache.length < self.context and not cache.evicted
        if self.run is None or not compiled:
            return self.model.next_logits(ids, cache)
        tensors = cache.tensors()
        logits, *newest = self.run([ids, past_of(ids, cache), *tensors.values()])
        if self.checked:
            cache.update(dict(zip(newest_names(list(tensors)), newest, strict=True)))
            return logits
        eager = self.model.next_logits(ids, cache)  # writes the same keys and values once more
        self.checked = True
        if not agree(logits, eager):
            self.run = None
            self.forget()
        return eager


def agree(logits: Tensor, eager: Tensor) -> bool:
    """Return whether logits are equal but for the rounding of their dtype."""
    tolerance = 4 * torch.finfo(eager.dtype).eps ** 0.5
    return torch.allclose(logits.float(), eager.float(), rtol=tolerance, atol=tolerance)


def step_capacity(model: Transformer) -> int:
    """Return the capacity of caches for a compiled step: never quite full, because a full one is compiled apart."""
    return model.context + 1


def past_of(ids: Tokens, cache: KVCache) -> Tensor:
    """Return a tensor without memory of its own whose length is that of the text so far."""
    return ids.new_zeros(1).expand(cache.length)


def ahead_of_time(
    model: Transformer, batch: int, build: bool, say: Callable[[str], None], cache: StepCache | None = None
) -> AheadOfTimeModel | None:
    """Return a model with a step that is compiled ahead of time; None if there is none on disk and none is built.

    Args:
        model: the model, on the CPU and in evaluation mode.
        batch: the number of texts.
        build: compile the step where it is not on disk yet.
        say: takes a sentence for the user, before the step is compiled and if one cannot be used.
        cache: where compiled steps are; None is the user's cache folder.

    Raises:
        ConfigError: it is to be built, and cannot; says why.
        RunError: it was built, and cannot be written.
    """
    if model.context < MIN_CONTEXT:
        if build:
            raise ConfigError(f"compile: a context of {model.context} is too short; leave --compile out.")
        return None
    cache = cache or StepCache.of_user()
    key = step_key(model, batch)
    run = loaded(cache, key, model, say)
    if run is None and build:
        say("compiling the step of a single token, half a minute, once for this kind of model on this machine")
        store(cache, key, build_package(model, batch))
        run = loaded(cache, key, model, say)
        if run is None:
            raise ConfigError("compile: the compiled step cannot be loaded; leave --compile out.")
    if run is None:
        return None

    def forget() -> None:
        cache.remove(key)
        say("compile: the compiled step on disk disagrees with the model; it was removed, and is not used.")

    return AheadOfTimeModel(model, run, batch, forget)


def loaded(cache: StepCache, key: str, model: Transformer, say: Callable[[str], None]) -> Run | None:
    """Return the compiled step of a key from the disk, or None; one that cannot be loaded is removed."""
    path = cache.find(key)
    if path is None:
        return None
    try:
        return load_package(path, model)
    except (AttributeError, RuntimeError, TypeError) as error:  # another PyTorch's loader, or a broken package
        say(f"compile: {path} cannot be loaded ({str(error).splitlines()[0][:200]}); it was removed.")
        cache.remove(key)
        return None


def store(cache: StepCache, key: str, package: bytes) -> None:
    """Write a package to the disk.

    Raises:
        RunError: it cannot be written.
    """
    try:
        cache.store(key, package)
    except OSError as error:
        reason = error.strerror or error
        raise RunError(
            f"compile: {cache.folder} cannot be written: {reason}; free some space there, name another folder by "
            "XDG_CACHE_HOME, or leave --compile out."
        ) from None


def build_package(model: Transformer, batch: int) -> bytes:
    """Compile the step of a model for a number of texts; return the package.

    Raises:
        ConfigError: nothing can be compiled here; says why.
    """
    if find_compiler() is None:
        raise ConfigError(f"compile: there is no C++ compiler; {INSTALL_COMPILER}; or leave --compile out.")
    ids, cache = torch.zeros(batch, 2, dtype=torch.long), KVCache(step_capacity(model))
    with torch.no_grad():
        model.next_logits(ids, cache)  # as a prompt: it gives the cache its tensors
    step = Step(model, list(cache.tensors()), cache.capacity)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "step.pt2"
        try:
            compile_package(step, ids[:, :1], cache, path)
        except Exception as error:  # torch raises many kinds of errors here
            fault, remedy = explain_failure(str(error))
            raise ConfigError(f"compile: {fault}; {remedy}; or leave --compile out.") from error
        return path.read_bytes()


class Step(nn.Module):
    """The step as a function of tensors alone: the logits, and the newest positions that the cache remembers.

    Args:
        model: the model.
        names: those of the cache's tensors, in the order in which they are passed.
        capacity: of the cache.
    """

    def __init__(self, model: Transformer, names: Sequence[str], capacity: int) -> None:
        super().__init__()
        self.model, self.names, self.capacity = model, names, capacity

    def forward(self, ids: Tokens, past: Tensor, tensors: list[Tensor]) -> list[Tensor]:
        """Return the logits after `ids` and the tensors of `newest`; the length of `past` is that of the text."""
        named = dict(zip(self.names, tensors, strict=True))
        cache = KVCache.of_tensors(named, past.shape[0], self.capacity)
        logits = self.model.next_logits(ids, cache)
        after = cache.tensors()
        return [logits, *(after[name] for name in newest_names(self.names))]


def newest_names(names: Sequence[str]) -> list[str]:
    """Return the names of the tensors that each step replaces; the others are written in place."""
    return [name for name in names if name.endswith("newest")]


def export(step: Step, ids: Tokens, cache: KVCache) -> Any:
    """Return the step as a graph of PyTorch's operations, for texts of any length that the context holds."""
    tensors = list(cache.tensors().values())
    length = torch.export.Dim("length", min=2, max=step.model.context - 1)
    shapes = {"ids": None, "past": {0: length}, "tensors": [None] * len(tensors)}
    with torch.no_grad():
        return torch.export.export(step, (ids, past_of(ids, cache), tensors), dynamic_shapes=shapes, strict=False)


def compile_package(step: Step, ids: Tokens, cache: KVCache, path: Path) -> None:
    """Compile the step for these shapes, and write the package to a path."""
    import torch._inductor  # slow to import; those who do not compile skip it

    limit_compile_threads()
    options = {"aot_inductor.package_constants_in_so": False, "aot_inductor.compile_wrapper_opt_level": "O0"}
    with redirect_stderr(StringIO()), torch.no_grad():
        torch._inductor.aoti_compile_and_package(
            export(step, ids, cache), package_path=str(path), inductor_configs=options
        )


def load_package(path: Path, model: Transformer) -> Run:
    """Return a compiled step with the weights of a model, which are not copied.

    Raises:
        RuntimeError: the package cannot be loaded, or needs a tensor that the model does not have.
    """
    runner = torch._C._aoti.AOTIModelPackageLoader(str(path), "model", False, 1, -1)
    own = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    tensors = {f"model.{name}": tensor.detach() for name, tensor in own}
    names = runner.get_constant_fqns()
    if missing := [name for name in names if name not in tensors]:
        raise RuntimeError(f"the compiled step has a constant {missing[0]} of its own.")
    runner.load_constants({name: tensors[name] for name in names}, False, True, True)
    run: Run = runner.run
    return run
