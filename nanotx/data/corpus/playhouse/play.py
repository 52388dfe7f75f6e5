"""The English playhouse: its words, phrases and verse, its characters, and plays of five acts.

In a rule `~` is replaced by the mood of a scene, which selects its nouns. A line that ends with a full stop may be the
last of a speech; a line that ends with a comma never is.

The name of a rule holds its state: the kind of play, the mood and players of a scene, and who speaks. So the text has
structure at every range, up to who is left on the stage when all go off.
"""

from functools import cache
from itertools import combinations, pairwise

from nanotx.data.corpus.playhouse.grammar import Grammar
from nanotx.data.corpus.playhouse.rewriting import factored

NOUNS = {  # by the mood of a scene; each takes an s in the plural
    "war": """
        archer arrow banner battle blade cannon captain charger colour dagger drum engine ensign fort gate
        gauntlet general hammer helmet herald javelin king knave knight lance legion marshal musket oath
        onset pennon pike quarrel rampart rebel scar sergeant siege soldier sword tent tower traitor trumpet
        usurper victor village wall warhorse wound""",
    "love": """
        angel apple arbour blossom cheek cherub courtship cupid dimple dream eye favour flower fountain
        garland glance glove heart honeycomb jewel lad locket lover lute maiden meadow nightingale orchard
        pearl petal promise ribbon ring rival robin rosebud secret sigh song sonnet suitor swain swallow
        tear token turtle-dove valentine verse violet vow whisper wooer youth""",
    "court": """
        ambassador audience bishop bribe cardinal chamberlain chancellor charter council courtier crown debt
        decree deed duke earl edict envoy estate favour flatterer fortune guest heir honour jester judge law
        letter minister monarch noble ornament page palace pardon petition prince queen realm robe sceptre
        seal statute subject throne title usher vassal verdict warrant""",
    "night": """
        adder apparition bat beldam bell candle cauldron charm coffin cricket crow curse demon dream echo
        fiend flame ghost goblin grave groan hermit hollow imp jackdaw knell lantern monster moon murderer
        nightmare oak omen owl phantom portent prophet raven riddle rook serpent shadow skull spectre spell
        spirit star storm toad tomb urn vapour vision wanderer warlock whirlwind wizard worm""",
}
ADJECTIVES = {  # that come with the nouns of each mood
    "war": "bloody bright broken dreadful faithful iron mighty naked rusty silver stout sudden valiant weary",
    "love": "blushing dainty fickle golden lovely merry purple silken sleepy tender unkind yielding",
    "court": "ancient crafty gilded humble learned proud rich royal solemn subtle wise zealous",
    "night": "ashen black dark dismal fearful ghastly haunted idle lonely mournful pale quiet sable",
}
QUALITIES = """
    absent angry base bitter blessed blind bold brief cheap cold constant cruel cunning dead deaf dear deep
    empty equal fair faint false fatal fierce foul frail gentle glad gone great harsh heavy hidden hollow
    honest hot humble idle just keen kind lame late lost loud lowly mad meek mild mute near new noble old
    past patient plain poor pure quick rare ready ripe rude sad safe scarce secure sharp short sick slow
    soft sore sour strange strong sure sweet tame thin true ugly unkind vain vile warm weak wild wise worthy
    young"""
TAKING = """
    accuse adore await banish betray bless challenge change comfort command crave curse defend despise
    disdain doubt draw endure entreat fear feed find follow forgive forsake greet guard guide hate heal hide
    hold honour invite judge keep know lead learn lend lose love mend mock mourn name need obey offend open
    praise prove pursue question raise redeem remember reward scorn seek serve show slander slay spare spend
    summon sway teach tempt thank touch trust uphold warn watch wear"""  # transitive verbs
ALONE = """
    abate abide arise blush boast bow break burn cease complain dance depart despair die dream dwell fade
    fail faint fall falter fight flee flourish kneel lament languish laugh linger live melt mutter perish
    plead prevail quake rage rejoice repent return ride sail shine shiver sigh sing sink sleep smile speak
    stand starve stay stray strive stumble suffer swear sweat swoon thrive toil tremble vanish wait wake
    walk wander weep whisper wither yawn yield"""  # intransitive verbs
CITIES = """
    Antioch Arden Athens Bohemia Bristow Burgundy Calais Corinth Cyprus Dover Elsinore Florence Genoa
    Harfleur Illyria Jerusalem Kent Lisbon London Mantua Milan Naples Navarre Orleans Padua Paris Rhodes
    Rome Sicily Sparta Thebes Tyre Utrecht Venice Verona Vienna Windsor York Zara"""


Choices = dict[str, int]  # texts and their weights
Rules = dict[str, Choices]


def words(text: str) -> Choices:
    """Return the words of a text as alternatives of equal weight."""
    return dict.fromkeys(text.split(), 1)


def verbs(ending: str) -> Choices:
    """Return every verb with the ending that agrees with its subject, and with its object if it takes one."""
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
# Besides the verbs of the lists: the forms that agree with "they", "he" and "thou", and the infinitive.
DO: Choices = {"are <quality>": 40, "do <act ~>": 20, "have <one ~>": 20, "must <act ~>": 10, "shall <act ~>": 20}
DOES: Choices = {"doth <act ~>": 15, "hath <one ~>": 20, "is <quality>": 40, "must <act ~>": 10, "shall <act ~>": 20}
DOST: Choices = {"art <quality>": 40, "canst <act ~>": 10, "hast <one ~>": 20, "shalt <act ~>": 20, "wilt <act ~>": 15}
ACT: Choices = {"be <quality>": 20, "bid <one ~> <act ~>": 5, "make <one ~> <quality>": 5, "see <one ~> <act ~>": 5}


def moody(mood: str) -> Rules:
    """Return the rules of one mood."""
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


OPENINGS: Choices = {  # the first line of a speech; CALL is the form of address of the hearer
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


Cast = tuple[str, ...]

ACTS = ("I", "II", "III", "IV", "V")
SCENES = ("I", "II", "III", "IV", "V", "VI", "VII")
KINDS = {  # of play, with the weight of each mood in it
    "COMEDY": {"war": 1, "love": 6, "court": 3, "night": 1},
    "HISTORY": {"war": 5, "love": 1, "court": 5, "night": 1},
    "TRAGEDY": {"war": 2, "love": 2, "court": 3, "night": 5},
}
PLACES = {
    "war": "Before the walls of <city>",
    "love": "A garden in <city>",
    "court": "The court of <city>",
    "night": "Midnight. A heath near <city>",
}
NOISES = {"war": "Alarum", "love": "Music within", "court": "Flourish", "night": "Thunder"}
CALLED: Rules = {  # forms of address by rank, besides the name
    "king": {"dread sovereign": 1, "good my liege": 1, "my liege": 3, "sire": 2, "your majesty": 2},
    "lady": {"fair mistress": 1, "gentle lady": 2, "madam": 3, "sweet lady": 2},
    "lord": {"brave cousin": 1, "good sir": 2, "my lord": 4, "noble friend": 1, "worthy captain": 1},
    "fool": {"fool": 2, "good fellow": 1, "knave": 1, "my merry man": 1, "sirrah": 3},
}
PLAYERS = {
    "ALDRED": "king",
    "BEATRIX": "lady",
    "CUTHBERT": "fool",
    "DUNSTAN": "lord",
    "EDITH": "lady",
    "FERGUS": "lord",
    "GAWAIN": "lord",
    "HILDEGARD": "lady",
    "ISOLDE": "lady",
    "JASPER": "fool",
    "KENELM": "king",
    "LUCIAN": "lord",
    "MIRABEL": "lady",
    "NED": "fool",
    "OSRIC": "king",
    "PIPKIN": "fool",
    "ROSAMUND": "lady",
    "SIWARD": "lord",
    "TRISTRAM": "lord",
    "ULRIC": "lord",
    "WAT": "fool",
    "XANTHE": "lady",
}
CASTS: tuple[Cast, ...] = (
    ("ALDRED", "DUNSTAN", "ISOLDE"),
    ("BEATRIX", "PIPKIN", "GAWAIN"),
    ("CUTHBERT", "ULRIC", "EDITH"),
    ("FERGUS", "KENELM", "WAT"),
    ("HILDEGARD", "JASPER", "SIWARD"),
    ("LUCIAN", "ROSAMUND", "NED"),
    ("MIRABEL", "TRISTRAM", "ALDRED"),
    ("OSRIC", "XANTHE", "CUTHBERT"),
    ("ROSAMUND", "FERGUS", "BEATRIX"),
    ("TRISTRAM", "PIPKIN", "KENELM"),
)


@cache
def the_play() -> Grammar:
    """Return the grammar of the playhouse; its start is one play, from its title to its end."""
    rules: Rules = {
        "play": {f"THE {kind} OF <player>\n\n\nACT I\n\nSCENE I. <{kind}><{kind} I I>": 1 for kind in KINDS},
        "player": {player: 1 for cast in CASTS for player in cast},
        **PLAIN,
    }
    for kind in KINDS:
        rules |= _acts(kind)
    for mood in PLACES:
        rules |= moody(mood) | _entrances(mood)
        for cast in CASTS:
            rules |= _talk(mood, cast)
            for pair in combinations(cast, 2):
                rules |= _talk(mood, pair)
    return Grammar(factored(rules), "play")


def _acts(kind: str) -> Rules:
    """Return the rules of the scenes of a play of this kind, and of what follows each of them."""
    rules: Rules = {kind: {f"{PLACES[mood]}.\n\n<enter {mood}>": weight for mood, weight in KINDS[kind].items()}}
    for act, next_act in pairwise((*ACTS, "")):
        over = f"ACT {next_act}\n\nSCENE I. <{kind}><{kind} {next_act} I>" if next_act else "FINIS\n\n\n\n"
        for scene, following in pairwise((*SCENES, "")):
            more = {f"SCENE {following}. <{kind}><{kind} {act} {following}>": 2} if following else {}
            rules[f"{kind} {act} {scene}"] = more | {over: 1}
    return rules


def _entrances(mood: str) -> Rules:
    """Return the rules of who enters, of the forms of address, and of the speeches to each player."""
    casts = {f"{_listed(cast)}.\n\n{_says(mood, cast, *cast[:2])}": 1 for cast in CASTS}
    rules: Rules = {f"enter {mood}": {f"Enter <cast {mood}>": 1}, f"cast {mood}": casts}
    for player, rank in PLAYERS.items():
        rules[f"call {player}"] = CALLED[rank] | {player.title(): 3}
        rules[f"speech {mood} {player}"] = {
            text.replace("~", mood).replace("CALL", f"call {player}"): weight for text, weight in OPENINGS.items()
        }
    return rules


def _talk(mood: str, cast: Cast) -> Rules:
    """Return the rules of what follows a speech: an answer, a noise, a play within the play, or an exit."""
    rules: Rules = {}
    for player in cast:
        rest = tuple(other for other in cast if other != player)
        here = f"<talk {mood} {_listed(cast)} {player}>"
        rules[here[1:-1]] = {_says(mood, cast, other, player): 120 // len(rest) for other in rest} | {
            f"[{NOISES[mood]}.]\n\n{here}": 5,
            f"[The players play.]\n\n<enter {mood}>[The players withdraw.]\n\n{here}": 1,
            f"[Exeunt {_listed(cast)}.]\n\n": 10,
            f"[Exit {player}.]\n\n{_left(mood, rest)}": 10,
        }
    first, second = cast[:2]
    rules[f"left {mood} {_listed(cast)}"] = {_says(mood, cast, first, second): 1, _says(mood, cast, second, first): 1}
    return rules


def _says(mood: str, cast: Cast, speaker: str, hearer: str) -> str:
    """Return the text in which one player speaks to another and the talk continues."""
    return f"{speaker}:\n<speech {mood} {hearer}><talk {mood} {_listed(cast)} {speaker}>"


def _left(mood: str, rest: Cast) -> str:
    """Return the text after a player's exit: two others continue to talk; a single one has the last word."""
    if len(rest) == 1:
        return f"{rest[0]}:\nAlone at last, <clause {mood}><end {mood}>[Exit {rest[0]}.]\n\n"
    return f"<left {mood} {_listed(rest)}>"


def _listed(cast: Cast) -> str:
    """Return the players as a stage direction names them."""
    return f"{', '.join(cast[:-1])} and {cast[-1]}"
