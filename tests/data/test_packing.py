"""Packing: each id of each document once, whole documents where they fit, and padding that is never learned."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanotx.data.documents import Documents, PackedWindows, pack
from nanotx.errors import DataError
from nanotx.nn.loss.chunked_loss import IGNORE


def documents_of(lengths, counted=None):
    """Documents whose ids are all different."""
    ids, starts = np.arange(1, sum(lengths) + 1), np.cumsum([0, *lengths[:-1]])
    return Documents(ids=ids, starts=starts, counted=counted)


drawn = st.lists(st.integers(1, 14), min_size=1, max_size=30)


@given(lengths=drawn, context=st.integers(1, 9), apart=st.booleans())
def test_each_id_after_a_documents_first_is_a_target_once(lengths, context, apart):
    documents = documents_of(lengths)
    packed = pack(documents, context, apart)
    x, y = packed.batch(slice(None))
    targets = sorted(y[y != IGNORE].tolist())
    first = set(documents.ids[documents.starts].tolist())
    assert len(targets) == len(set(targets)) == packed.targets
    assert set(documents.ids.tolist()) - first <= set(targets)
    assert not apart or not set(targets) & first
    assert x.shape == y.shape == (len(packed.ids), context)


@given(lengths=drawn, context=st.integers(1, 9))
def test_documents_that_fit_stay_whole_and_in_their_order(lengths, context):
    documents = documents_of(lengths)
    packed = pack(documents, context, True)
    rows = [row[row > 0].tolist() for row in packed.ids]
    for start, end in zip(documents.starts, documents.ends, strict=True):
        ids = documents.ids[start:end].tolist()
        if len(ids) <= context + 1:
            assert any(ids == row[at : at + len(ids)] for row in rows for at in range(len(row)))


@given(lengths=drawn, context=st.integers(1, 9))
def test_rows_are_as_full_as_best_fit_makes_them(lengths, context):
    """Two rows that are both at most half full would have been one."""
    packed = pack(documents_of(lengths), context, True)
    taken = (packed.ids > 0).sum(axis=1)
    assert (2 * taken <= context + 1).sum() <= 1


@given(lengths=drawn, context=st.integers(1, 9))
def test_documents_have_numbers_of_their_own_and_so_has_the_padding(lengths, context):
    packed = pack(documents_of(lengths), context, True)
    for ids, numbers in zip(packed.ids, packed.numbers, strict=True):
        assert (np.diff(numbers) >= 0).all()
        assert not set(numbers[ids == 0].tolist()) & set(numbers[ids > 0].tolist())


def test_only_marked_ids_are_learned():
    counted = np.array([False, True, False, True, True])
    for apart in (False, True):
        _, y = pack(documents_of([3, 2], counted), 5, apart).batch(slice(None))
        assert sorted(y[y != IGNORE].tolist()) == ([2, 5] if apart else [2, 4, 5])


def test_steps_read_every_row_once_per_epoch_in_another_order_each():
    windows = PackedWindows(packed=pack(documents_of([5] * 12), 4, True), seed=3)
    epochs = [windows.order(step, 12).tolist() for step in range(3)]
    assert all(sorted(order) == list(range(12)) for order in epochs)
    assert len({tuple(order) for order in epochs}) == 3
    assert [*windows.order(0, 4), *windows.order(1, 4), *windows.order(2, 4)] == epochs[0]
    x, y = windows.batch(1, 12)
    assert x.tolist() == windows.packed.ids[epochs[1], :-1].tolist()
    assert y.tolist() == windows.packed.ids[epochs[1], 1:].tolist()
    assert windows.documents(1, 12).tolist() == [[0] * 4] * 12


@pytest.mark.parametrize("starts", [[], [1, 2], [0, 2, 2], [0, 5]])
def test_documents_that_begin_nowhere_are_refused(starts):
    with pytest.raises(DataError, match="documents: expected where each begins"):
        Documents(ids=np.arange(5), starts=np.array(starts, np.int64))


def test_marks_for_other_ids_are_refused():
    with pytest.raises(DataError, match="documents: 4 marks of what is learned, for 5 ids"):
        documents_of([5], np.ones(4, bool))
