"""Texts that are hard for tokenizers: for laws, tests and proofs."""

TROUBLE = (
    *(
        "\x85",
        "\u2028",
        "\u2029",
        "\x1c",
        "\x1d",
        "\x1e",
        "\x1f",
        "\x0b",
        "\x0c",
        "\r\n",
        "\r",
        "\n\n",
        "\t",
    ),  # line ends
    *(" ", " " * 20, "\xa0", "\u3000", "\u200b", "\u200d", "\ufeff", "\x00", "\x7f", "\ufffd", "\ufffe", "\x80"),
    *("e\u0301", "\u00e9", "\u1100\u1161", "\u0344", "\u212b", "\ufb01", "\u0130", "\u1e9e", "\u03c2"),  # forms, cases
    *("\U0001f600", "\U0001f469\u200d\U0001f680", "\U00010000", "\U0010ffff", "\ud7ff", "\ue000", "\uffff"),
    *("0123456789", "'ll", "<|endoftext|>", "<unk>", "\\n", '"', "\u0661\u0662"),
)
"""Texts that broke a tokenizer in the past."""
