"""The loss, in one piece and in chunks: one function, gradients too; and never more logits at once than it says."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from nanotx.training.loss import loss


def case(seed, rows=2, time=7, dim=4, vocab=11):
    torch.manual_seed(seed)
    head = nn.Linear(dim, vocab)
    x = torch.randn(rows, time, dim, requires_grad=True)
    return head, x, torch.randint(vocab, (rows, time))


def outcome(head, x, y, z_loss, chunk, cap):
    seen = []

    def head_of(stream):
        seen.append(len(stream) if stream.ndim == 2 else stream.shape[0] * stream.shape[1])
        return cap * torch.tanh(head(stream) / cap)

    weights = [*head.parameters()]
    total, cross = loss(head_of, weights, x, y, z_loss, chunk)
    return total, cross, torch.autograd.grad(3 * total, [x, *weights]), max(seen)


@given(seed=st.integers(0, 99), chunk=st.integers(1, 20), z_loss=st.sampled_from([0.0, 0.1]))
def test_in_chunks_the_loss_and_all_gradients_are_those_of_one_piece(seed, chunk, z_loss):
    one, many = (outcome(*case(seed), z_loss, size, 2.0) for size in (0, chunk))
    torch.testing.assert_close(one[:3], many[:3])
    assert many[3] <= max(chunk, 14 * (chunk >= 14))
    assert one[3] == 14


@given(seed=st.integers(0, 99))
def test_it_is_the_cross_entropy_and_the_squared_partition_function(seed):
    head, x, y = case(seed)
    total, cross, _, _ = outcome(head, x, y, 0.3, 0, 1e6)
    logits = head(x).flatten(0, 1)
    torch.testing.assert_close(cross, F.cross_entropy(logits, y.flatten()), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(total - cross, 0.3 * logits.logsumexp(1).square().mean(), atol=1e-4, rtol=1e-4)
    assert not cross.requires_grad


def test_without_gradients_chunks_give_the_loss_alone():
    head, x, y = case(1)
    with torch.no_grad():
        whole, parts = (loss(head, [*head.parameters()], x, y, 0.0, chunk)[1] for chunk in (0, 3))
    torch.testing.assert_close(whole, parts)
