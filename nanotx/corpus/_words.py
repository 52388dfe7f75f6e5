"""The words of the playhouse. In a list, none is the beginning of another."""

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
    summon sway teach tempt thank touch trust uphold warn watch wear"""  # verbs that take a thing
ALONE = """
    abate abide arise blush boast bow break burn cease complain dance depart despair die dream dwell fade
    fail faint fall falter fight flee flourish kneel lament languish laugh linger live melt mutter perish
    plead prevail quake rage rejoice repent return ride sail shine shiver sigh sing sink sleep smile speak
    stand starve stay stray strive stumble suffer swear sweat swoon thrive toil tremble vanish wait wake
    walk wander weep whisper wither yawn yield"""  # verbs that take none
CITIES = """
    Antioch Arden Athens Bohemia Bristow Burgundy Calais Corinth Cyprus Dover Elsinore Florence Genoa
    Harfleur Illyria Jerusalem Kent Lisbon London Mantua Milan Naples Navarre Orleans Padua Paris Rhodes
    Rome Sicily Sparta Thebes Tyre Utrecht Venice Verona Vienna Windsor York Zara"""
