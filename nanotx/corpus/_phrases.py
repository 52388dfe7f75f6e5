"""Phrases of the playhouse: a thing, a clause whose verb agrees with its subject, what may stand beside.

`~` stands for the mood of a scene, whose nouns they use.
"""

from nanotx.corpus._words import ALONE, CITIES, QUALITIES, TAKING

Choices = dict[str, int]  # texts and their weights
Rules = dict[str, Choices]


def words(text: str) -> Choices:
    """Words as alternatives of equal weight."""
    return dict.fromkeys(text.split(), 1)


def verbs(ending: str) -> Choices:
    """Every verb as a subject wants it, with what it takes."""
    forms = {
        verb: verb + (ending.removeprefix("e") if verb.endswith("e") else ending) for verb in words(TAKING + ALONE)
    }
    return {f"{forms[verb]} <one ~>": 1 for verb in words(TAKING)} | {forms[verb]: 1 for verb in words(ALONE)}


PLAIN: Rules = {"quality": words(QUALITIES), "city": words(CITIES), "hour": words("dawn even midnight noon sunset")}

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
    "it ~": {"my <thing ~>": 3, "our <thing ~>": 1, "the <thing ~>": 3, "this <thing ~>": 1, "thy <thing ~>": 3},
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
    "will ~": {"am <quality>": 4, "cannot <act ~>": 2, "dare <act ~>": 1, "have <one ~>": 3, "will <act ~>": 5},
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
DO: Choices = {"are <quality>": 40, "do <act ~>": 20, "have <one ~>": 20, "must <act ~>": 10, "shall <act ~>": 20}
DOES: Choices = {"doth <act ~>": 15, "hath <one ~>": 20, "is <quality>": 40, "must <act ~>": 10, "shall <act ~>": 20}
DOST: Choices = {"art <quality>": 40, "canst <act ~>": 10, "hast <one ~>": 20, "shalt <act ~>": 20, "wilt <act ~>": 15}
ACT: Choices = {"be <quality>": 20, "bid <one ~> <act ~>": 5, "make <one ~> <quality>": 5, "see <one ~> <act ~>": 5}
