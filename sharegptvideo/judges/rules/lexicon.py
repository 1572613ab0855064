"""Word tables of the text judges: general English, small on purpose.

Everything here is a property of the language, not of a data set. Words are written in their plain
form; `normalise` brings them and the texts to the same stems.
"""

from __future__ import annotations

__all__ = [
    "CONTRACTIONS",
    "EXCLUSIVE",
    "FUNCTION_WORDS",
    "GENERIC",
    "IRREGULAR",
    "KINDS",
    "NEAR",
    "NUMBERS",
    "SYNONYMS",
    "words",
]


def words(text: str) -> tuple[str, ...]:
    """Return the words of a blank-separated list."""
    return tuple(text.split())


NUMBERS = {
    word: str(value)
    for value, word in enumerate(
        words(
            "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
            "fifteen sixteen seventeen eighteen nineteen twenty"
        )
    )
} | {"thirty": "30", "forty": "40", "fifty": "50", "hundred": "100"}

CONTRACTIONS = {
    "cannot": "can not",
    "can't": "can not",
    "won't": "will not",
    "shan't": "shall not",
    "ain't": "is not",
    "gonna": "going to",
}

# Words that carry no answer of their own.
FUNCTION_WORDS = frozenset(
    words(
        """
    a an the this that these those it its itself he him his she her hers they them their theirs
    we us our you your i me my who whom whose what which when where why how
    is are was were be been being am do does did doing done has have had having
    can could will would shall should may might must
    and or but nor so then than as if because while whereas though although
    of in on at to from by with for into onto about through during within along across
    there here also too very just quite rather really only even again ever
    some any each every all both either neither other another such same own
    not no never yes yeah yep nope
    s t d ll re ve m
    """
    )
)

# Words an answer may use without claiming anything about the clip.
GENERIC = frozenset(
    words(
        """
    video clip scene footage image picture frame film recording screen camera view shot
    show see seen visible appear seem look display depict contain feature include present
    presence
    happen occur take place time moment point part way thing object item something
    color shape size direction position number type kind total count amount side area
    moving move movement motion go travel become turn change get make keep remain stay
    answer question correct based according describe mention indicate suggest know
    middle background foreground course entire whole throughout
    sequence order event action one
    """
    )
)

# Spellings that no suffix rule reaches -> plain form.
IRREGULAR = {
    "men": "man", "women": "woman", "children": "child", "people": "person", "feet": "foot",
    "teeth": "tooth", "mice": "mouse", "geese": "goose", "knives": "knife", "leaves": "leaf",
    "wolves": "wolf", "lives": "life", "wives": "wife", "halves": "half", "shelves": "shelf",
    "ran": "run", "sat": "sit", "stood": "stand", "held": "hold", "rode": "ride",
    "ridden": "ride", "ate": "eat", "eaten": "eat", "went": "go", "gone": "go", "wore": "wear",
    "worn": "wear", "threw": "throw", "thrown": "throw", "drove": "drive", "driven": "drive",
    "drank": "drink", "drunk": "drink", "swam": "swim", "swum": "swim", "sang": "sing",
    "sung": "sing", "spoke": "speak", "spoken": "speak", "fell": "fall", "fallen": "fall",
    "took": "take", "taken": "take", "gave": "give", "given": "give", "came": "come",
    "made": "make", "caught": "catch", "fought": "fight", "shot": "shoot", "broke": "break",
    "broken": "break", "wrote": "write", "written": "write", "drew": "draw", "drawn": "draw",
    "grew": "grow", "grown": "grow", "shrank": "shrink", "shrunk": "shrink", "began": "begin",
    "begun": "begin", "became": "become", "kept": "keep", "lying": "lie",
    "laid": "lay", "slept": "sleep", "flew": "fly", "flown": "fly", "shook": "shake",
    "shown": "show", "seen": "see", "rose": "rise", "risen": "rise",
    "hid": "hide", "hidden": "hide", "got": "get", "put": "put", "putting": "put",
    "bit": "bite", "bitten": "bite", "blew": "blow", "blown": "blow", "dug": "dig",
    "lit": "light", "met": "meet", "slid": "slide", "swung": "swing", "brought": "bring",
    "bought": "buy", "built": "build", "felt": "feel", "lost": "lose", "said": "say",
    "told": "tell", "thought": "think", "hung": "hang", "spun": "spin", "stuck": "stick",
    # what a careless lemmatiser made of words in MSVD-QA's answers
    "pastum": "pasta", "gras": "grass", "kis": "kiss", "glas": "glass", "dres": "dress",
    "cros": "cross", "motocros": "motocross", "clas": "class", "pres": "press",
    "mattres": "mattress",
    "grey": "gray", "colour": "color", "colours": "color", "colored": "color",
    "coloured": "color", "centre": "center", "tyre": "tire",
    "dying": "die", "tying": "tie", "using": "use", "used": "use",
    "upwards": "up", "upward": "up", "downwards": "down", "downward": "down",
    "rightward": "right", "rightwards": "right", "leftward": "left", "leftwards": "left",
    "forwards": "forward", "backwards": "backward", "towards": "toward",
    "larger": "big", "bigger": "big", "largest": "big", "biggest": "big",
    "smaller": "small", "smallest": "small", "faster": "fast", "slower": "slow",
    "quicker": "fast", "quickly": "fast", "slowly": "slow", "darker": "dark", "lighter": "light",
    "taller": "tall", "longer": "long", "shorter": "short", "higher": "high", "lower": "low",
    "indoors": "indoor", "outdoors": "outdoor", "clothing": "clothes",
}  # fmt: skip

# Groups of words taken as one.
SYNONYMS = (
    "man guy male gentleman fellow",
    "woman lady female",
    "child kid",
    "baby infant toddler",
    "person someone somebody human individual anyone anybody",
    "bicycle bike cycle",
    "motorcycle motorbike",
    "car automobile",
    "airplane plane aeroplane aircraft jet",
    "sofa couch",
    "television tv",
    "phone cellphone telephone smartphone",
    "cat kitty",
    "rabbit bunny",
    "picture photo photograph",
    "road street",
    "rock stone",
    "trousers pants",
    "cup mug",
    "purse handbag",
    "glasses eyeglasses spectacles",
    "purple violet",
    "big large huge giant",
    "small little tiny",
    "fast quick rapid",
    "begin start beginning initial initially",
    "end finish finally final ending",
    "still stationary static motionless unmoving immobile",
    "chop slice cut dice",
    "talk speak chat",
    "run jog",
    "jump leap hop",
    "grow enlarge expand",
    "shrink contract",
    "disappear vanish",
    "throw toss",
    "drop fall",
    "circle disc disk",
    "center middle",
    "above over",
    "below under beneath underneath",
    "inside indoor",
    "outside outdoor",
    "happy glad cheerful joyful",
    "sad unhappy",
    "top upper",
    "bottom lower",
    "0 none",
    "1 single",
    "2 twice pair",
    "halfway midway",
    "anticlockwise counterclockwise",
    "next beside",
)

# Pairs that a lenient reader lets pass as nearly the same (score 4 at most).
NEAR = (
    ("girl", "woman"),
    ("boy", "man"),
    ("boy", "child"),
    ("girl", "child"),
    ("baby", "child"),
    ("kitten", "cat"),
    ("puppy", "dog"),
    ("vehicle", "car"),
    ("vehicle", "truck"),
    ("cap", "hat"),
    ("jacket", "coat"),
    ("gun", "rifle"),
    ("gun", "pistol"),
    ("play", "game"),
    ("cook", "chef"),
    ("ocean", "sea"),
    ("water", "sea"),
    ("drum", "drummer"),
    ("sing", "singer"),
    ("big", "tall"),
    ("short", "small"),
)

# General word -> its kinds. A reference with the general word accepts any kind; a prediction with
# only the general word does not state a kind that the reference asks for.
KINDS = {
    "person": "man woman boy girl child baby lady guy kid player dancer singer chef",
    "animal": "dog cat horse cow bird fish monkey panda elephant lion tiger bear rabbit kitten "
    "puppy sheep goat pig turtle frog fox snake",
    "food": "meat shrimp fish bread cheese pasta rice egg onion potato tomato vegetable fruit "
    "cake pizza soup chicken bacon pork beef sandwich",
    "vegetable": "onion potato tomato carrot cucumber pepper garlic cabbage broccoli",
    "fruit": "apple banana orange mango lemon grape strawberry pineapple",
    "vehicle": "car truck bus van motorcycle bicycle train boat",
    "instrument": "guitar piano violin flute drum trumpet saxophone",
    "bird": "parrot duck owl eagle chicken penguin crow",
    "exercise": "pushup squat situp yoga workout",
    "child": "boy girl baby",
}

# Sets whose members shut each other out when they describe the same thing. A word may be in one
# set only; the set's name is what a question may ask for.
EXCLUSIVE = {
    "color": "red blue green yellow orange purple pink brown black white gray cyan magenta beige "
    "turquoise teal maroon golden silver navy tan",
    "number": " ".join(sorted(set(NUMBERS.values()), key=int)),
    "direction": "left right up down",
    "height": "top bottom",
    "depth": "forward backward",
    "turning": "clockwise anticlockwise",
    "over": "above below",
    "inside": "inside outside",
    "sequence": "before after",
    "when": "begin halfway end",
    "rank": "first second third last",
    "size": "big small medium",
    "speed": "fast slow",
    "brightness": "bright dark",
    "length": "long short",
    "sex": "man woman",
    "youth": "boy girl",
    "state": "open closed",
    "growth": "grow shrink",
    "presence": "appear disappear",
    "shape": "circle square triangle rectangle star diamond hexagon pentagon oval cross heart",
    "mood": "happy sad angry worried",
    "daytime": "day night",
    "line": "horizontal vertical diagonal",
    "rest": "move still",
}
