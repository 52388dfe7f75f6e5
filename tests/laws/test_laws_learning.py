"""The laws of schedules, optimizers, data and configs hold, and each catches the mutants that it is there for."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from planted import brought, planted
from torch import nn

from nanotx.config.schema import fields, to_table
from nanotx.data.batches import Windows
from nanotx.errors import LawBroken
from nanotx.laws.all_laws import SLOTS
from nanotx.laws.cases.config import CONFIG
from nanotx.laws.cases.training import LAWS, Data
from nanotx.laws.config import config_round_trip
from nanotx.laws.dividing import steps_apart, steps_rows
from nanotx.laws.law import Where
from nanotx.laws.learning import descends, finite_factor, grouped, no_grad_no_move, pure, resumes, zero_lr_no_move
from nanotx.laws.runner import attempt
from nanotx.laws.windows import batch_invariant_order, covers_both_ends, each_window_once, reshuffled, targets_shifted
from nanotx.nn.transformer import Model
from nanotx.optim import Optimizer
from nanotx.optim.adamw import AdamW
from nanotx.optim.schedules import Schedule
from nanotx.optim.schedules.constant import Constant
from nanotx.optim.schedules.cosine import Cosine
from nanotx.recipe import Recipe, Train

BOOK = {slot: (*laws, CONFIG) for slot, laws in LAWS.items()}


@given(data=st.data())
def test_case_is_written_as_a_table_and_read_again(data):
    slot = data.draw(st.sampled_from(sorted(BOOK)))
    part = Data if slot == "data" else SLOTS[slot].find(data.draw(st.sampled_from(SLOTS[slot].names())))
    law = data.draw(st.sampled_from(LAWS[slot] if slot == "data" else BOOK[slot]))
    case = data.draw(law.draw(part, Where()))
    assert law.case.of(part, case.table()) == case


# Configs.

PARTS = [family.find(name) for family in SLOTS.values() for name in family.names()]


@pytest.mark.parametrize("part", [*PARTS, Model, Train, Recipe], ids=lambda part: part.__name__)
def test_whatever_a_config_holds_survives_being_written_and_read(part):
    where = Where(device=getattr(part, "trains_on", ("cpu",))[0])  # a config is on no device
    tried = attempt(CONFIG, part, 20, where)
    assert tried.passed, tried.broken or tried.skipped


def test_configs_are_drawn_with_any_values_that_they_accept():
    drawn = []

    @given(case=CONFIG.draw(AdamW, Where()))
    def draw(case):
        drawn.append(case.config)

    draw()
    assert len({item.lr for item in drawn}) > 5
    assert all(0 <= beta < 1 for item in drawn for beta in item.betas)


@pytest.mark.parametrize("name", ["nothing_by_default", "rounds"])
def test_config_that_reads_back_as_another_breaks_the_law(name):
    with planted("learning"), pytest.raises(LawBroken, match=r"config_round_trip: through a table, .* came back as"):
        part = Schedule.find(f"mutant_{name}")
        values = {"nothing_by_default": None, "rounds": 0.75}
        (field,) = fields(part)
        config_round_trip(part(**{field: values[name]}))
    assert to_table(Cosine(warmup=3)) == {"part": "cosine", "warmup": 3, "final": 0.1}


# Schedules.


@given(warmup=st.integers(0, 9), steps=st.integers(1, 9), at=st.lists(st.integers(0, 99)))
def test_run_shorter_than_its_warm_up_has_factors(warmup, steps, at):
    finite_factor(Cosine(warmup=warmup, final=0.0), at, steps)
    pure(Cosine(warmup=warmup, final=0.0), at, steps, other=steps + 1)


@pytest.mark.parametrize(
    ("factor", "message"),
    [
        (
            lambda step, steps: float("nan"),
            "finite_factor: the factor of step 0 of 10 is nan; expected a float of at least 0",
        ),
        (lambda step, steps: -0.5, r"finite_factor: the factor of step 0 of 10 is -0\.5"),
        (lambda step, steps: 1, r"finite_factor: the factor of step 0 of 10 is 1; expected a float"),
        (lambda step, steps: 1.0 if step < 11 else float("inf"), "finite_factor: the factor of step 99 of 10 is inf"),
        (lambda step, steps: 0.0, "finite_factor: the factor of each of the 10 steps of a run is 0"),
    ],
)
def test_invalid_factor_breaks_the_law(factor, message, monkeypatch):
    monkeypatch.setattr(Constant, "factor", lambda self, step, steps: factor(step, steps))
    with pytest.raises(LawBroken, match=message):
        finite_factor(Constant(), [99], 10)


# Optimizers.


def parameters():
    generator = torch.Generator().manual_seed(0)
    shapes = {"a.weight": (3, 2), "a.bias": (3,), "b.weight": (2, 3)}
    return {name: nn.Parameter(torch.randn(shape, generator=generator)) for name, shape in shapes.items()}


def gradients(steps):
    return [
        {name: torch.full_like(tensor, 0.1 + step) for name, tensor in parameters().items()} for step in range(steps)
    ]


def test_each_law_of_optimizers_says_what_broke_it():
    with planted("learning"):
        named = {
            name: Optimizer.find(f"mutant_{name}")()
            for name in ("no_base", "decays_all", "climbs", "decays_by_base", "elsewhere")
        }
        with pytest.raises(LawBroken, match="groups: base_lr of group 1 is None; expected a number of at least 0"):
            grouped(named["no_base"], parameters())
        with pytest.raises(
            LawBroken, match=r"no_grad_no_move: with no gradient, a\.bias moved by .*; its weight_decay is 0\."
        ):
            no_grad_no_move(named["decays_all"], parameters())
        targets = {name: torch.full_like(tensor, 9.0) for name, tensor in parameters().items()}
        with pytest.raises(LawBroken, match=r"descends: step 1 took the loss of a\.weight from .* to"):
            descends(named["climbs"], parameters(), targets, steps=2, rate=0.1)
        with pytest.raises(LawBroken, match=r"zero_lr_no_move: at a rate of 0, a\.weight moved by"):
            zero_lr_no_move(named["decays_by_base"], parameters(), gradients(2))
        with pytest.raises(
            LawBroken, match=r"resumes: stopped after 1 steps and resumed, a\.weight differs by .* after step 2"
        ):
            resumes(named["elsewhere"], parameters(), gradients(3), cut=1)
        resumes(named["elsewhere"], parameters(), gradients(3), cut=3)  # nothing comes after the stop


def test_each_law_of_divided_steps_says_what_broke_it():
    with planted("learning"):
        named = {
            name: Optimizer.find(f"mutant_{name}")()
            for name in ("one_scale", "counts", "own_scale", "of_slice", "together", "by_stack", "by_row", "rounds")
        }
        with pytest.raises(
            LawBroken, match=r"steps_apart: a\.weight moves otherwise in step 1 when others do not move"
        ):
            steps_apart(named["one_scale"], parameters(), gradients(2), {"a.weight"})
        with pytest.raises(LawBroken, match=r"steps_apart: a\.weight: the state 'count' is 2; expected a tensor"):
            steps_apart(named["counts"], parameters(), gradients(2), {"a.weight"})
        varied = [{name: param.detach() * (step + 1) for name, param in parameters().items()} for step in range(2)]
        for name in ("own_scale", "of_slice"):
            with pytest.raises(LawBroken, match=r"steps_rows: rows 0 to 0 of a\.weight, .* the whole step 1"):
                steps_rows(named[name], parameters(), varied, 1)
        with pytest.raises(
            LawBroken, match=r"steps_rows: the rows of a\.weight from which the whole is made are no rows"
        ):
            steps_rows(named["rounds"], parameters(), varied, 1)
        alike = {"a": parameters()["a.weight"], "b": nn.Parameter(2 * parameters()["a.weight"].detach())}
        with pytest.raises(LawBroken, match="steps_rows: what is computed from the matrix a depends on other matrices"):
            steps_rows(named["together"], alike, [alike], 1)
        stack = {"experts": nn.Parameter(torch.randn(2, 3, 2, generator=torch.Generator().manual_seed(0)))}
        with pytest.raises(
            LawBroken, match="steps_rows: what is computed from one matrix of the stack experts depends on its other"
        ):
            steps_rows(named["by_stack"], stack, [stack], 1)
        with pytest.raises(
            LawBroken,
            match=r"steps_rows: a\.weight: the state 'square' of rows 0 to 0 is a tensor of shape \(1, 1\), "
            r"and that of the whole has a tensor of shape \(3, 1\) there",
        ):
            steps_rows(named["by_row"], parameters(), varied, 1)
        with pytest.raises(LawBroken, match="steps_rows: rows 0 to 0 of a"):
            steps_rows(replace(named["own_scale"], lr=1e-7), parameters(), varied, 1)
        for name in ("own_scale", "of_slice", "together"):  # a slice that is the whole
            steps_rows(named[name], parameters(), varied, 9)


def test_parameter_in_two_groups_or_from_elsewhere_breaks_the_law(monkeypatch):
    class Built:
        def __init__(self, groups):
            self.param_groups = groups

    mine = parameters()
    group = {"params": [*mine.values()], "base_lr": 1.0}
    for groups, message in (
        ([group, {"params": [mine["a.bias"]], "base_lr": 1.0}], r"groups: a\.bias of shape \(3,\) is in 2 groups"),
        ([group, {"params": [*parameters().values()], "base_lr": 1.0}], "groups: 3 parameters in the groups are not"),
    ):
        monkeypatch.setattr(AdamW, "build", lambda self, named, groups=groups: Built(groups))
        with pytest.raises(LawBroken, match=message):
            grouped(AdamW(), mine)


def test_trying_an_optimizer_leaves_the_generator_as_it_was():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    resumes(AdamW(), parameters(), gradients(2), cut=1)
    assert torch.equal(torch.rand(3), expected)


# Data.


def windows(length=23, context=4, seed=1):
    return Windows(ids=np.arange(length), context=context, seed=seed)


@given(length=st.integers(5, 60), batch=st.integers(1, 9), seed=st.integers(0, 2**63))
def test_windows_of_a_text_in_which_tokens_repeat_obey_the_laws_too(length, batch, seed):
    text = Windows(ids=np.arange(length) % 3, context=4, seed=seed)
    targets_shifted(text, 2, batch)
    each_window_once(text, batch, epochs=4)
    batch_invariant_order(text, [3, 0, 3, 1], batch)


def test_each_law_of_the_data_says_what_broke_it():
    built = {name.partition("mutant_")[2]: kind for name, kind in brought("learning")[0].DATA.items()}
    cases = [
        (
            "same_token",
            lambda windows: targets_shifted(windows, 1, 2),
            r"targets_shifted: row 0 of step 1, from \d+ on, is to predict",
        ),
        (
            "rolled",
            lambda windows: targets_shifted(windows, 1, 2),
            r"targets_shifted: row 0 of step 1, from \d+ on, is to predict",
        ),
        (
            "overlap",
            lambda windows: each_window_once(windows, 2, 1),
            "each_window_once: with 2 rows per step, the windows of epoch 0 begin at .* expected",
        ),
        (
            "without_last",
            lambda windows: each_window_once(windows, 2, 1),
            "each_window_once: an epoch of 17 windows of 4 leaves much out of 76 tokens",
        ),
        (
            "in_batch",
            lambda windows: batch_invariant_order(windows, [1], 3),
            "batch_invariant_order: the 3 rows of step 1 begin at .*, and one by one, of a twin, at",
        ),
        (
            "unseeded",
            lambda windows: batch_invariant_order(windows, [1], 3),
            "batch_invariant_order: the 3 rows of step 1 begin at .*, and one by one, of a twin, at",
        ),
        ("one_order", lambda windows: reshuffled(windows, 3, 9), "reshuffled: epochs 0 and 1 have one order"),
        (
            "in_line",
            lambda windows: reshuffled(windows, 3, 9),
            "reshuffled: epoch 0 goes through the text from its beginning",
        ),
        ("one_cut", lambda windows: reshuffled(windows, 3, 9), "reshuffled: 3 epochs are cut at 0, all of them"),
        ("no_seed", lambda windows: reshuffled(windows, 8, 9), "reshuffled: seeds 1 and 9 have one order"),
        (
            "without_end",
            lambda windows: covers_both_ends(windows, 99),
            r"covers_both_ends: in 99 epochs of windows of 4, of 76 tokens .* \[75\]",
        ),
        ("without_begin", lambda windows: covers_both_ends(windows, 99), r"those at \[1\] are never a target"),
    ]
    for name, law, message in cases:
        law(windows(76))
        with pytest.raises(LawBroken, match=message):
            law(built[name](length=76, context=4, seed=1).build())


class Wavers(Windows):
    """Has another order when it is asked for the first time."""

    def __post_init__(self):
        object.__setattr__(self, "asked", [])

    def starts(self, step, batch):
        self.asked.append(step)
        return super().starts(step, batch)[:: -1 if len(self.asked) == 1 else 1]


def test_rows_that_change_when_they_are_asked_again_break_the_law():
    with pytest.raises(LawBroken, match=r"batch_invariant_order: the 3 rows of step 1 begin at .*, and asked again at"):
        batch_invariant_order(Wavers(ids=np.arange(99), context=4, seed=1), [1], 3)


def test_rows_of_another_shape_or_type_break_the_law():
    class Narrow(Windows):
        def batch(self, step, batch):
            x, y = super().batch(step, batch)
            return x.int(), y.int()

    with pytest.raises(LawBroken, match=r"targets_shifted: 2 rows of 4 came as .*torch\.int32"):
        targets_shifted(Narrow(ids=np.arange(23), context=4, seed=1), 0, 2)


def test_last_window_without_a_next_token_breaks_the_law():
    class TooFar(Windows):
        @property
        def per_epoch(self):
            return len(self.ids) // self.context

        def starts(self, step, batch):
            return np.arange(step * batch, (step + 1) * batch) % self.per_epoch * self.context

    with pytest.raises(
        LawBroken, match="each_window_once: the last window of epoch 0 has no next token in a text of 24"
    ):
        each_window_once(TooFar(ids=np.arange(24), context=4, seed=1), 2, 1)


@given(length=st.integers(5, 40), seed=st.integers(0, 99))
def test_every_token_of_a_text_but_the_first_is_a_target_in_some_epoch(length, seed):
    text = Windows(ids=np.arange(length), context=4, seed=seed)
    covers_both_ends(text, 199)
    targets = {item for epoch in range(199) for item in text.batch(epoch, text.per_epoch)[1].flatten().tolist()}
    assert targets == set(range(1, length))
