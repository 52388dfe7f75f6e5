"""How the players of the playhouse speak: the lines of a speech.

`~` stands for the mood of a scene. A line that ends with a full stop may be a speech's last; one that
ends with a comma never is.
"""

from nanotx.corpus._phrases import ACT, DO, DOES, DOST, PHRASES, Choices, Rules, verbs, words
from nanotx.corpus._words import ADJECTIVES, NOUNS


def moody(mood: str) -> Rules:
    """The rules of one mood."""
    nouns, adjectives = words(NOUNS[mood]), words(ADJECTIVES[mood])
    rules: Rules = {
        "thing ~": nouns | {f"{word} <thing ~>": 1 for word in adjectives},
        "things ~": {f"{noun}s": 1 for noun in nouns} | {f"{word} <things ~>": 1 for word in adjectives},
        **PHRASES,
        "do ~": verbs("") | DO,
        "does ~": verbs("eth") | DOES,
        "dost ~": verbs("est") | DOST,
        "act ~": verbs("") | ACT,
        "more ~": LINES,
        "lines ~": LINES | {"\n": 30},
    }
    return {
        name.replace("~", mood): {text.replace("~", mood): weight for text, weight in choices.items()}
        for name, choices in rules.items()
    }


OPENINGS: Choices = {  # the first line of a speech; CALL is how the hearer is called
    "(Aside) Methinks <clause ~><end ~>": 1,
    "Ay, <CALL>; <clause ~><end ~>": 2,
    "Be <quality>, <CALL>, or <act ~><end ~>": 1,
    "Come, <CALL>, let us <act ~><end ~>": 1,
    "Dost thou <act ~>?\n<lines ~>": 2,
    "Fear not, <CALL>; <clause ~><end ~>": 1,
    "Good morrow, <CALL>.\n<lines ~>": 1,
    "Hark, <CALL>: <clause ~><end ~>": 1,
    "I <will ~><end ~>": 4,
    "Know, <CALL>, that <clause ~><end ~>": 1,
    "My <thing ~> <does ~><end ~>": 2,
    "Nay, <CALL>, <clause ~><end ~>": 3,
    "No, <CALL>.\n<lines ~>": 1,
    "O <CALL>, <clause ~><end ~>": 2,
    "Peace, <CALL>!\n<lines ~>": 1,
    "Speak, <CALL>: <clause ~>?\n<lines ~>": 1,
    "The <thing ~> <does ~>, <CALL><end ~>": 2,
    "Thou <dost ~><end ~>": 2,
    "What <thing ~> <does ~>, <CALL>?\n<lines ~>": 2,
    "Who <does ~>, <CALL>?\n<lines ~>": 1,
    "Yes, <CALL>.\n<lines ~>": 1,
}
LINES: Choices = {  # the others
    "And <clause ~><end ~>": 8,
    "But <clause ~><end ~>": 5,
    "By my <thing ~>, <clause ~><end ~>": 1,
    "Come, let us <act ~><end ~>": 2,
    "Do not <act ~><end ~>": 3,
    "Even as <clause ~>,\nSo <clause ~><end ~>": 2,
    "For <clause ~><end ~>": 5,
    "Give me <one ~><end ~>": 2,
    "How <quality> is <it ~>!\n<lines ~>": 2,
    "I <will ~><end ~>": 5,
    "If <clause ~>,\nThen <clause ~><end ~>": 4,
    "In <city> <clause ~><end ~>": 2,
    "Is <it ~> <quality>?\n<lines ~>": 2,
    "It is <quality> to <act ~><end ~>": 2,
    "Let <one ~> <act ~><end ~>": 3,
    "My <thing ~> <does ~><end ~>": 4,
    "No <thing ~> <does ~><end ~>": 2,
    "O <quality> <thing ~>! O <quality> <thing ~>!\n<lines ~>": 2,
    "Pray that <clause ~><end ~>": 2,
    "Quoth the <thing ~>, '<clause ~>'<end ~>": 1,
    "Some say <clause ~><end ~>": 2,
    "The <thing ~> <does ~><end ~>": 4,
    "This <thing ~> <does ~><end ~>": 1,
    "Those <things ~> <do ~><end ~>": 1,
    "Thou <dost ~><end ~>": 3,
    "Thy <thing ~> <does ~><end ~>": 3,
    "Vain is <it ~><end ~>": 1,
    "What <thing ~> <does ~>?\n<lines ~>": 2,
    "When <clause ~>,\nThen <clause ~><end ~>": 2,
    "Where is <it ~>?\n<lines ~>": 1,
    "Who <does ~>?\n<lines ~>": 2,
    "Why dost thou <act ~>?\n<lines ~>": 2,
    "Yet <clause ~><end ~>": 5,
    "Zounds, <clause ~>!\n<lines ~>": 1,
}
