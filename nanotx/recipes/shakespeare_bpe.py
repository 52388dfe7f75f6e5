"""Shakespeare again, cut into 512 tokens that are learned from the training text.

python -m nanotx.recipes.shakespeare_bpe
python -m nanotx.recipes.shakespeare_bpe --tokenizer.vocab-size 1024

Reached: validation loss 2.9101, 2.1065 bits per byte, after 1,200 of 1,200 steps; 84 s of training.
"""

from nanotx.attention.fused import Fused
from nanotx.block.prenorm import PreNorm
from nanotx.corpus.tiny_shakespeare import TinyShakespeare
from nanotx.ffn.swiglu import SwiGlu
from nanotx.model import Model
from nanotx.norm.rms import Rms
from nanotx.optimizers.adamw import AdamW
from nanotx.position.rope import Rope
from nanotx.recipe import Recipe, Train
from nanotx.run import main
from nanotx.schedules.cosine import Cosine
from nanotx.tokenizers.bpe import Bpe

recipe = Recipe(
    corpus=TinyShakespeare(),
    tokenizer=Bpe(vocab_size=512),
    model=Model(
        dim=192,
        layers=4,
        context=128,
        position=Rope(),
        norm=Rms(),
        block=PreNorm(attention=Fused(heads=4), ffn=SwiGlu(), norm=Rms()),
    ),
    optimizer=AdamW(lr=3e-3),
    schedule=Cosine(warmup=50, final=0.05),
    train=Train(steps=1200, batch=16, eval_every=200, sample_every=200, checkpoint_every=400),
)

if __name__ == "__main__":
    main(recipe)
