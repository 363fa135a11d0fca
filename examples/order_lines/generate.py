"""Messy order lines with one right answer each, and the data files of the example.

    python examples/order_lines/generate.py        writes data/calibration.jsonl, held_out.jsonl and example.csv

A line is drawn in two steps: the order (what is right), then its writing (noise that never changes what is right).
Every set of lines has a seed of its own; training skips any text that is in one of the two data files.
"""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import vocabulary as v

HERE = Path(__file__).parent
SEEDS = {"train": 1_000, "drafts": 2_000, "validator": 3_000, "calibration": 71, "held_out": 72}
SIZES = {"calibration": 600, "held_out": 1_000}


@dataclass(frozen=True)
class Noise:
    """The share of words with a typo."""

    typos: float = 0.03


USUAL = Noise()
EMPHASIS = Noise(typos=0.06)  # for training: what is rare and hard, more often


@dataclass(frozen=True)
class Line:
    """A written order line and its right answer."""

    text: str
    answer: dict[str, Any]


def lines(rng: random.Random, noise: Noise = USUAL) -> Iterator[Line]:
    """Order lines without end."""
    while True:
        yield line(rng, noise)


def training_lines(rng: random.Random, noise: Noise) -> Iterator[Line]:
    """Order lines without end, none of whose texts is in a data file."""
    kept_back = {task["input"]["text"] for name in SIZES for task in tasks(name)}
    return (drawn for drawn in lines(rng, noise) if drawn.text not in kept_back)


def line(rng: random.Random, noise: Noise = USUAL) -> Line:
    answer = order(rng)
    return Line(written(rng, answer, noise), answer)


def order(rng: random.Random) -> dict[str, Any]:
    """What is ordered; `total` is `qty * unit_price` to the cent. Key order is the order of the output."""
    words = [rng.choice(list(v.ATTRIBUTES)), rng.choice(list(v.NOUNS))]
    if rng.random() < 0.35:
        words.append(rng.choice(v.SIZES))
    qty = rng.choice((rng.randint(1, 12), rng.randint(1, 60), rng.choice((24, 36, 50, 100, 120, 144, 200, 250, 500))))
    cents = _cents(rng)
    month = rng.randint(1, 12)
    return {
        "item": " ".join(words),
        "qty": qty,
        "unit_price": cents / 100,
        "currency": rng.choice(("EUR", "EUR", *v.CURRENCIES)),
        "total": cents * qty / 100,
        "ship": f"{month:02d}-{rng.randint(1, v.DAYS_IN_MONTH[month - 1]):02d}",
    }


def _cents(rng: random.Random) -> int:
    top = rng.choice((10, 10, 100, 100, 2_000))
    whole = rng.randint(1, top) * 100
    return whole + rng.choice((0, 0, 50, 25, 95, 99, rng.randint(1, 99)))


def written(rng: random.Random, answer: dict[str, Any], noise: Noise) -> str:
    """The order as somebody in a hurry types it."""
    parts = [_goods(rng, answer, noise), *_amounts(rng, answer), *_dates(rng, answer)]
    if rng.random() < 0.25:
        rng.shuffle(parts)
    if rng.random() < 0.4:
        filler = rng.choice(v.FILLER).format(r=rng.randint(1_000, 99_999))
        parts.insert(rng.choice((0, len(parts), rng.randint(0, len(parts)))), filler)
    text = parts[0]
    for part in parts[1:]:
        joint = " " if part[0] in "@=" else rng.choice((", ", ", ", " ", "; ", " / "))
        text += (", " if joint == " " and text[-1].isdigit() and part[0].isdigit() else joint) + part
    return text.lower() if rng.random() < 0.12 else text


def _goods(rng: random.Random, answer: dict[str, Any], noise: Noise) -> str:
    item, qty = _item(rng, answer["item"], noise), answer["qty"]
    draw = rng.random()
    if draw < 0.07:
        old = qty + rng.choice((-1, 1, 2, 5, 10))
        if 0 < old != qty:
            return rng.choice(v.QTY_FIXES).format(old=old, new=qty, item=item)
    if qty in v.QTY_WORDS and draw < 0.5:
        return f"{rng.choice(v.QTY_WORDS[qty])} {item}"
    return rng.choice(v.QTY_BEFORE if draw < 0.75 else v.QTY_AFTER).format(n=qty, item=item)


def _item(rng: random.Random, item: str, noise: Noise) -> str:
    attribute, noun, *size = item.split(" ")
    attribute = _word(rng, attribute, v.ATTRIBUTES[attribute], noise)
    noun = _word(rng, noun, v.NOUNS[noun], noise, plural=True)
    words = [attribute, noun] if rng.random() < 0.6 else [noun, attribute]
    if size:
        words.insert(rng.choice((2, 2, 1, 0)), size[0])
    return " ".join(words)


def _word(rng: random.Random, word: str, short: tuple[str, ...], noise: Noise, plural: bool = False) -> str:
    draw = rng.random()
    if short and draw < 0.2:
        return rng.choice(short)
    if draw > 1 - noise.typos and len(word) > 3:
        return typo(rng, word)
    if plural and draw < 0.5:
        return word + ("es" if word.endswith("ch") else "s")
    return word.capitalize() if 0.5 < draw < 0.6 else word


def typo(rng: random.Random, word: str) -> str:
    """One slip of the finger, never in the first letter."""
    at = rng.randint(1, len(word) - 2)
    kind = rng.randrange(3)
    if kind == 0:
        return word[:at] + word[at + 1 :]
    if kind == 1:
        return word[:at] + word[at] + word[at:]
    return word[:at] + word[at + 1] + word[at] + word[at + 2 :]


def _amounts(rng: random.Random, answer: dict[str, Any]) -> list[str]:
    style = rng.choice(("us", "us", "eu", "eu", "plain", "comma", "swiss", "space"))
    code = answer["currency"]
    where = rng.choice(("both", "price", "price", "total"))
    if code == v.DEFAULT_CURRENCY and rng.random() < 0.35:
        where = "none"
    price = _money(rng, answer["unit_price"], style, code if where in ("both", "price") else None)
    total = _money(rng, answer["total"], style, code if where in ("both", "total") else None)
    return [rng.choice(v.PRICE_FORMS).format(m=price), rng.choice(v.TOTAL_FORMS).format(m=total)]


def _money(rng: random.Random, amount: float, style: str, code: str | None) -> str:
    number = _number(rng, amount, style)
    if code is None:
        return number
    before, after = v.CURRENCIES[code]
    return rng.choice(before) + number if rng.random() < 0.6 else number + rng.choice(after)


def _number(rng: random.Random, amount: float, style: str) -> str:
    cents = round(amount * 100)
    whole, rest = divmod(cents, 100)
    group = {"us": ",", "eu": ".", "swiss": "'", "space": " "}.get(style, "")
    digits = f"{whole:,}".replace(",", group)
    point = "," if style in ("eu", "comma", "space") else "."
    if rest == 0 and rng.random() < 0.4:
        return digits + rng.choice(("", "", point + "-"))
    if rest % 10 == 0 and rng.random() < 0.25:
        return f"{digits}{point}{rest // 10}"
    return f"{digits}{point}{rest:02d}"


def _dates(rng: random.Random, answer: dict[str, Any]) -> list[str]:
    month, day = (int(part) for part in answer["ship"].split("-"))
    form = rng.choice(("d mon", "d mon", "mon d", "dth month", "d.m.", "d/m", "iso"))
    parts = []
    if rng.random() < 0.35:
        parts.append(rng.choice(v.ORDER_FORMS).format(d=_date(rng, *_earlier(rng, month, day), form)))
    when = _date(rng, month, day, form)
    if rng.random() < 0.06:
        old = rng.choice(v.SHIP_FORMS).format(d=_date(rng, *_earlier(rng, month, day), form))
        parts.append(rng.choice(v.SHIP_FIXES).format(ship=old, d=when))
    else:
        parts.append(rng.choice(v.SHIP_FORMS).format(d=when))
    return parts if rng.random() < 0.8 else parts[::-1]


def _earlier(rng: random.Random, month: int, day: int) -> tuple[int, int]:
    back = rng.randint(1, 28)
    if back < day:
        return month, day - back
    before = (month - 2) % 12
    return before + 1, max(1, v.DAYS_IN_MONTH[before] + day - back)


def _date(rng: random.Random, month: int, day: int, form: str) -> str:
    short, long = v.MONTHS[month - 1]
    if form == "d mon":
        return f"{day} {rng.choice((short, short, long))}"
    if form == "mon d":
        return f"{rng.choice((short, long))} {day}"
    if form == "dth month":
        ending = "th" if day in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
        return f"{day}{ending} {rng.choice((short, long))}"
    if form == "d.m.":
        return rng.choice((f"{day}.{month}.", f"{day:02d}.{month:02d}."))
    if form == "d/m":
        return rng.choice((f"{day}/{month}", f"{day:02d}/{month:02d}"))
    return f"2026-{month:02d}-{day:02d}"


def compact(answer: Any) -> str:
    """The output text: JSON without spaces."""
    return json.dumps(answer, ensure_ascii=True, separators=(",", ":"))


def tasks(name: str) -> list[dict[str, Any]]:
    """The labelled tasks of one data file, every text once and in one file only."""
    seen = set() if name == "calibration" else {task["input"]["text"] for task in tasks("calibration")}
    rng = random.Random(SEEDS[name])
    found: list[dict[str, Any]] = []
    for drawn in lines(rng):
        if drawn.text not in seen:
            seen.add(drawn.text)
            found.append(_task(rng, f"{name.replace('_', '-')}-{len(found) + 1:04d}", drawn))
        if len(found) == SIZES[name]:
            return found
    raise AssertionError("lines() never ends")


def _task(rng: random.Random, task_id: str, drawn: Line) -> dict[str, Any]:
    meta = {"amount": drawn.answer["total"], "tenant": rng.choice(("north", "south", "web"))}
    if rng.random() < 0.05:
        meta["residency"] = "local"
    return {"id": task_id, "input": {"text": drawn.text}, "meta": meta, "expected": drawn.answer}


def main() -> None:
    data = HERE / "data"
    data.mkdir(exist_ok=True)
    for name in SIZES:
        text = "".join(json.dumps(task, ensure_ascii=False) + "\n" for task in tasks(name))
        (data / f"{name}.jsonl").write_text(text, encoding="utf-8")
    with (data / "example.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "input.text", "meta.amount", "meta.tenant"))
        for task in tasks("held_out")[:10]:
            writer.writerow((task["id"], task["input"]["text"], task["meta"]["amount"], task["meta"]["tenant"]))


if __name__ == "__main__":
    main()
