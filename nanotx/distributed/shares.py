"""Which numbers of processes can train a recipe together."""

from nanotx.config.schema import divisors
from nanotx.errors import ConfigError
from nanotx.recipe import Recipe


def check_shares(recipe: Recipe, ranks: int) -> None:
    """Raise ConfigError unless so many processes can share the micro-batches of a step.

    Raises:
        ConfigError: they cannot; says which numbers can.
    """
    if ranks < 1:
        raise ConfigError(f"ranks: expected a number of at least 1, got {ranks}.")
    if ranks == 1:
        return
    plan = recipe.train
    if plan.micro_batch_size == "auto":
        raise ConfigError(
            f"train.micro_batch_size: auto is measured by one process, and this run has {ranks}; give a number, "
            f"such as --train.micro-batch-size {max(1, plan.batch_size // ranks)}."
        )
    if plan.seconds is not None:
        raise ConfigError(
            f"train.seconds: the time of a step is measured by one process, and this run has {ranks}; give "
            "--train.steps or --train.tokens."
        )
    count, fit = plan.num_micro_batches, possible(plan.num_micro_batches, recipe.reduce)
    if ranks in fit:
        return
    if recipe.reduce == "exact" and ranks & (ranks - 1):
        fast = ", or --reduce fast, whose sums depend on the number of ranks" if count % ranks == 0 else ""
        raise ConfigError(
            f"ranks: {ranks} processes cannot add in pairs, as reduce exact does; for the {count} micro-batches of a "
            f"step, try {listed(fit)}{fast}."
        )
    sizes = [size for size in divisors(plan.batch_size) if ranks in possible(plan.batch_size // size, recipe.reduce)]
    other = (
        f"or smaller micro-batches, which change the rounding: --train.micro-batch-size {max(sizes)}"
        if sizes
        else f"or a batch size that {ranks} divides"
    )
    raise ConfigError(
        f"ranks: {ranks} processes cannot share the {count} micro-batch{'es' * (count > 1)} of a step; "
        f"try {listed(fit)}, {other}."
    )


def check_parallel(recipe: Recipe, parallel: str) -> None:
    """Raise ConfigError unless what a recipe keeps can be divided among processes.

    Raises:
        ConfigError: it cannot; says why.
    """
    if parallel == "owner" and not recipe.optimizer.separable:
        raise ConfigError(
            f"--parallel owner: optimizer {recipe.optimizer.part} does not say that it steps each parameter by itself, "
            "with state that is tensors (separable = True in its class); leave the flag out, which keeps all state on "
            "each process."
        )
    if parallel != "fsdp":
        return
    for refused, reason in (
        (
            not (recipe.optimizer.elementwise or recipe.optimizer.by_matrices),
            f"optimizer {recipe.optimizer.part} does not say that it steps rows of a parameter by themselves "
            "(elementwise or by_matrices = True in its class); try --parallel owner, or --optimizer adamw",
        ),
        (
            recipe.reduce == "exact",
            "gradients are summed while they are computed, in the backend's order, so that the last bits depend on the "
            "number of processes; say so by --reduce fast",
        ),
        (recipe.dtype == "float16", "the scale of float16 is not tried with slices; try --dtype bfloat16"),
        (recipe.model.share > 1, "a block that several layers share would be gathered for each; try --model.share 1"),
        (bool(recipe.model.adapt.patterns), "a model with an adapter is not tried in slices; leave the flag out"),
    ):
        if refused:
            raise ConfigError(f"--parallel fsdp: {reason}.")


def possible(micro_batches: int, reduce: str) -> list[int]:
    """Return the numbers of processes that can share some micro-batches."""
    return [ranks for ranks in divisors(micro_batches) if reduce == "fast" or not ranks & (ranks - 1)]


def listed(numbers: list[int]) -> str:
    """Return the numbers of processes as a flag."""
    *others, last = numbers
    return f"--ranks {', '.join(map(str, others))} or {last}" if others else f"--ranks {last}"
