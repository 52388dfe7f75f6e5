"""A character-level transformer on Tiny Shakespeare, sized for some minutes of a laptop's CPU.

python -m nanotx.recipes.shakespeare_char
python -m nanotx.recipes.shakespeare_char recipes/macbook.toml --train.steps 500

What each part of it is worth: docs/what_each_part_is_worth.md

Reached: validation loss 1.5289, 2.2058 bits per byte, after 1,000 of 1,000 steps; 99 s of training, 120 s from the
start of the process to its end, where nanoGPT's laptop command takes 113 s; seeds 1338 and 1339: 1.5360 and 1.5285.
"""

from nanotx.cli.run import main
from nanotx.data.corpus.tiny_shakespeare import TinyShakespeare
from nanotx.nn.attention.blockwise import Blockwise
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.embedding.tokens import Tokens
from nanotx.nn.ffn.relu2 import Relu2
from nanotx.nn.norm.rmsnorm import RmsNorm
from nanotx.nn.position.rope import Rope
from nanotx.nn.transformer import Model
from nanotx.optim.muon import Muon
from nanotx.optim.schedules.wsd import Wsd
from nanotx.recipe import Recipe, Train
from nanotx.tokenizers.char import Char

recipe = Recipe(
    corpus=TinyShakespeare(),
    tokenizer=Char(),  # 65 ids: nothing to learn before the first step, and every id is a letter one can read
    model=Model(
        dim=128,  # 3 layers of 160 and 2 of 192 were no better in first tries, 6 of 96 were worse
        layers=4,
        context=128,  # two or three lines; windows of 256, half as many, were no better
        embedding=Tokens(),  # a row for each character, shared with the head
        position=Rope(),  # where a character is: as an angle between query and key
        norm=RmsNorm(),  # a norm without a mean to subtract
        block=PreNorm(
            # `fused` in fewer seconds; 32 numbers a head; the norm of q and k bears a high learning rate
            attention=Blockwise(heads=4, qk_norm=True),
            ffn=Relu2(),  # the square of the ReLU: no exponential to compute
            norm=RmsNorm(),
        ),  # no dropout: the text is read twice, and dropout only cost
    ),
    optimizer=Muon(
        lr=0.014,  # 0.01 to 0.02 are much alike, 0.04 is worse
        momentum=0.85,  # the average of some seven gradients: a run of this length has no time for twenty
        weight_decay=0.0,  # 0.1 was no better over so few steps
        adamw_lr=0.02,  # of the embedding, which AdamW steps
    ),
    schedule=Wsd(warmup=30, decay=0.7),  # up in 30 steps; down to zero over the last 70%
    train=Train(
        steps=1000,  # below 1.55 with room for an unlucky seed
        batch_size=16,  # 8 learn more from a text, and take longer for it
        eval_every=250,  # four times; a sample and a checkpoint with it
        sample_every=250,
        checkpoint_every=250,
    ),
)

if __name__ == "__main__":
    main(recipe)
