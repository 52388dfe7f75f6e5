"""Reference implementation of sampling: loops over lists of floats that the sampler must match.

`reference_probabilities` is the whole chain from the logits to the probabilities of the next token, in the documented
order; `reference_window` is the window that a model reads of a text, also beyond its context; `reference_stop` and
`reference_ranking` are stop sequences and best-of. The laws below compare the sampler with them.
"""

import math
from collections.abc import Iterable, Iterator, Sequence

import torch

from nanotx.errors import LawBroken
from nanotx.generation import Sampling
from nanotx.generation.sampler import MIN_TEMPERATURE
from nanotx.nn.transformer import Transformer
from nanotx.tokenizers import Codec

ATOL = 1e-4
"""What probabilities, which the sampler computes in float32, may differ by."""


# The chain.


def reference_probabilities(
    logits: Sequence[float], prompt: Sequence[int], drawn: Sequence[int], sampling: Sampling
) -> list[float]:
    """The probability of each id to come next: biases, penalties, bans; temperature; top-k, top-p, min-p, typical.

    Args:
        logits: the model's, a number for each id.
        prompt: the ids that the text began with, all of them.
        drawn: the ids that were drawn since.
        sampling: the sampling config.
    """
    adjusted = list(logits)
    for one, value in sampling.bias:
        adjusted[one] += value
    for one in set(prompt) | set(drawn):  # the prompt counts here, and only here
        penalty = sampling.repetition_penalty
        adjusted[one] = adjusted[one] / penalty if adjusted[one] > 0 else adjusted[one] * penalty
    for one in set(drawn):
        adjusted[one] -= sampling.frequency_penalty * list(drawn).count(one)
        adjusted[one] -= sampling.presence_penalty
    for one in sampling.banned_tokens:
        adjusted[one] = -math.inf
    if sampling.temperature < MIN_TEMPERATURE:
        best = adjusted.index(max(adjusted))  # of equal ones the first
        return [float(one == best) for one in range(len(adjusted))]
    adjusted = [logit / sampling.temperature for logit in adjusted]

    kept = [one for one in range(len(adjusted)) if adjusted[one] > -math.inf]
    if sampling.top_k is not None:
        kept = sorted(kept, key=lambda one: (-adjusted[one], one))[: sampling.top_k]
    if sampling.top_p < 1:
        p = softmax(adjusted, kept)
        kept = until_reached(sorted(kept, key=lambda one: (-p[one], one)), p, sampling.top_p)
    if sampling.min_p > 0:
        p = softmax(adjusted, kept)
        kept = [one for one in kept if p[one] >= sampling.min_p * max(p)]
    if sampling.typical < 1:
        p = softmax(adjusted, kept)
        entropy = -sum(p[one] * math.log(p[one]) for one in kept if p[one] > 0)
        kept = [one for one in kept if p[one] > 0]
        order = sorted(kept, key=lambda one: (abs(-math.log(p[one]) - entropy), one))
        kept = until_reached(order, p, sampling.typical)
    return softmax(adjusted, kept)


def softmax(logits: Sequence[float], kept: Sequence[int]) -> list[float]:
    """The probabilities of the ids that are kept, among themselves; all others have none."""
    highest = max(logits[one] for one in kept)
    grown = [math.exp(logit - highest) if one in kept else 0.0 for one, logit in enumerate(logits)]
    return [one / sum(grown) for one in grown]


def until_reached(order: Sequence[int], p: Sequence[float], share: float) -> list[int]:
    """The first ids of an order, one at least, until their probabilities sum to the share."""
    taken: list[int] = []
    for one in order:
        taken.append(one)
        if sum(p[other] for other in taken) >= share:
            break
    return taken


def reference_window(prompt: Sequence[int], drawn: Sequence[int], context: int) -> list[int]:
    """What is read for the next token: the newest ids of the prompt; when the context is full, its newer half stays."""
    window = list(prompt)[-context:]
    for one in drawn:
        if len(window) == context:
            window = window[len(window) - context // 2 :]
        window.append(one)
    return window


def capped(logits: Iterable[float], cap: float) -> list[float]:
    """Logits within a soft cap; 0 is none."""
    return [cap * math.tanh(one / cap) for one in logits] if cap else list(logits)


# Texts.


def reference_stop(text: str, stops: Sequence[str]) -> tuple[str, bool]:
    """A whole text up to its first stop, and whether there is one.

    The first is the one that is complete first; of two that are complete at once, the longer.
    """
    for end in range(1, len(text) + 1):
        ending = [stop for stop in stops if text[:end].endswith(stop)]
        if ending:
            return text[: end - max(map(len, ending))], True
    return text, False


def reference_ranking(log_probs: Sequence[Sequence[float]]) -> list[int]:
    """Return the indices of texts by falling mean log-probability of their tokens; ties keep their order."""
    means = [sum(one) / len(one) if one else 0.0 for one in log_probs]
    return sorted(range(len(means)), key=lambda number: (-means[number], number))


# The laws.


def samples_match_reference(model: Transformer, prompts: Sequence[Sequence[int]], sampling: Sampling, new: int) -> int:
    """Texts sampled side by side are, id by id, what the plain chain gives for each of them alone, without a cache.

    Row r draws with the seed of `sampling` plus r, one float64 in [0, 1) per token; the id is the first at which the
    sum of probabilities passes it. Returns how many ids were compared: where a share, or a threshold, lies
    closer than float32 can tell, the id is taken as it comes.

    Raises:
        LawBroken: an id, or a probability, is another; says which.
    """
    from nanotx.generation import engine  # looked up when it is called, as a mutant of it is planted

    steps = engine.generate_batch(model, prompts, sampling, new)
    drawn: list[list[int]] = [[] for _ in prompts]
    shares = [torch.Generator().manual_seed(sampling.seed + row) for row in range(len(prompts))]
    compared = 0
    while min(map(len, drawn)) < new:
        step = next(steps)
        for row in step.drawn:
            if len(drawn[row]) == new:
                continue
            ids = reference_window(prompts[row], drawn[row], model.context)
            with torch.inference_mode():
                raw = model.head(model.hidden_states(torch.tensor([ids])))[0, -1].tolist()
            wanted = reference_probabilities(capped(raw, model.config.softcap), prompts[row], drawn[row], sampling)
            share = float(torch.rand(1, dtype=torch.float64, generator=shares[row]))
            found = int(step.ids[row])
            if not on_a_border(raw, prompts[row], drawn[row], sampling, model.config.softcap):
                compared += 1
                if found not in possible_draws(wanted, share):
                    raise LawBroken(
                        f"samples_match_reference: row {row} of {len(prompts)}, token {len(drawn[row])}: got id "
                        f"{found} of probability {wanted[found]:.4g}, expected {sorted(possible_draws(wanted, share))} "
                        f"for the random number {share:.6f}; {sampling}, window {ids}."
                    )
            drawn[row].append(found)
    return compared


def probabilities_match_reference(
    logits: Sequence[Sequence[float]],
    prompts: Sequence[Sequence[int]],
    drawn: Sequence[Sequence[int]],
    sampling: Sampling,
) -> bool:
    """The sampler's probabilities of rows of logits are those of the plain chain; returns whether they were compared.

    Args:
        logits: a row for each text.
        prompts: what each text began with.
        drawn: what was drawn since, the same number of ids in each.
        sampling: the sampling config.

    Raises:
        LawBroken: a probability is another; says which.
    """
    import nanotx.generation.sampler  # looked up when it is called, as a mutant of it is planted

    sampler = nanotx.generation.sampler.Sampler(sampling, prompts)
    for ids in zip(*drawn, strict=True):
        if sampler.processors is not None:
            sampler.processors.record(torch.tensor(ids))
    found = sampler.probabilities(torch.tensor(logits))
    rows = list(zip(logits, prompts, drawn, strict=True))
    if any(on_a_border(*row, sampling) for row in rows):
        return False
    for number, (row, p) in enumerate(zip(rows, found.tolist(), strict=True)):
        wanted = reference_probabilities(*row, sampling)
        worst = max(range(len(p)), key=lambda one: abs(p[one] - wanted[one]))
        if not math.isclose(p[worst], wanted[worst], abs_tol=ATOL) or any(
            (a > 0) > (b > 0) for a, b in zip(p, wanted, strict=True)
        ):
            raise LawBroken(
                f"probabilities_match_reference: row {number}: id {worst} has probability {p[worst]:.6g}, expected "
                f"{wanted[worst]:.6g}; {sampling}, prompt {row[1]}, drawn {row[2]}."
            )
    return True


def on_a_border(
    logits: Sequence[float], prompt: Sequence[int], drawn: Sequence[int], sampling: Sampling, cap: float = 0.0
) -> bool:
    """Whether other ids would be kept by the plain chain if its logits were as inexact as float32 makes them."""
    supports = set()
    for sign in (0, 1, -1):
        moved = [one + sign * ATOL * math.cos(7.0 * one) for one in logits]  # equal ones stay equal
        p = reference_probabilities(capped(moved, cap), prompt, drawn, sampling)
        supports.add(tuple(one > 1e-9 for one in p))
    return len(supports) > 1


def possible_draws(p: Sequence[float], share: float) -> set[int]:
    """The id at which the sum of probabilities passes a share, and those that float32 may take for it."""
    found, below = set(), 0.0
    for one, chance in enumerate(p):
        if chance > 0 and below - ATOL <= share * sum(p) < below + chance + ATOL:
            found.add(one)
        below += chance
    return found


def stops_match_reference(pieces: Sequence[str], stops: Sequence[str]) -> None:
    """A text that comes in pieces ends where the whole text, searched at once, has its first stop.

    Raises:
        LawBroken: it does not; says where.
    """
    from nanotx.generation import stop_sequences as gates  # looked up when it is called, as a mutant of it is planted

    found, wanted = "".join(gates.until(pieces, stops)), reference_stop("".join(pieces), stops)[0]
    if found != wanted:
        raise LawBroken(f"stops_match_reference: {pieces!r} with stops {stops!r}: got {found!r}, expected {wanted!r}.")


def stream_matches_decode(codec: Codec, ids: Sequence[int]) -> None:
    """The text of ids that come one by one is that of all of them decoded at once.

    Raises:
        LawBroken: it is not.
    """
    from nanotx.generation import text as writer  # looked up when it is called, as a mutant of it is planted

    def one_by_one() -> Iterator[torch.Tensor]:
        for one in ids:
            yield torch.tensor([one])

    found, wanted = "".join(writer.decode_stream(one_by_one(), codec)), codec.decode(list(ids))
    if found != wanted:
        raise LawBroken(f"stream_matches_decode: ids {list(ids)}: got {found!r}, expected {wanted!r}.")
