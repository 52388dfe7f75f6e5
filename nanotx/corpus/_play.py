"""What the playhouse plays: plays of five acts, their scenes, and who speaks to whom in them.

A rule's name carries what has to be remembered: the kind of play, the mood and players of a scene, whose turn
it is. So the text has structure at every range, up to who is left on the stage when all go off.
"""

from functools import cache
from itertools import combinations, pairwise

from nanotx.corpus._factor import factored
from nanotx.corpus._grammar import Grammar
from nanotx.corpus._phrases import PLAIN, Rules
from nanotx.corpus._verse import OPENINGS, moody

Cast = tuple[str, ...]

ACTS = ("I", "II", "III", "IV", "V")
SCENES = ("I", "II", "III", "IV", "V", "VI", "VII")
KINDS = {  # of play, and how often each mood comes in it
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
CALLED: Rules = {  # how one is called to one's face, besides by name
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
    """The grammar of the playhouse; its start is one play, from its title to its end."""
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
    """The scenes of a play of this kind, and what comes after each of them until it ends."""
    rules: Rules = {kind: {f"{PLACES[mood]}.\n\n<enter {mood}>": weight for mood, weight in KINDS[kind].items()}}
    for act, next_act in pairwise((*ACTS, "")):
        over = f"ACT {next_act}\n\nSCENE I. <{kind}><{kind} {next_act} I>" if next_act else "FINIS\n\n\n\n"
        for scene, following in pairwise((*SCENES, "")):
            more = {f"SCENE {following}. <{kind}><{kind} {act} {following}>": 2} if following else {}
            rules[f"{kind} {act} {scene}"] = more | {over: 1}
    return rules


def _entrances(mood: str) -> Rules:
    """Who enters, and what each may be told."""
    casts = {f"{_listed(cast)}.\n\n{_says(mood, cast, *cast[:2])}": 1 for cast in CASTS}
    rules: Rules = {f"enter {mood}": {f"Enter <cast {mood}>": 1}, f"cast {mood}": casts}
    for player, rank in PLAYERS.items():
        rules[f"call {player}"] = CALLED[rank] | {player.title(): 3}
        rules[f"speech {mood} {player}"] = {
            text.replace("~", mood).replace("CALL", f"call {player}"): weight for text, weight in OPENINGS.items()
        }
    return rules


def _talk(mood: str, cast: Cast) -> Rules:
    """What comes when one of a cast has spoken: an answer, a noise, a play in the play, or a way off."""
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
    one, other = cast[:2]
    rules[f"left {mood} {_listed(cast)}"] = {_says(mood, cast, one, other): 1, _says(mood, cast, other, one): 1}
    return rules


def _says(mood: str, cast: Cast, speaker: str, hearer: str) -> str:
    """One of a cast speaks to another, and the talk goes on."""
    return f"{speaker}:\n<speech {mood} {hearer}><talk {mood} {_listed(cast)} {speaker}>"


def _left(mood: str, rest: Cast) -> str:
    """Those whom a player leaves: two talk on; one has a last word alone."""
    if len(rest) == 1:
        return f"{rest[0]}:\nAlone at last, <clause {mood}><end {mood}>[Exit {rest[0]}.]\n\n"
    return f"<left {mood} {_listed(rest)}>"


def _listed(cast: Cast) -> str:
    """The players as a stage direction names them."""
    return f"{', '.join(cast[:-1])} and {cast[-1]}"
