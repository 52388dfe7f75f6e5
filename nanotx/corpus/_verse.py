"""How the players of the playhouse speak: the lines of a speech, and the phrases that these are made of.

A scene has a mood, and the mood its own nouns; `~` stands for it in the name of a rule. A line that ends with
a full stop may be a speech's last, one that ends with a comma never is.
"""

from nanotx.corpus._words import ADJECTIVES, ALONE, CITIES, NOUNS, QUALITIES, TAKING

Rules = dict[str, dict[str, float]]


def words(text: str) -> dict[str, float]:
    """Words as alternatives of equal weight."""
    return dict.fromkeys(text.split(), 1)


def verbs(ending: str) -> dict[str, float]:
    """Every verb as a subject wants it, with what it takes."""
    forms = {
        verb: verb + (ending.removeprefix("e") if verb.endswith("e") else ending)
        for verb in words(TAKING + ALONE)
    }
    return {f"{forms[verb]} <one ~>": 1.0 for verb in words(TAKING)} | {
        forms[verb]: 1 for verb in words(ALONE)
    }


def moody(mood: str) -> Rules:
    """The rules of one mood."""
    nouns, adjectives = words(NOUNS[mood]), words(ADJECTIVES[mood])
    rules: Rules = {
        "thing ~": nouns | {f"{word} <thing ~>": 1 for word in adjectives},
        "things ~": {f"{noun}s": 1.0 for noun in nouns} | {f"{word} <things ~>": 1 for word in adjectives},
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


PLAIN: Rules = {
    "quality": words(QUALITIES),
    "city": words(CITIES),
    "hour": words("dawn even midnight noon sunset"),
}

PHRASES: Rules = {
    "one ~": {  # a thing or things, as an object
        "all <things ~>": 1,
        "every <thing ~>": 1,
        "him that <does ~>": 1,
        "my <thing ~>": 4,
        "no <thing ~>": 1,
        "our <thing ~>": 1,
        "that <thing ~>": 1,
        "the <thing ~>": 5,
        "this <thing ~>": 2,
        "those <things ~>": 2,
        "thy <thing ~>": 4,
        "your <things ~>": 1,
    },
    "it ~": {
        "my <thing ~>": 3,
        "our <thing ~>": 1,
        "the <thing ~>": 3,
        "this <thing ~>": 1,
        "thy <thing ~>": 3,
    },
    "clause ~": {  # a subject, and a verb that agrees with it
        "all <things ~> <do ~>": 2,
        "each <thing ~> <does ~>": 1,
        "he that <does ~> <does ~>": 2,
        "I <will ~>": 8,
        "my <thing ~> <does ~>": 5,
        "no <thing ~> <does ~>": 2,
        "our <things ~> <do ~>": 3,
        "she <does ~>": 2,
        "the <thing ~> <does ~>": 5,
        "this <thing ~> <does ~>": 2,
        "those <things ~> <do ~>": 2,
        "thou <dost ~>": 6,
        "thy <thing ~> <does ~>": 4,
        "we <do ~>": 3,
    },
    "will ~": {
        "am <quality>": 4,
        "cannot <act ~>": 2,
        "dare <act ~>": 1,
        "have <one ~>": 3,
        "will <act ~>": 5,
    },
    "end ~": {
        ",\n<more ~>": 9,
        ".\n<lines ~>": 9,
        ";\n<more ~>": 5,
        "!\n<lines ~>": 2,
        ":\n<more ~>": 1,
        " <beside ~>.\n<lines ~>": 8,
    },
    "beside ~": {
        "against <one ~>": 1,
        "by <one ~>": 2,
        "for <one ~>": 2,
        "in <city>": 2,
        "like <one ~>": 2,
        "till <hour>": 1,
        "to-night": 1,
        "upon <one ~>": 1,
        "with <one ~>": 2,
    },
}
# Beside the verbs of the lists: as "they", "he" and "thou" want them, and as an infinitive.
DO = {"are <quality>": 40, "do <act ~>": 20, "have <one ~>": 20, "must <act ~>": 10, "shall <act ~>": 20}
DOES = {"doth <act ~>": 15, "hath <one ~>": 20, "is <quality>": 40, "must <act ~>": 10, "shall <act ~>": 20}
DOST = {"art <quality>": 40, "canst <act ~>": 10, "hast <one ~>": 20, "shalt <act ~>": 20, "wilt <act ~>": 15}
ACT = {"be <quality>": 20, "bid <one ~> <act ~>": 5, "make <one ~> <quality>": 5, "see <one ~> <act ~>": 5}

OPENINGS: dict[str, float] = {  # the first line of a speech; CALL is how the hearer is called
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
LINES: dict[str, float] = {  # the others
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
