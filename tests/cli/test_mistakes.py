"""The most likely mistakes of a new user: each is answered by a message that says what to type instead.

RUN is a complete run of six steps on `my.txt`, in the folder `runs` of the working directory.
"""

import re
import shlex
from pathlib import Path

import pytest
from helpers import text, tiny

from nanotx.cli.command import builtin_commands
from nanotx.cli.commands.explain import recipe_flags, slots
from nanotx.cli.entry import exit_code
from nanotx.cli.main import run
from nanotx.config import other_names

FILES = {
    "empty.txt": b"",
    "short.txt": b"abcde " * 30,
    "noise.bin": bytes(range(128, 256)) * 8,
    "utf16.txt": "some text".encode("utf-16") * 90,
    "latin1.txt": b"caf\xe9 " * 100,
    "utf16le.txt": "some text ".encode("utf-16-le") * 90,
    "other.txt": "Привет, мир! ".encode() * 90,
    "my texts/a b.txt": b"abcde \n" * 200,
    "config/train_shakespeare_char.py": b"batch_size = 12\n",
    "bad.py": b"x = (1\n",
    "raises.py": b"raise ValueError('no')\n",
    "top.toml": b"steps = 10\n",
    "nanogpt.toml": b"max_iters = 10\n",
    "str.toml": b"[train]\nsteps = '10'\n",
    "syntax.toml": b"[train\nsteps=10\n",
    "typo.toml": b"[train]\nstesp = 10\n",
    "place.toml": b"[model]\nattention = 'gqa'\n",
    "place2.toml": b"attention = 'gqa'\n",
    "hyphen.toml": b"[train]\nbatch-size = 4\n",
    "some.json": b"{}",
}

FLAGS_OF_OTHERS = """
--batch_size=12                   --train.batch-size
--max_iters=100                   --train.steps
--n_layer=4                       --model.layers
--n_head=4                        --attention.heads
--n_embd=128                      --model.dim
--block_size=64                   --model.context
--learning_rate=1e-3              --optimizer.lr
--eval_interval=250               --train.eval-every
--eval_iters=20                   --train.eval-tokens
--min_lr=1e-4                     --schedule.final
--warmup_iters=100                --schedule.warmup
--beta2=0.99                      --optimizer.betas
--weight_decay=0.1                --optimizer.weight-decay
--grad_clip=1.0                   --train.grad-clip
--gradient_accumulation_steps=4   --train.grad-accum-steps
--dropout=0.2                     --attention.dropout
--bias=False                      --attention.bias
--out_dir=out                     --run
--dataset=shakespeare             --corpus
--always_save_checkpoint=True     --train.checkpoint-every
--decay_lr=False                  --schedule
--per_device_train_batch_size=8   --train.batch-size
--output_dir=out                  --run
--hidden_size=128                 --model.dim
--num_hidden_layers=4             --model.layers
--num_attention_heads=4           --attention.heads
--max_steps=10                    --train.steps
--train.max_steps=10              --train.steps
--train.lr=1                      --optimizer.lr
--train.global_batch_size=8       --train.batch-size
--train.save_interval=8           --train.checkpoint-every
--model.n_layer=4                 --model.layers
--model.heads=4                   --attention.heads
--model.attention=gqa             --attention
--max_seq_len=64                  --model.context
--data=my.txt                     --corpus
--text=my.txt                     --corpus
--file=my.txt                     --corpus
--corpus.file=my.txt              --corpus
--lr=0.001                        --optimizer.lr
--steps=10                        --train.steps
--heads=4                         --attention.heads
--layers=4                        --model.layers
--dim=64                          --model.dim
--context=64                      --model.context
--batch=4                         --train.batch-size
--gpu                             --device
--name=mine                       --run
--optimizer.beta1=0.9             --optimizer.betas
--attention.haeds=2               --attention.heads
--wandb                           --callback
"""

MISTAKES = r"""
# flags that have no equal here
2 | train NAME --epochs 3                    | --epochs: no such flag\. nanotx counts steps: --train\.steps N
2 | train NAME --train.epochs 3              | nanotx counts steps
2 | train NAME --num_train_epochs 3          | nanotx counts steps
2 | train NAME --init_from=resume            | nanotx resume RUN
2 | train NAME --log_interval=1              | Every step is logged, in metrics\.jsonl
2 | train NAME --lr_decay_iters=2000         | always spans --train\.steps
2 | train NAME --wandb_log=True              | metrics\.jsonl of the run has every figure
2 | train NAME --eval_only=True              | nanotx eval RUN
2 | train NAME --prompt hello                | nanotx sample RUN --prompt TEXT
2 | train NAME --temperature 1               | nanotx sample RUN
2 | train NAME --quiet                       | > log\.txt
2 | train NAME --model gpt2                  | A model is part of a recipe
2 | train NAME -s 10                         | Flags are written out
2 | train NAME --vocab_size 512              | have it: --tokenizer bpe --tokenizer\.vocab-size\.
2 | train NAME --tokenizer.vocab-size 512    | char has no field 'vocab_size'\. bpe, .* have it: --tokenizer bpe
2 | train NAME --attention.kv-heads 2        | gqa, sliding_gqa have it: --attention gqa --attention\.kv-heads\.
2 | train NAME --attention.n_kv_heads 2      | gqa, sliding_gqa have it: --attention gqa --attention\.kv-heads\.
# names of recipes and files
2 | train                                    | expected one of .*shakespeare_char.*, or a file such as mine\.toml
2 | train --train.steps 10                   | try nanotx train shakespeare_char --train\.steps 10
2 | train --resume RUN                       | try nanotx resume runs/t
2 | train shakespere_char                    | Did you mean 'shakespeare_char'\?
2 | train shakespeare-char                   | Did you mean 'shakespeare_char'\?
2 | train shakespeare                        | Did you mean 'shakespeare_bpe' or 'shakespeare_char'
2 | train my.txt                             | try nanotx train shakespeare_char --corpus my\.txt
2 | train "my texts/a b.txt"                 | --corpus 'my texts/a b\.txt'
2 | train RUN                                | this is a run: nanotx resume runs/t continues it
2 | train RUN/recipe.tml                     | Did you mean 'recipe\.toml'\?
2 | train config/train_shakespeare_char.py   | not of Python\. nanotx train baby_gpt is nanoGPT's
2 | train some.json                          | the name of a file ends in \.toml
2 | train missing.toml                       | missing\.toml: there is no such file
2 | train NAME my.txt                        | this is not TOML
2 | train NAME gqa                           | gqa: there is no such file\. Parts and fields are named by flags
2 | NAME                                     | this is a recipe; try nanotx train shakespeare_char
# parts
2 | train NAME --attention gpa               | Did you mean 'gqa'\?
2 | train NAME --attention multihead         | Did you mean 'sdpa'\?
2 | train NAME --attention sliding-window    | Did you mean 'sliding_window'\?
2 | train NAME --optimizer adam              | Did you mean 'adamw'\?
2 | train NAME --optimizer sgd               | Known: adamw, muon
2 | train NAME --tokenizer gpt2              | Did you mean 'tiktoken'\?
2 | train NAME --tokenizer shakespeare_bpe_521 | Did you mean 'shakespeare_bpe_512'\?
2 | train NAME --ffn gelu                    | Did you mean 'mlp'\?
2 | train NAME --norm LayerNorm              | Did you mean 'layernorm'\?
2 | train NAME --position absolute           | Did you mean 'learned'\?
2 | train NAME --schedule linear             | Did you mean 'wsd'\?
2 | train NAME --corpus shakespeare          | Did you mean 'tiny_shakespeare'\?
2 | train NAME --callback tensorbord         | Did you mean 'tensorboard'?
2 | train NAME --load missing.py             | --load missing\.py: .*there is no such file
2 | train NAME --load bad.py                 | cannot be imported: '\(' was never closed \(bad\.py, line 1\)
2 | train NAME --load raises.py              | line 1 raises ValueError: no; correct the file
# values
2 | train NAME --attention.heads 5           | try heads from \[1, 2,
2 | train NAME --train.steps 10k             | got '10k' .* Did you mean 10000\?
2 | train NAME --train.steps 1e3             | got '1e3' .* Did you mean 1000\?
2 | train NAME --train.steps                 | expected a whole number such as \d+, got nothing
2 | train NAME --train.steps 0               | expected a number of at least 1, got 0
2 | train NAME --train.steps 1 --train.steps 2 | given 2 times, with 1 and 2; give it once
2 | train NAME --train.micro_batch_size 7    | try one of \[1, 2, 4, 8, 16\]
2 | train NAME --optimizer.lr fast           | expected a number such as
2 | train NAME --optimizer.lr -1             | optimizer\.lr: expected a number of at least 0
2 | train NAME --optimizer.betas 0.9         | expected 2 values such as 0\.9
2 | train NAME --device gpu                  | got 'gpu' .* Did you mean 'cuda'\?
2 | train NAME --device cuda:0               | Did you mean 'cuda'\?
2 | train NAME --device cuda                 | torch sees none; try --device cpu
2 | train NAME --device mps                  | torch sees none; try --device cpu
2 | train NAME --dtype fp16                  | Did you mean 'float16'\?
2 | train NAME --dtype bf16                  | Did you mean 'bfloat16'\?
2 | train NAME --dtype float16 --device cpu  | float16 does not train on a CPU; try --dtype bfloat16 or float32
2 | train NAME --seed -1                     | seed: expected a number of at least 0
2 | train NAME --model.dropout 1.5           | expected a fraction from 0 up to but not including 1
2 | train NAME --run                         | --run: expected a path such as runs/mine, got nothing
2 | train NAME --run RUN                     | continue the run with --resume .in Python, resume=True., or choose
2 | train NAME --run my.txt                  | it is not a run; choose another folder
# texts
3 | train NAME --corpus missing.txt          | missing\.txt: there is no such file or folder
3 | train NAME --corpus mt.txt               | Did you mean 'my\.txt'\?
3 | train NAME --corpus empty.txt            | empty\.txt: there is no text in it
3 | train NAME --corpus utf16le.txt          | 900 of 1,800 characters are NUL characters: [^§]* iconv -f utf-16le
3 | train NAME --corpus latin1.txt           | save it as UTF-8, as iconv -f latin1 -t utf-8 does if it is Latin-1\.
3 | train NAME --corpus noise.bin            | expected UTF-8, got byte 0x80 at offset 0; save it as UTF-8
3 | train NAME --corpus utf16.txt            | the file looks like UTF-16
3 | train NAME --corpus latin1.txt           | got byte 0xe9 at offset 3; save it as UTF-8
3 | train NAME --corpus short.txt --model.context 256 | try --model\.context \d+ or a longer text
2 | train NAME --corpus my texts/a b.txt     | is quoted: --corpus 'my texts/a b\.txt'
0 | train NAME --corpus "my texts/a b.txt" --print-config | path = "my texts/a b\.txt"
3 | train NAME --corpus texts/*.md           | no file matches
3 | train NAME --corpus https://a.example/b.txt | Download it first, and name the file
# TOML
2 | train NAME top.toml                      | It belongs in the table \[train\], as steps\.
2 | train NAME nanogpt.toml                  | It belongs in the table \[train\], as steps\.
2 | train NAME str.toml                      | train\.steps: expected int such as \d+, got str '10'
2 | train NAME syntax.toml                   | this is not TOML: .*line 1
2 | train NAME typo.toml                     | Did you mean 'steps'\?
2 | train NAME place.toml                    | It belongs in the table \[model\.block\], as attention\.
2 | train NAME place2.toml                   | It belongs in the table \[model\.block\], as attention\.
2 | train NAME hyphen.toml                   | Did you mean 'batch_size'\?
# runs
2 | sample                                   | RUN: missing \(folder of the run\)
2 | sample --prompt hello                    | RUN: missing
4 | sample runs/none                         | The newest run here is runs/t\.
4 | sample runs/tt                           | Did you mean runs/t\?
4 | sample t                                 | Did you mean runs/t\?
4 | sample runs                              | It holds runs: try runs/t\.
4 | sample my.txt                            | expected a run's folder
4 | sample .                                 | The newest run here is runs/t\.
4 | sample RUN/recipe.toml                   | It belongs to the run runs/t: try runs/t\.
4 | sample RUN/checkpoints/step-6            | It belongs to the run runs/t: try runs/t --step 6\.
4 | eval RUN/checkpoints/step-6              | It belongs to the run runs/t: try runs/t --step 6\.
4 | eval RUN/checkpoints                     | It belongs to the run runs/t
4 | sample RUN --step 5                      | no checkpoint of step 5; it has \[4, 6\]\. The nearest is 4\.
4 | report runs/tt                           | Did you mean runs/t\?
4 | runs runs/tt                             | Did you mean runs/t\?
4 | log runs/tt --to csv                     | Did you mean runs/t\?
2 | train runs/tt                            | no such run\. Did you mean runs/t\?
2 | compare runs/tt --change ffn=relu2       | no such run\. Did you mean runs/t\?
4 | resume runs/none                         | The newest run here is runs/t\.
4 | resume NAME                              | expected a run's folder
2 | resume                                   | RUN: missing; it comes before the options
0 | resume RUN                               | nothing is left to do[^§]*nanotx resume runs/t --train\.steps 12
0 | train NAME --run RUN --resume            | nothing is left to do
2 | resume RUN --model.dim 32                | model\.dim was 16, not 32
2 | resume RUN --train.steps 2               | nanotx resume runs/t: the run differs: train\.steps was 6, and 2 is
2 | resume RUN --steps 12                    | Did you mean '--train\.steps'\?
4 | show runs/none                           | expected a run's folder, with a metrics\.jsonl in it\. The newest
2 | show RUN --plot loss.png                 | such as run\.svg; nanotx runs runs/t --plot curves\.png draws
4 | verify runs/none                         | The newest run here is runs/t
2 | diff RUN                                 | RUN RUN: missing \(folders of the two runs\)
4 | diff RUN runs/none                       | The newest run here is runs/t
2 | replay RUN                               | --step: missing
2 | replay RUN 3                             | Did you mean --step 3\?
# generating and evaluating
2 | sample RUN --temperature -1              | --temperature: expected a number of at least 0
2 | sample RUN --temp 1                      | Did you mean '--temperature'\?
2 | sample RUN --top-p 2                     | --top-p: expected a number above 0, at most 1
2 | sample RUN --top_k 0                     | --top-k: expected a number of at least 1
2 | sample RUN --max-new-tokens -5           | --max-new-tokens: expected a number of at least 0
2 | sample RUN --max_tokens 20               | Did you mean '--max-new-tokens'\?
2 | sample RUN --length 20                   | Did you mean '--max-new-tokens'\?
2 | sample RUN --num_samples=2               | Did you mean '--best-of'\?
2 | sample RUN --start=hello                 | Did you mean '--prompt'\?
2 | sample RUN -n 20                         | Flags are written out
2 | sample --out_dir=RUN                     | The run is given by its folder, without a flag
2 | sample RUN hello                         | Did you mean --prompt hello\?
3 | sample RUN --prompt Привет               | --prompt: char: 'П' .* is not in the alphabet
3 | sample RUN --prompts missing.txt         | --prompts missing\.txt: cannot be read
2 | sample RUN --device cuda                 | torch sees none; try --device cpu
2 | eval                                     | RUN: missing
2 | eval RUN my.txt                          | Did you mean --text my\.txt\?
2 | eval RUN --corpus other.txt              | Did you mean '--text'\?
3 | eval RUN --text other.txt                | line 1: char: 'П' .* is not in the alphabet
3 | eval RUN --text missing.txt              | there is no such file or folder
3 | eval RUN --text noise.bin                | expected UTF-8
3 | eval RUN --text empty.txt                | there is no text in it
# commands
2 | generate RUN                             | Did you mean 'nanotx sample RUN'\?
2 | evaluate RUN                             | Did you mean 'nanotx eval RUN'\?
2 | plot RUN                                 | Did you mean 'nanotx show RUN'\?
2 | run NAME                                 | Did you mean 'nanotx train NAME'\?
2 | list                                     | Did you mean 'nanotx train --help'\?
2 | info                                     | Did you mean 'nanotx doctor'\?
2 | trian NAME                               | Did you mean 'train'\?
2 | --hlep                                   | Did you mean '--help'\?
0 | help                                     | Usage: nanotx COMMAND
0 | help sample                              | Usage: nanotx sample RUN
0 | --version                                | ^nanotx \d
0 | -V                                       | ^nanotx \d
2 | speedrun NAME --taget 1.5                | ^ConfigError: nanotx speedrun shakes.*Did you mean '--target'\?
2 | speedrun --lr 1                          | ^ConfigError: nanotx speedrun record: .*Did you mean '--optimizer\.lr'
2 | laws atention                            | Did you mean 'attention'\?
2 | laws attention/spda                      | Did you mean 'sdpa'\?
2 | laws sdpa                                | Did you mean 'attention/sdpa'\?
2 | doctor RUN                               | unexpected argument
2 | tokenizer trian bpe                      | Did you mean 'train'\?
2 | tokenizer train                          | KIND: missing; expected one of bpe
2 | tokenizer train bep my.txt               | Did you mean 'bpe'\?
2 | tokenizer train my.txt                   | try nanotx tokenizer train bpe my\.txt
3 | tokenizer train bpe missing.txt          | missing\.txt: cannot be read
3 | tokenizer encode nope my.txt             | there is no such file\. .*Presets:
3 | tokenizer show RUN my.txt                | that of this run is runs/t/tokenizer\.json
2 | tokenizer compare                        | expected either files or --corpus NAME
2 | tokenizer compare my.txt byte char       | tokenizers are named by --tokenizers byte,char
2 | tokenizer compare my.txt --tokenizers bpx | Did you mean 'bpe'\?
2 | explain gapp                             | Did you mean 'gap'\?
"""


def rows(table: str) -> list[list[str]]:
    """The lines of a table, cut into cells; comments and empty lines are left out."""
    return [line.split(" | ", 2) for line in table.strip().splitlines() if line and not line.startswith("#")]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with texts, files and a run."""
    folder = tmp_path_factory.mktemp("home")
    for name, content in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    corpus = str(text(folder / "my.txt"))
    flags = tiny(train_eval_every=0, train_sample_every=0)
    assert run(["train", "shakespeare_char", "--corpus", corpus, "--run", str(folder / "runs" / "t"), *flags]) == 0
    return folder


def typed(line: str, home: Path, monkeypatch, capsys) -> tuple[int, str]:
    """The exit code of a command line, and what it prints."""
    monkeypatch.chdir(home)
    words = shlex.split(line.replace("NAME", "shakespeare_char").replace("RUN", "runs/t"))
    before = sorted(home.rglob("*"))
    capsys.readouterr()
    try:
        code = exit_code(lambda: run(words))  # a bug is raised, and fails the test
    except SystemExit as end:  # of a help page
        code = int(end.code or 0)
    assert sorted(home.rglob("*")) == before  # a mistake leaves nothing behind
    printed = capsys.readouterr()
    return code, printed.err or printed.out


@pytest.mark.parametrize(("code", "line", "answer"), rows(MISTAKES), ids=lambda cell: cell.strip())
def test_mistake_is_answered_by_what_to_type_instead(home, monkeypatch, capsys, code, line, answer):
    got, printed = typed(line, home, monkeypatch, capsys)
    assert got == int(code)
    assert re.search(answer.strip(), printed), printed
    assert "Traceback" not in printed and (not got or len(printed.splitlines()) == 1)


@pytest.mark.parametrize(("flag", "ours"), [line.split() for line in FLAGS_OF_OTHERS.strip().splitlines()])
def test_flag_of_another_library_is_answered_by_ours(home, monkeypatch, capsys, flag, ours):
    got, printed = typed(f"train NAME {flag}", home, monkeypatch, capsys)
    assert got == 2 and re.search(rf"Did you mean '{re.escape(ours)}'", printed), printed


def test_short_text_trains_with_a_warning(home, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(home)
    flags = tiny(train_steps=1, train_eval_every=0, train_sample_every=0, train_batch_size=64)
    assert run(["train", "shakespeare_char", "--corpus", "short.txt", "--run", str(tmp_path / "run"), *flags]) == 0
    warning = r"warning: the training text has 162 tokens, and each step reads 512: the model will memorise it"
    assert re.search(warning, capsys.readouterr().out)


# The tables of other names.


def test_every_name_that_is_suggested_exists():
    flags = {flag.name for _, flag in recipe_flags()}
    flags |= {"prompt", "max_new_tokens", "best_of", "temperature", "text", "step"}  # of sample and eval
    by_slot = {slot.slot: set(slot.names()) for slot in slots()}
    assert not set(other_names.FLAGS) - flags - by_slot.keys()
    for slot, names in other_names.PARTS.items():
        assert set(names.values()) <= by_slot[slot] and not names.keys() & by_slot[slot]
    assert {command.split()[0] for command in other_names.COMMANDS.values()} <= builtin_commands().keys()
    assert not other_names.COMMANDS.keys() & builtin_commands().keys()
