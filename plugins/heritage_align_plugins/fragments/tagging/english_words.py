"""English words whose part of speech is known without context, and endings that tell it."""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


DETERMINERS = _words("a an the this that these those each every either neither another some any no both all half such")

PREPOSITIONS = _words(
    """
    about above across after against along amid among amongst around as at atop before behind below beneath beside
    besides between beyond by down during except for from in inside into like near of off on onto opposite out outside
    over past per since through throughout to toward towards under underneath until up upon via with within without
    """
)

FUNCTION_WORDS = _words(
    """
    and or but nor yet so if because although though while when where whereas than then there here
    i you he she it we they me him us them my your his its our their hers theirs who whom whose which what
    himself herself itself themselves one's
    not also very too only just even still again once often almost quite rather perhaps now thus
    together apart away aside forward upward downward upwards downwards
    """
)

VERBS = _words(
    """
    am is are was were be been being has have had having do does did done can could may might must shall should will
    would
    appear appears appeared became become becomes began begin begins bore came come comes contain contains depict
    depicts derive derives embrace embraces fill fills flank flanks flee flees gave give gives go goes grow grows held
    hold holds include includes kneel kneels lay lean leans lie lies made make makes meet meets rise rises sat seem
    seems shown shows sit sits sleep sleeps stood suggest suggests surround surrounds take takes tell tells took wear
    wears wore written
    """
)
"""Forms that captions use and that seldom are nouns; bears, flies and stands are things as well, and absent."""

TRANSITIVE = _words(
    """
    adorning bearing carrying catching chasing containing covering depicting eating embracing encircling enclosing
    facing featuring filling flanking following forming giving grasping guarding having holding including making
    offering playing portraying presenting pulling representing resembling riding showing supporting surrounding
    symbolising symbolizing taking touching using watching wearing
    """
)
"""Participles that take an object, so that the noun after them is none of theirs ("a lady holding red flowers")."""

ADJECTIVES = _words(
    """
    ancient bare big blank bold bright broad circular classical clear cloudy coarse complex curly dark deep delicate
    dense double early elaborate elegant empty extra female fine flat floral fresh full geometric great heavy high holy
    hollow huge human identical imperial intricate large late left light little long loose low lower lucky main male
    many few several much more most less least minor naked narrow new numerous old open opaque other oval pale plain
    pointed pure rare raw rectangular regular rich right rough round royal sacred scaly seated shallow sharp
    shiny short similar simple single slender small smooth soft solid square stiff straight strong tall thick thin tiny
    triple twin underglaze overglaze unglazed upper upright various vivid warm white-ground whole wide wild worn young
    golden wooden silken woollen woolen earthen leaden
    """
)

NUMBERS = _words(
    "one two three four five six seven eight nine ten eleven twelve twenty thirty forty fifty sixty hundred thousand"
)

COLOURS = _words(
    """
    amber azure beige black blue bronze brown buff cobalt cream crimson cyan gold gray green grey indigo ivory lilac
    maroon mauve navy ochre orange pink purple red rose scarlet silver tan teal turquoise vermilion violet white yellow
    """
)
"""Adjectives before a noun, else nouns ("underglaze blue")."""

ADJECTIVE_ENDINGS = (
    "ous",
    "ful",
    "less",
    "ish",
    "able",
    "ible",
    "esque",
    "ese",
    "ian",
    "ic",
    "ive",
    "ial",
    "ical",
    "like",
)
NOT_ADJECTIVES = _words(
    """
    archive attic captive carriage ceramic civilian comic critic cubic custodian dish fabric fish garlic guardian
    historian italic logic magic mechanic mosaic motive music musician native olive percussive physician public radish
    relic republic table tunic topic vegetable cable stable constable bible burial memorial trial material dial fable
    parish varnish goldfish starfish catfish shellfish polish finish rubbish
    """
)

NOT_ADVERBS = _words(
    "assembly anomaly belly bully butterfly dragonfly family firefly fly gadfly italy jelly july lily monopoly reply"
)
"""Nouns in -ly; the adjectives in -ly are few (early, holy) and listed above."""

NOUNS_IN_ING = _words(
    """
    awning beginning being binding blessing building carving ceiling clothing coating covering crossing drawing dressing
    duckling earring embroidering engraving etching evening fitting gilding hanging herring inking king landing
    lettering lightning lining meaning morning moulding molding mounting opening offering painting paneling piping
    planting railing ring rigging saying setting sibling spring starling sterling string stuffing thing trimming
    viking wedding weaving wing writing
    """
)

NOUNS_IN_ED = _words("bed bleed breed creed deed feed greed need reed seed shed sled speed steed thread tweed weed")

STOP_WORDS = (
    DETERMINERS
    | PREPOSITIONS
    | FUNCTION_WORDS
    | _words(
        """
    am is are was were be been being has have had having do does did can could may might must shall should will would
    more most other few
    """
    )
)
"""Left out of the tokens of a text."""
