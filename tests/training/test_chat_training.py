"""Training on conversations: the loss of the answers alone, however a step is split; resumed to the bit."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from helpers import tiny
from torch.nn import functional as F

from nanotx.cli.main import run as nanotx_command
from nanotx.data.corpus.chat import Chat
from nanotx.data.corpus.file import File
from nanotx.data.corpus.small_talk import SmallTalk
from nanotx.errors import ConfigError, DataError
from nanotx.evaluation.loss import evaluate
from nanotx.hardware.device import choose_machine
from nanotx.nn.attention.linear import LinearKernel
from nanotx.nn.attention.sdpa import Sdpa
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.loss.label_smoothing import LabelSmoothing
from nanotx.nn.loss.multi_token import MultiToken
from nanotx.nn.transformer import Model
from nanotx.recipe import Recipe, Train
from nanotx.runs.load import load
from nanotx.tokenizers.byte import Byte
from nanotx.tokenizers.chat_template import chat_template_of
from nanotx.training.dataset import load_dataset
from nanotx.training.trainer import Trainer

MACHINE = choose_machine("cpu", "float32", 1)
MODEL = Model(dim=16, layers=1, context=192, block=PreNorm(attention=Sdpa(heads=2)))
RECIPE = Recipe(
    corpus=SmallTalk(count=40), tokenizer=Byte(), model=MODEL, train=Train(batch_size=4, steps=2, grad_clip=0.0)
)
DATA = load_dataset(RECIPE)


def trainer_of(recipe, data=DATA):
    return Trainer(recipe, recipe.model.build(data.codec.vocab_size, 1), data.windows, MACHINE)


def gradients(recipe):
    trainer = trainer_of(recipe)
    row = trainer.compute_gradients()
    return row["loss"], {name: p.grad.clone() for name, p in trainer.model.named_parameters() if p.grad is not None}


def by_hand(model, data, step, batch):
    """The mean loss over the answers of a step, conversation by conversation, each read alone."""
    packed, order = data.windows.packed, data.windows.order(step, batch)
    losses = []
    for ids, numbers, counted in zip(packed.ids[order], packed.numbers[order], packed.counted[order], strict=True):
        for number in range(numbers.max() + 1):
            own = torch.from_numpy(ids[numbers == number]).long()[None]
            learned = torch.from_numpy(counted[numbers == number])[1:]
            if learned.any():
                nats = F.cross_entropy(model(own[:, :-1])[0], own[0, 1:], reduction="none")
                losses.append(nats[learned])
    return torch.cat(losses)


def test_loss_of_a_step_is_the_mean_over_its_answers_each_conversation_read_alone():
    trainer = trainer_of(RECIPE)
    expected = by_hand(trainer.model, DATA, 0, 4).mean().item()
    assert trainer.compute_gradients()["loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss", [RECIPE.loss, LabelSmoothing(z_loss=0.1)])
@pytest.mark.parametrize("plan", [{"grad_accum_steps": 4}, {"loss_chunk_size": 7}, {"micro_batch_size": 2}])
def test_masked_mean_is_the_same_however_a_step_is_split(plan, loss):
    """The rows have different numbers of answers: a mean of means would be another one."""
    counts = DATA.windows.batch(0, 4)[1].ge(0).sum(1)
    assert len(set(counts.tolist())) > 1
    whole = gradients(replace(RECIPE, loss=loss))
    split = gradients(replace(RECIPE, loss=loss, train=replace(RECIPE.train, **plan)))
    assert split[0] == pytest.approx(whole[0], rel=1e-5)
    for name, gradient in whole[1].items():
        torch.testing.assert_close(split[1][name], gradient, rtol=1e-4, atol=1e-6)


def test_evaluation_is_the_mean_over_the_answers_and_its_bytes_are_theirs():
    model, text = MODEL.build(DATA.codec.vocab_size, 1).eval(), DATA.eval_texts["val"]
    answers = [m.content for turns in RECIPE.corpus.split_conversations()[1] for m in turns if m.role == "assistant"]
    assert text.tokens == sum(len(answer) + 1 for answer in answers)  # each with its end
    assert text.size == sum(map(len, answers))
    score, rows = evaluate(model, text, MACHINE), text.packed
    data = replace(DATA, windows=replace(DATA.windows, packed=rows))
    assert score.loss == pytest.approx(by_hand(model, data, 0, len(rows.ids)).mean().item(), rel=1e-5)
    assert score.stderr > 0


def test_joined_conversations_read_those_before_them_and_learn_the_same_tokens():
    joined = load_dataset(replace(RECIPE, corpus=replace(RECIPE.corpus, documents="join")))
    assert joined.windows.documents(0, 4) is None
    assert joined.windows.packed.targets == DATA.windows.packed.targets
    assert joined.sha256 == DATA.sha256


def test_files_kept_apart_are_documents_and_the_last_ones_validate(tmp_path):
    for number in range(10):
        (tmp_path / f"{number}.txt").write_text(chr(97 + number) * (5 + 40 * (number == 2)), encoding="utf-8")
    corpus, model = File(path=str(tmp_path), documents="separate"), replace(MODEL, context=16)
    data = load_dataset(replace(RECIPE, corpus=corpus, model=model))
    assert data.codec.decode(data.eval_texts["val"].ids) == "jjjjj"
    x, y = data.windows.packed.batch(slice(None))
    assert (x[y >= 0] == y[y >= 0]).all()  # no document predicts another
    assert (y >= 0).sum() == 8 * 4 + 44
    with pytest.raises(DataError, match=r"1 document with validation=0\.1 leave 0 to train on and 1 to validate on"):
        load_dataset(replace(RECIPE, corpus=replace(corpus, path=str(tmp_path / "1.txt"))))


def test_long_conversation_ends_after_the_last_answer_that_fits_and_a_long_answer_is_refused(tmp_path):
    def line(*answers):
        said = [(role, text) for answer in answers for role, text in (("user", "Go."), ("assistant", answer))]
        return json.dumps({"messages": [{"role": role, "content": text} for role, text in said]})

    path, said = tmp_path / "talk.jsonl", []
    path.write_text("\n".join([line("a" * 50, "b" * 300)] * 9 + [line("c")]), encoding="utf-8")
    data = load_dataset(replace(RECIPE, corpus=Chat(path=str(path))), say=said.append)
    assert "9 of 9 conversations are longer than model.context=192 (the longest has 364 tokens)" in said[0]
    assert data.windows.packed.targets == 9 * 51
    path.write_text("\n".join([line("c"), line("b" * 300), line("c")]), encoding="utf-8")
    with pytest.raises(DataError, match=r"conversation 2: its first answer ends at token 307.*--model.context 307"):
        load_dataset(replace(RECIPE, corpus=Chat(path=str(path), validation=0.3)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": MultiToken()}, "loss multi_token: corpus small_talk leaves some tokens out .*--loss cross_entropy"),
        ({"model": replace(MODEL, block=PreNorm(attention=LinearKernel(heads=2)))}, "attention linear: cannot keep"),
    ],
)
def test_part_that_cannot_learn_so_is_refused_before_the_first_step(changes, message):
    with pytest.raises(ConfigError, match=message):
        recipe = replace(RECIPE, **changes)
        trainer_of(recipe, load_dataset(recipe))


FLAGS = [
    *tiny(model_context=128, train_steps=4),
    "--tokenizer",
    "byte",
    "--corpus",
    "small_talk",
    "--corpus.count",
    "30",
    "--no-compile",
]


def test_run_resumes_to_the_bit_and_keeps_its_template(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert nanotx_command(["train", "shakespeare_char", *FLAGS, "--run", str(whole)]) == 0
    shutil.copytree(whole, killed)
    shutil.rmtree(killed / "checkpoints/step-4")
    assert nanotx_command(["resume", str(killed)]) == 0
    for name in ("model", "optimizer"):
        first, again = (run / f"checkpoints/step-4/{name}.safetensors" for run in (whole, killed))
        assert first.read_bytes() == again.read_bytes()
    assert nanotx_command(["replay", str(whole), "--step", "4"]) == nanotx_command(["verify", str(whole)]) == 0
    assert chat_template_of(load(whole).tokenizer).source == chat_template_of(DATA.codec).source
