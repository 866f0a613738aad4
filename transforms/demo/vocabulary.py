"""The words of the demo world: twelve topics, four niches each, and sentences that fit them.

Subjects are plural or mass noun phrases in lower case, so that every title pattern stays
grammatical: "Slow-cooked ramen in 12 minutes", "What nobody tells you about night trains".
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Niche:
    """A narrow interest inside a topic, such as `ramen` inside `cooking`."""

    name: str
    subjects: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Topic:
    """A category of the catalogue with its own vocabulary."""

    name: str
    niches: tuple[Niche, ...]
    patterns: tuple[str, ...]
    """Title patterns of this topic; `{s}` is the subject, `{n}` a number from 2 to 40."""
    details: tuple[str, ...]
    """Sentences of the text that speak about the subject."""


def _topic(
    name: str, niches: dict[str, str], patterns: tuple[str, ...], details: tuple[str, ...]
) -> Topic:
    split = tuple(Niche(key, tuple(words.split(", "))) for key, words in niches.items())
    return Topic(name, split, patterns, details)


TOPICS: Final[tuple[Topic, ...]] = (
    _topic(
        "cooking",
        {
            "ramen": "slow-cooked ramen, spicy miso ramen, cold ramen, instant ramen upgrades",
            "baking": "sourdough bread, cinnamon rolls, lemon tarts, flourless brownies",
            "grill": "charcoal ribs, grilled halloumi, smoked brisket, street corn",
            "vegan": "lentil curry, tofu scrambles, chickpea burgers, cashew cheese",
        },
        ("{S} in {n} minutes", "{S} with only {n} ingredients"),
        (
            "Everything comes from one pan and a cheap supermarket shelf.",
            "The trick is to season early and taste twice.",
            "Leftovers keep for three days in the fridge.",
        ),
    ),
    _topic(
        "fitness",
        {
            "running": "tempo runs, trail running shoes, marathon plans, easy miles",
            "strength": "deadlifts, kettlebell swings, push-up ladders, pull-up progressions",
            "yoga": "morning stretches, sun salutations, hip openers, breathing drills",
            "cycling": "hill repeats, gravel rides, indoor intervals, century rides",
        },
        ("{S} for {n} days straight", "{n} weeks of {s}"),
        (
            "Warm up first and stop when something hurts.",
            "The plan fits into a lunch break and needs no gym.",
            "Rest days count as much as the hard ones.",
        ),
    ),
    _topic(
        "travel",
        {
            "trains": "night trains, scenic railways, interrail routes, sleeper cabins",
            "hiking": "hut-to-hut trails, coastal walks, summit sunrises, long-distance paths",
            "cities": "old town walks, rooftop views, food markets, weekend city breaks",
            "islands": "hidden beaches, island ferries, snorkelling bays, volcano tours",
        },
        ("{S} on {n} euros a day", "{n} hours of {s}"),
        (
            "The map and the prices are in the comments.",
            "Go early in the morning and you have it to yourself.",
            "A small backpack is all that you need.",
        ),
    ),
    _topic(
        "music",
        {
            "guitar": "fingerstyle guitar, blues licks, open tunings, guitar pedals",
            "piano": "jazz chords, late-night piano covers, left-hand patterns, film themes",
            "electronic": "modular synths, ambient loops, drum machines, lo-fi beats",
            "choir": "four-part harmonies, warm-up songs, barbershop tags, folk ballads",
        },
        ("{S} with {n} chords", "{n} takes of {s}"),
        (
            "Recorded at home with a single microphone.",
            "Slow it down first and speed comes by itself.",
            "The tabs and the settings are pinned below.",
        ),
    ),
    _topic(
        "gaming",
        {
            "speedruns": "glitchless speedruns, any-percent routes, boss skips, record splits",
            "strategy": "opening builds, late-game economies, map control, hex-grid battles",
            "cozy": "farming sims, island decorating, pixel gardens, quiet puzzle games",
            "retro": "cartridge repairs, forgotten platformers, 8-bit soundtracks, arcade cabinets",
        },
        ("{S} in under {n} minutes", "{n} levels of {s}"),
        (
            "No mods were used, only patience and a worn controller.",
            "The settings are shown at the end of the clip.",
            "The last boss took longer than all the others together.",
        ),
    ),
    _topic(
        "technology",
        {
            "robots": "walking robots, robot arms, line followers, servo calibration",
            "coding": "tiny compilers, shell tricks, debugging habits, clean pull requests",
            "photography": "street portraits, long exposures, film scanning, phone cameras",
            "energy": "balcony solar panels, heat pumps, home batteries, smart thermostats",
        },
        ("{S} for less than {n}0 euros", "{S} after {n} months"),
        (
            "All the numbers are measured and none come from the box.",
            "The source files are free to copy and to change.",
            "It broke twice before it worked, and both times are shown.",
        ),
    ),
    _topic(
        "style",
        {
            "thrift": "thrifted coats, flea market finds, vintage denim, charity shop hauls",
            "sewing": "hand-sewn shirts, visible mending, linen trousers, quilted jackets",
            "skincare": "gentle cleansers, sunscreen routines, winter creams, overnight masks",
            "sneakers": "restored sneakers, white trainers, lace styles, sole swaps",
        },
        ("{S} under {n} euros", "{n} outfits with {s}"),
        (
            "Nothing here is sponsored and most of it is second-hand.",
            "Wear it twice before you decide.",
            "Sizes and materials are listed in the comments.",
        ),
    ),
    _topic(
        "animals",
        {
            "dogs": "rescue dogs, recall training, muddy walks, puppy manners",
            "cats": "shy cats, window perches, clicker tricks, cat introductions",
            "birds": "garden birds, nest cameras, owl calls, bird feeders",
            "aquariums": "planted tanks, shrimp colonies, aquascapes, pond filters",
        },
        ("{S} after {n} days", "{n} minutes of {s}"),
        (
            "Patience and small treats did most of the work.",
            "Nobody was harmed, although one sofa was.",
            "Ask a vet before you copy the diet.",
        ),
    ),
    _topic(
        "science",
        {
            "space": "moon landings, comet tails, radio telescopes, rocket engines",
            "chemistry": "colour-changing reactions, crystal gardens, kitchen acids, flame tests",
            "ocean": "deep-sea vents, glowing plankton, whale songs, tide pools",
            "maths": "impossible tilings, prime gaps, card shuffles, knot puzzles",
        },
        ("{S} explained in {n} minutes", "{n} facts about {s}"),
        (
            "The paper behind it is linked in the comments.",
            "You can repeat the experiment with things from a kitchen.",
            "The answer surprised the people who ran the study too.",
        ),
    ),
    _topic(
        "crafts",
        {
            "woodwork": "dovetail joints, carved spoons, workbench builds, reclaimed shelves",
            "pottery": "wheel-thrown bowls, ash glazes, pinch pots, kiln openings",
            "knitting": "cable sweaters, colourwork mittens, sock heels, yarn swaps",
            "paper": "folded cranes, hand-bound notebooks, lino prints, pop-up cards",
        },
        ("{S} from {n} scraps", "{S} in {n} steps"),
        (
            "The template is free and fits on one page.",
            "Measure twice and cut once, as always.",
            "The first try failed and is shown too.",
        ),
    ),
    _topic(
        "gardening",
        {
            "vegetables": "balcony tomatoes, giant pumpkins, winter salads, purple carrots",
            "houseplants": "monstera cuttings, fern rescues, self-watering pots, hanging ivy",
            "wildflowers": "bee meadows, seed bombs, roadside poppies, butterfly borders",
            "bonsai": "maple bonsai, wiring basics, moss layers, root pruning",
        },
        ("{S} after {n} weeks", "{S} on {n} square metres"),
        (
            "Water in the evening and mulch well.",
            "Nothing needs a greenhouse or a heated room.",
            "The slugs got the first row, so plan for that.",
        ),
    ),
    _topic(
        "film",
        {
            "animation": "stop-motion shorts, hand-drawn loops, clay figures, background paintings",
            "documentary": "archive footage, portrait films, field recordings, one-shot interviews",
            "horror": "slow-burn horror, practical effects, haunted house tropes, sound scares",
            "editing": "match cuts, colour grading, invisible transitions, sound design",
        },
        ("{S} in {n} shots", "{n} scenes with {s}"),
        (
            "There are no spoilers past the first act.",
            "Shot on a borrowed camera over one long weekend.",
            "Watch the edges of the frame the second time.",
        ),
    ),
)

COMMON_PATTERNS: Final[tuple[str, ...]] = (
    "What nobody tells you about {s}",
    "{S} for beginners",
    "My honest take on {s}",
    "{n} mistakes to avoid with {s}",
    "Why I fell in love with {s}",
    "The quiet joy of {s}",
)

MEDIA_LEADS: Final[dict[str, str]] = {
    "video": "A short video about {s}.",
    "image": "A photo story about {s}.",
    "audio": "Ten unhurried minutes of talk about {s}.",
    "text": "A few notes on {s}.",
}

PRAISE: Final[tuple[str, ...]] = (
    "I could have done this better, and next time I will.",
    "It turned out fine in the end.",
    "I am happy with how this one came out.",
    "This is the best thing I have made all year, and I love it.",
)
"""Closing sentences from the lowest to the highest quarter of item quality."""
