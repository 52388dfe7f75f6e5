"""The logbook: voyages of merchant ships, noted day by day; another English voice in the letters of Shakespeare's text.

A model of Tiny Shakespeare has an id for each of its characters, and has to learn all else anew: prose in short notes,
in the past tense, without a speaker. A voyage keeps its port and its cargo from the title to the last line, and its
days follow one another.

`3*` is the weight of an alternative, as in the voices.
"""

from functools import cache
from itertools import product

from nanotx.data.corpus.playhouse.grammar import Grammar
from nanotx.data.corpus.playhouse.rewriting import factored, read_lines

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
PORTS = ("Bergen", "Cadiz", "Danzig", "Hull", "Leith", "Riga", "Stavanger", "Whitby")
CARGOES = ("candles", "oats", "salt", "slate", "tar", "wool")

NOTES = """
title: BLACK SWAN | GOOD INTENT | GREY HERON | PATIENCE | RAMBLER | SISTERS | TEMPERANCE | WAGTAIL
harbour: Bristol | Cork | Dieppe | Fowey | Galway | Poole | Tilbury | Yarmouth
weather: Wind <quarter> <force>; <sea>, <sky>.
quarter: north, | north-east, | east, | south-east, | south, | south-west, | west, | north-west,
force: light | steady | fresh | strong | squally | dying | backing | gusting | veering
sea: smooth sea | rough sea | choppy sea | heavy swell | long swell | white horses
sky: clear sky | overcast | fog | drizzle | rain | hail | snow | thunder | haze
note: 2* Reefed <canvas>. | Set <canvas>. | Mended <canvas>. | Split <canvas> in a squall. | Furled <canvas> at <watch>.
    | Pumped <number> inches from the hold. | Sounded <number> fathoms, <ground>. | Made <number> knots until <watch>.
    | Caught <number> <fish>. | Lost <number> <fish> to the gulls. | Salted <number> <fish>.
    | 2* Sighted <sight> <side>. | Spoke the <rig> <vessel>, bound for <harbour>.
    | Passed the <rig> <vessel> <side>, <number> days from <harbour>. | Served out <ration>.
    | Opened a <cask> of <ration>; it had <worms>. | Counted the <stores> twice and am <number> short.
    | 5* The <hand> <act>. | Tarred the <gear>. | Replaced the <gear>.
    | Heard <sound> <side>, and saw nothing. | No sleep until <watch>. | Wrote home. | Slept ill.
canvas: the mainsail | the foresail | the topsail | the topgallant | the jib | the spanker | the staysail | the lugsail
number: two | three | four | five | six | seven | eight | nine | ten | eleven | twelve
ground: sand | mud | gravel | shells | clay | weed | black rock | no bottom
watch: dawn | noon | dusk | midnight | sunset | breakfast | the first watch | the dog watch
fish: cod | herring | mackerel | haddock | squid | eels | whiting | turbot | crabs | lobsters
sight: a whale | a waterspout | a wreck | a lighthouse | an iceberg | an empty boat | smoke | porpoises | a strange flag
    | drifting timber | jellyfish | three turtles | low cloud | the coast of Jutland | the Skerries
side: to port | to starboard | to leeward | ahead | astern | on the quarter
rig: brig | cutter | ketch | schooner | sloop | barque | frigate | lugger | trawler | packet
vessel: Albatross | Constance | Endeavour | Hopewell | Marigold | Providence | Venture | Bluebell | Jemima | Wanderer
ration: rum | biscuit | lime juice | salt pork | pea soup | tea | treacle | barley | pickled onions | dried plums
cask: barrel | firkin | hogshead | keg | crate | tub
worms: weevils | gone sour | frozen | been nibbled | turned green
stores: blankets | buckets | hammocks | kegs | nails | pulleys | signal flags | spoons | tallow dips | oars
hand: cook | mate | boy | carpenter | bosun | purser | cat | stowaway | pilot | sailmaker | passenger | widow
act: 4* and the <hand> <both act> | fell from the <gear> | slept through <watch> | lost a boot overboard
    | burned the porridge | mended the <gear> | has the toothache | caught a cold | painted the <gear>
    | saw <sight> and took fright | knitted a stocking | played the fiddle until <watch> | will not eat <fish>
    | talks of marriage | grows a beard | whistled, which is bad luck
both act: quarrelled over <ration> | played chequers | do not speak | polished the <gear> | shared the last <ration>
sound: bells | oars | singing | surf | a fog horn | knocking | dogs
gear: rigging | bowsprit | capstan | tiller | anchor chain | mizzen | ladder | lantern | binnacle | galley stove
    | hatches | keelson | pinnace | rudder pintles | windlass | yardarm
hour: at dawn | at noon | at dusk | at midnight | on the evening tide | on the morning tide
miles: twenty | thirty | forty | fifty | sixty | seventy | eighty | ninety | a hundred
"""


@cache
def the_logbook() -> Grammar:
    """Return the grammar of the logbook; its start is one voyage, from its title to its port."""
    rules = read_lines(NOTES)
    notes = rules.pop("note")
    title = "LOG OF THE <title>\nFrom <harbour> to"
    rules["voyage"] = {
        f"{title} {port}, laden with {cargo}.\n\n<first {port} {cargo}>": 1 for port, cargo in product(PORTS, CARGOES)
    }
    for port, cargo in product(PORTS, CARGOES):
        here = f"{port} {cargo}"
        known = {
            f"Stood on for {port}.": 1,
            f"Noon, <miles> miles from {port}.": 3,
            f"Shifted the {cargo}.": 1,
            f"Found rats in the {cargo}.": 1,
        }
        rules[f"more {here}"] = {f" {note}<more {here}>": weight for note, weight in (notes | known).items()} | {
            "\n": 9
        }
        days = {day: f"{day}. <weather><more {here}><after {day} {here}>" for day in DAYS}
        rules[f"first {here}"] = dict.fromkeys(days.values(), 1)
        arrival = f"\nMade {port} <hour>. Sold the {cargo} for <miles> crowns and paid off the crew.\n\n\n"
        for day, following in zip(DAYS, (*DAYS[1:], DAYS[0]), strict=True):
            rules[f"after {day} {here}"] = {days[following]: 8, arrival: 1}
    return Grammar(factored(rules), "voyage")
