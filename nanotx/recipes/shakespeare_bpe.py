"""Shakespeare again, cut into 512 tokens that are learned from the training text.

python -m nanotx.recipes.shakespeare_bpe
python -m nanotx.recipes.shakespeare_bpe --tokenizer.vocab-size 1024

Reached: validation loss 2.9101, 2.1065 bits per byte, after 1,200 of 1,200 steps; 84 s of training.
"""

from nanotx.cli.run import main
from nanotx.data.corpus.tiny_shakespeare import TinyShakespeare
from nanotx.nn.attention.fused import Fused
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.ffn.swiglu import SwiGlu
from nanotx.nn.norm.rmsnorm import RmsNorm
from nanotx.nn.position.rope import Rope
from nanotx.nn.transformer import Model
from nanotx.optim.adamw import AdamW
from nanotx.optim.schedules.cosine import Cosine
from nanotx.recipe import Recipe, Train
from nanotx.tokenizers.bpe import Bpe

recipe = Recipe(
    corpus=TinyShakespeare(),
    tokenizer=Bpe(vocab_size=512),
    model=Model(
        dim=192,
        layers=4,
        context=128,
        position=Rope(),
        norm=RmsNorm(),
        block=PreNorm(attention=Fused(heads=4), ffn=SwiGlu(), norm=RmsNorm()),
    ),
    optimizer=AdamW(lr=3e-3),
    schedule=Cosine(warmup=50, final=0.05),
    train=Train(steps=1200, batch_size=16, eval_every=200, sample_every=200, checkpoint_every=400),
)

if __name__ == "__main__":
    main(recipe)
