"""A character-level transformer on Tiny Shakespeare, sized for some minutes of a laptop's CPU.

python -m nanotx.recipes.shakespeare_char
python -m nanotx.recipes.shakespeare_char recipes/macbook.toml --train.steps 500

Reached: measured again before it is stated.
"""

from nanotx.cli.run import main
from nanotx.data.corpus.tiny_shakespeare import TinyShakespeare
from nanotx.nn.attention.fused import Fused
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
    tokenizer=Char(),
    model=Model(
        dim=128,
        layers=4,
        context=128,
        embedding=Tokens(),
        position=Rope(),
        norm=RmsNorm(),
        block=PreNorm(attention=Fused(heads=4, qk_norm=True), ffn=Relu2(), norm=RmsNorm()),
    ),
    optimizer=Muon(lr=0.02, weight_decay=0.0),
    schedule=Wsd(warmup=30, decay=0.7),
    train=Train(steps=800, batch_size=16, eval_every=200, sample_every=400, checkpoint_every=400),
)

if __name__ == "__main__":
    main(recipe)
