"""Reference implementation of sampling: loops over lists of floats that the sampler must match.

`reference_probabilities` is the whole chain from the logits to the probabilities of the next token, in the documented
order; `reference_window` is the window that a model reads of a text, also beyond its context; `reference_stop` and
`reference_ranking` are stop sequences and best-of. The laws below compare the sampler with them.
"""

import math
from collections.abc import Iterable, Sequence

import torch

from nanotx.errors import LawBroken
from nanotx.generation import Sampling
from nanotx.generation.sampler import MIN_TEMPERATURE
from nanotx.nn.transformer import Transformer
from nanotx.tokenizers import Codec

ATOL = 1e-4
"""Tolerance of probabilities, which the sampler computes in float32."""


# Logits processors.


def reference_probabilities(
    logits: Sequence[float], prompt: Sequence[int], drawn: Sequence[int], sampling: Sampling
) -> list[float]:
    """Return the probability of each id to come next.

    The order is biases, penalties, bans; temperature; top-k, top-p, min-p, typical.

    Args:
        logits: the model's, one per id.
        prompt: all ids of the prompt.
        drawn: the ids that were sampled since.
        sampling: the sampling config.
    """
    adjusted = list(logits)
    for token, value in sampling.bias:
        adjusted[token] += value
    for token in set(prompt) | set(drawn):  # the prompt counts here, and only here
        penalty = sampling.repetition_penalty
        adjusted[token] = adjusted[token] / penalty if adjusted[token] > 0 else adjusted[token] * penalty
    for token in set(drawn):
        adjusted[token] -= sampling.frequency_penalty * list(drawn).count(token)
        adjusted[token] -= sampling.presence_penalty
    for token in sampling.banned_tokens:
        adjusted[token] = -math.inf
    if sampling.temperature < MIN_TEMPERATURE:
        best = adjusted.index(max(adjusted))  # of equal ones the first
        return [float(token == best) for token in range(len(adjusted))]
    adjusted = [logit / sampling.temperature for logit in adjusted]

    ids = [token for token in range(len(adjusted)) if adjusted[token] > -math.inf]
    if sampling.top_k is not None:
        ids = sorted(ids, key=lambda token: (-adjusted[token], token))[: sampling.top_k]
    if sampling.top_p < 1:
        p = softmax(adjusted, ids)
        ids = until_reached(sorted(ids, key=lambda token: (-p[token], token)), p, sampling.top_p)
    if sampling.min_p > 0:
        p = softmax(adjusted, ids)
        ids = [token for token in ids if p[token] >= sampling.min_p * max(p)]
    if sampling.typical < 1:
        p = softmax(adjusted, ids)
        entropy = -sum(p[token] * math.log(p[token]) for token in ids if p[token] > 0)
        ids = [token for token in ids if p[token] > 0]
        order = sorted(ids, key=lambda token: (abs(-math.log(p[token]) - entropy), token))
        ids = until_reached(order, p, sampling.typical)
    return softmax(adjusted, ids)


def softmax(logits: Sequence[float], ids: Sequence[int]) -> list[float]:
    """Return the softmax over these ids; the probability of all others is 0."""
    highest = max(logits[token] for token in ids)
    weights = [math.exp(logit - highest) if token in ids else 0.0 for token, logit in enumerate(logits)]
    return [weight / sum(weights) for weight in weights]


def until_reached(order: Sequence[int], p: Sequence[float], share: float) -> list[int]:
    """Return the first ids of an order, at least one, until their probabilities sum to the share."""
    ids: list[int] = []
    for token in order:
        ids.append(token)
        if sum(p[other] for other in ids) >= share:
            break
    return ids


def reference_window(prompt: Sequence[int], drawn: Sequence[int], context: int) -> list[int]:
    """Return the ids that the model reads for the next token: when the context is full, its newer half is kept."""
    window = list(prompt)[-context:]
    for token in drawn:
        if len(window) == context:
            window = window[len(window) - context // 2 :]
        window.append(token)
    return window


def capped(logits: Iterable[float], cap: float) -> list[float]:
    """Return soft-capped logits; a cap of 0 is no cap."""
    return [cap * math.tanh(logit / cap) for logit in logits] if cap else list(logits)


# Texts.


def reference_stop(text: str, stops: Sequence[str]) -> tuple[str, bool]:
    """Return a whole text up to its first stop sequence, and whether it has one.

    The first is the one that is complete first; of two that are complete at the same character, the longer.
    """
    for end in range(1, len(text) + 1):
        ending = [stop for stop in stops if text[:end].endswith(stop)]
        if ending:
            return text[: end - max(map(len, ending))], True
    return text, False


def reference_ranking(log_probs: Sequence[Sequence[float]]) -> list[int]:
    """Return the indices of texts by descending mean log-probability of their tokens; ties keep their order."""
    means = [sum(row) / len(row) if row else 0.0 for row in log_probs]
    return sorted(range(len(means)), key=lambda number: (-means[number], number))


# The laws.


def samples_match_reference(model: Transformer, prompts: Sequence[Sequence[int]], sampling: Sampling, new: int) -> int:
    """Raise LawBroken unless tokens sampled in a batch are those of the reference for each prompt alone, uncached.

    Row r uses the seed of `sampling` plus r, and one float64 in [0, 1) per token; the token is the first at which the
    cumulative probability exceeds it. A token's log-probability is the model's own.

    Returns:
        The number of tokens that were compared: a token is skipped if a probability is closer to a threshold than
        float32 can resolve.

    Raises:
        LawBroken: a token or a log-probability differs; the message says which.
    """
    from nanotx.generation import engine  # looked up when it is called, as a mutant of it is planted

    drawn: list[list[int]] = [[] for _ in prompts]
    generators = [torch.Generator().manual_seed(sampling.seed + row) for row in range(len(prompts))]
    compared = 0
    for row, token, log_prob, _ in engine.BatchEngine(model, prompts, sampling, new):
        place = f"samples_match_reference: row {row} of {len(prompts)}, token {len(drawn[row])}"
        ids = reference_window(prompts[row], drawn[row], model.context)
        with torch.inference_mode():
            raw = model.head(model.hidden_states(torch.tensor([ids])))[0, -1].tolist()
        logits = capped(raw, model.config.softcap)
        expected = reference_probabilities(logits, prompts[row], drawn[row], sampling)
        share = float(torch.rand(1, dtype=torch.float64, generator=generators[row]))
        if not on_a_border(raw, prompts[row], drawn[row], sampling, model.config.softcap):
            compared += 1
            if token not in possible_draws(expected, share):
                raise LawBroken(
                    f"{place}: got id {token} of probability {expected[token]:.4g}, expected "
                    f"{sorted(possible_draws(expected, share))} for the random number {share:.6f}; {sampling}, "
                    f"window {ids}."
                )
        own = logits[token] - max(logits) - math.log(sum(math.exp(logit - max(logits)) for logit in logits))
        if not math.isclose(log_prob, own, abs_tol=ATOL, rel_tol=ATOL):
            raise LawBroken(
                f"{place}: id {token} has log-probability {log_prob:.6g}, expected {own:.6g}; window {ids}."
            )
        drawn[row].append(token)
    if any(len(row) != new for row in drawn):
        raise LawBroken(f"samples_match_reference: got {[len(row) for row in drawn]} tokens, expected {new} each.")
    return compared


def probabilities_match_reference(
    logits: Sequence[Sequence[float]],
    prompts: Sequence[Sequence[int]],
    drawn: Sequence[Sequence[int]],
    sampling: Sampling,
) -> bool:
    """Raise LawBroken unless the sampler's probabilities equal the reference's; return whether they were compared.

    Args:
        logits: a row for each text.
        prompts: all ids of the prompt of each text.
        drawn: the ids that were sampled since, the same number for each text.
        sampling: the sampling config.

    Raises:
        LawBroken: a probability differs; the message says which.
    """
    import nanotx.generation.sampler  # looked up when it is called, as a mutant of it is planted

    sampler = nanotx.generation.sampler.Sampler(sampling, prompts)
    for ids in zip(*drawn, strict=True):
        sampler.record(torch.tensor(ids))
    probabilities = sampler.probabilities(torch.tensor(logits)).tolist()
    rows = list(zip(logits, prompts, drawn, strict=True))
    if any(on_a_border(*row, sampling) for row in rows):
        return False
    for number, (row, p) in enumerate(zip(rows, probabilities, strict=True)):
        expected = reference_probabilities(*row, sampling)
        worst = max(range(len(p)), key=lambda token: abs(p[token] - expected[token]))
        if not math.isclose(p[worst], expected[worst], abs_tol=ATOL) or any(
            (a > 0) > (b > 0) for a, b in zip(p, expected, strict=True)
        ):
            raise LawBroken(
                f"probabilities_match_reference: row {number}: id {worst} has probability {p[worst]:.6g}, expected "
                f"{expected[worst]:.6g}; {sampling}, prompt {row[1]}, drawn {row[2]}."
            )
    return True


def on_a_border(
    logits: Sequence[float], prompt: Sequence[int], drawn: Sequence[int], sampling: Sampling, cap: float = 0.0
) -> bool:
    """Return whether the reference would keep other ids if its logits had the rounding errors of float32."""
    supports = set()
    for sign in (0, 1, -1):
        moved = [logit + sign * ATOL * math.cos(7.0 * logit) for logit in logits]  # equal ones stay equal
        p = reference_probabilities(capped(moved, cap), prompt, drawn, sampling)
        supports.add(tuple(probability > 1e-9 for probability in p))
    return len(supports) > 1


def possible_draws(p: Sequence[float], share: float) -> set[int]:
    """Return the id at which the cumulative probability exceeds a random number, and those that float32 may give."""
    ids, below = set(), 0.0
    for token, probability in enumerate(p):
        if probability > 0 and below - ATOL <= share * sum(p) < below + probability + ATOL:
            ids.add(token)
        below += probability
    return ids


def stops_match_reference(pieces: Sequence[str], stops: Sequence[str]) -> None:
    """Raise LawBroken unless a text that arrives in pieces ends at the first stop sequence of the whole text.

    Raises:
        LawBroken: it ends at another place; the message says where.
    """
    from nanotx.generation import stop_sequences  # looked up when it is called, as a mutant of it is planted

    search = stop_sequences.StopSequences(stops)
    text = "".join(map(search.push, pieces)) + search.end()
    expected = reference_stop("".join(pieces), stops)
    if (text, search.stopped) != expected:
        raise LawBroken(
            f"stops_match_reference: {pieces!r} with stops {stops!r}: got {(text, search.stopped)}, "
            f"expected {expected}."
        )


def stream_matches_decode(codec: Codec, ids: Sequence[int]) -> None:
    """Raise LawBroken unless tokens decoded one by one give the same text as all of them decoded at once.

    Raises:
        LawBroken: the texts differ.
    """
    from nanotx.generation import text  # looked up when it is called, as a mutant of it is planted

    completion = text.Completion(codec, "")
    pieces = [*(completion.add(token, 0.0) for token in ids), completion.end()]
    expected = codec.decode(list(ids))
    if not "".join(pieces) == completion.text == expected:
        raise LawBroken(f"stream_matches_decode: ids {list(ids)}: got {pieces!r}, expected {expected!r}.")
