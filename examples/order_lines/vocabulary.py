"""The closed vocabulary of the order lines: articles, abbreviations, currencies, months and filler."""

from __future__ import annotations

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "blue": ("blu",),
    "red": (),
    "green": ("grn",),
    "black": ("blk",),
    "white": ("wht",),
    "yellow": ("yel",),
    "orange": (),
    "grey": ("gray",),
    "brown": ("brn",),
    "steel": ("stl",),
    "brass": (),
    "copper": ("cu",),
    "nylon": (),
    "rubber": ("rub.",),
    "ceramic": ("cer.",),
    "plastic": ("plast.",),
    "zinc": ("zn",),
    "carbon": ("carb.",),
    "leather": (),
    "wooden": ("wdn",),
    "titanium": ("ti",),
    "acrylic": ("acr.",),
}
NOUNS: dict[str, tuple[str, ...]] = {
    "widget": ("wdgt",),
    "bracket": ("brkt",),
    "hinge": (),
    "bolt": (),
    "washer": ("wshr",),
    "gasket": ("gskt",),
    "flange": ("flg",),
    "spring": ("spr",),
    "handle": ("hdl",),
    "lever": (),
    "pulley": (),
    "bearing": ("brg",),
    "valve": ("vlv",),
    "nozzle": (),
    "filter": ("fltr",),
    "cable": ("cbl",),
    "switch": ("sw.",),
    "socket": ("skt",),
    "lamp": (),
    "mirror": (),
    "drawer": (),
    "cushion": (),
    "ladder": (),
    "bucket": ("bkt",),
    "magnet": (),
    "rivet": (),
    "clamp": (),
    "hook": (),
    "pallet": ("plt",),
    "crate": (),
    "trolley": (),
    "funnel": (),
    "gear": (),
    "piston": (),
    "sensor": ("snsr",),
    "motor": ("mtr",),
    "tube": (),
    "panel": ("pnl",),
}
SIZES = ("M4", "M6", "M8", "10mm", "25mm", "40mm", "A4", "XL", "S", "2in")

# code -> (written before the amount, written after the amount)
CURRENCIES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "EUR": (("EUR ", "€", "€ ", "eur "), (" EUR", "€", " €", " euro", "eur")),
    "USD": (("USD ", "$", "US$", "$ "), (" USD", "$", " dollars", " usd")),
    "GBP": (("GBP ", "£", "gbp "), (" GBP", " pounds", "£", " quid")),
    "CHF": (("CHF ", "Fr. ", "SFr "), (" CHF", " francs", "chf")),
    "PLN": (("PLN ", "zł "), (" PLN", " zł", "zl", " zloty")),
    "SEK": (("SEK ", "kr "), (" SEK", " kr", "kr", " kronor")),
}
DEFAULT_CURRENCY = "EUR"

MONTHS = (
    ("Jan", "January"), ("Feb", "February"), ("Mar", "March"), ("Apr", "April"), ("May", "May"), ("Jun", "June"),
    ("Jul", "July"), ("Aug", "August"), ("Sep", "September"), ("Oct", "October"), ("Nov", "November"),
    ("Dec", "December"),
)  # fmt: skip
DAYS_IN_MONTH = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)

QTY_BEFORE = (
    "{n}x {item}",
    "{n} x {item}",
    "{n} {item}",
    "{n} pcs {item}",
    "{n} pc. {item}",
    "qty {n} {item}",
    "{n} off {item}",
    "{n} units of {item}",
)
QTY_AFTER = (
    "{item} x{n}",
    "{item} x {n}",
    "{item}, qty {n}",
    "{item} ({n} pcs)",
    "{item}: {n} off",
    "{item} - {n} units",
)
QTY_WORDS = {
    1: ("one",),
    2: ("two", "a pair of"),
    3: ("three",),
    4: ("four",),
    5: ("five",),
    6: ("half a dozen", "six"),
    8: ("eight",),
    10: ("ten",),
    12: ("a dozen", "1 doz", "twelve"),
    24: ("two dozen", "2 doz"),
    36: ("three dozen", "3 doz"),
}
QTY_FIXES = (
    "{old}x sorry {new}x {item}",
    "{old} -> {new} pcs {item}",
    "{item}, qty {old}, no, {new}",
    "{item} x{old} make that x{new}",
)

PRICE_FORMS = (
    "@ {m}",
    "@{m}",
    "at {m} each",
    "at {m}",
    "{m} each",
    "{m}/pc",
    "{m} per unit",
    "unit price {m}",
    "a {m}",
    "price {m}",
)
TOTAL_FORMS = (
    "= {m}",
    "={m}",
    "total {m}",
    "tot. {m}",
    "sum {m}",
    "{m} in total",
    "comes to {m}",
    "ttl {m}",
    "altogether {m}",
)
SHIP_FORMS = (
    "ship {d}",
    "ship by {d}",
    "shipping {d}",
    "deliver {d}",
    "delivery {d}",
    "del. {d}",
    "dispatch {d}",
    "needed by {d}",
    "send {d}",
    "due {d}",
)
ORDER_FORMS = ("ordered {d}", "order date {d}", "PO dated {d}", "order of {d}", "placed {d}", "ord. {d}")
SHIP_FIXES = ("{ship}, changed to {d}", "{ship} -> {d}", "{ship}, no, {d}", "{ship} moved to {d}")
FILLER = (
    "pls",
    "please",
    "thx",
    "urgent",
    "as discussed",
    "asap",
    "for Berlin",
    "for the Leeds site",
    "ref {r}",
    "PO {r}",
    "no. {r}",
    "usual terms",
    "hi,",
    "FYI",
    "again",
    "attn. Kim",
    "as last time",
)
