"""Shakespeare again, cut into 512 tokens that are learned from the training text.

    python -m nanotx.recipes.shakespeare_bpe
    python -m nanotx.recipes.shakespeare_bpe --tokenizer.vocab-size 1024
"""

from dataclasses import replace

from nanotx.recipes.shakespeare_char import recipe as shakespeare_char
from nanotx.run import main
from nanotx.tokenizers.bpe import Bpe

recipe = replace(shakespeare_char, tokenizer=Bpe(vocab_size=512))

if __name__ == "__main__":
    main(recipe)
