"""From a document to a typed model: every fault of the file at once, each with line, key, value and nearest key."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic import ValidationError as Invalid

from orchestrator.config.document import Document, KeyPath
from orchestrator.errors import ConfigError

M = TypeVar("M", bound=BaseModel)
NOT_SHOWN = frozenset({"api_key", "litellm_params", "extra_body", "endpoints"})
"""Keys whose values may hold a secret: named in an error, never quoted."""

KINDS: Mapping[str, str] = {"pipeline": "a pipeline", "policy": "a policy file", "book": "a price book"}
"""By the key that every file of the kind has, and none of another."""
_BELONGS: Mapping[str, str] = {
    "policy": "the pipeline whose step names it under `policy:`",
    "book": "the pipeline that names it under `prices:`; `orchestrator prices show` shows what the book holds",
}
_NAMED_UNDER = {"policy": "policy", "book": "prices"}

_SHOWN_VALUE = 80
_HOLDS: Mapping[type, str] = {str: "plain text", list: "a list"}


def validated(model: type[M], document: Document) -> M:
    """`document` as a `model`. Raises one ConfigError that lists every fault, or says that it is a file of another
    kind."""
    if not isinstance(document.data, dict):
        kind = "empty" if document.data is None else _HOLDS.get(type(document.data), "a single value")
        raise ConfigError(
            f"the file is {kind}, where a map of keys is needed: YAML with lines like `key: value`",
            file=str(document.path), line=1,
        )
    _of_this_kind(model, document)
    try:
        return model.model_validate(document.data)
    except Invalid as error:
        raise _config_error(model, document, error) from None


def key_name(keys: KeyPath) -> str:
    """`steps[0].draft.model`, as messages write it."""
    name = ""
    for key in keys:
        name += f"[{key}]" if isinstance(key, int) else f".{key}" if name else key
    return name


def nearest(word: str, known: Sequence[str]) -> str:
    """`; did you mean 'x'?`, or what there is to choose from."""
    if found := difflib.get_close_matches(word, known, n=1, cutoff=0.5):
        return f"; did you mean {found[0]!r}?"
    return f"; known are {', '.join(sorted(known))}" if known else ""


def _of_this_kind(model: type[BaseModel], document: Document) -> None:
    """What a price book lacks as a pipeline says nothing: what it is does."""
    wanted = next((key for key in KINDS if key in model.model_fields), None)
    given = next((key for key in KINDS if key in document.data), None)
    if wanted is None or given is None or wanted in document.data:
        return
    named = f"the file that a pipeline names under `{_NAMED_UNDER.get(wanted)}:`"
    meant = _BELONGS[given] if wanted == "pipeline" else named
    raise ConfigError(
        f"this is {KINDS[given]}, not {KINDS[wanted]}", file=str(document.path), line=document.line((given,)),
        hint=f"give {meant}",
    )


def _config_error(model: type[BaseModel], document: Document, error: Invalid) -> ConfigError:
    found = error.errors(include_url=False)
    broken = {tuple(one["loc"][:length]) for one in found for length in range(len(one["loc"]))}
    faults: dict[tuple[int, str], str] = {}
    for one in found:
        # a list that lost its broken items is not really too short; a union is told by its first member
        if one["type"] != "too_short" or one["loc"] not in broken:
            line, name, message = _fault(model, document, one)
            faults.setdefault((line, name), message)
    (line, name), message = min(faults.items())
    rest = [f"\n{document.path}:{at}: {text}" for (at, _), text in sorted(faults.items())[1:]]
    return ConfigError(message + "".join(rest), file=str(document.path), line=line, key=name)


def _fault(model: type[BaseModel], document: Document, error: Mapping[str, Any]) -> tuple[int, str, str]:
    found_at = error.get("ctx", {}).get("keys", ())
    keys = _real_keys(document.data, (*error["loc"], *found_at))
    name, kind = key_name(keys), error["type"]
    if kind == "extra_forbidden":
        message = f"unknown key {name!r}{nearest(str(keys[-1]), _keys_at(model, keys[:-1]))}"
    elif kind == "missing":
        message = f"the key {key_name((*keys, str(error['loc'][-1])))!r} is missing"
    elif kind == "literal_error":
        choices = error["ctx"]["expected"].replace(" or ", ", ").replace("'", "")
        meant = difflib.get_close_matches(str(error["input"]), choices.split(", "), n=1)
        message = f"{name}: {_shown(keys, error['input'])} is none of {choices}"
        message += f"; did you mean {meant[0]!r}?" if meant else ""
    else:
        reason = str(error["msg"]).removeprefix("Value error, ")
        message = f"{name}: {reason}" if name else reason
        if keys and kind != "value_error":
            message += f" (it is {_shown(keys, error['input'])})"
    return document.line(keys), name, message


def _real_keys(data: Any, location: Sequence[str | int]) -> KeyPath:
    """The part of a pydantic location that stands in the file: names of union members are left off."""
    keys: list[str | int] = []
    for key in location:
        if (isinstance(data, dict) and key in data) or (isinstance(data, list) and isinstance(key, int)):
            data = data[key]  # type: ignore[index]  # narrowed together with the key above
            keys.append(key)
    return tuple(keys)


def _shown(keys: KeyPath, value: Any) -> str:
    if NOT_SHOWN.intersection(k for k in keys if isinstance(k, str)):
        return "not shown"
    if isinstance(value, dict):
        return f"a map of {', '.join(map(str, value))}"[:_SHOWN_VALUE]
    text = repr(value)
    return text if len(text) <= _SHOWN_VALUE else text[: _SHOWN_VALUE - 1] + "…"


def _keys_at(model: type[BaseModel], keys: KeyPath) -> list[str]:
    """The keys that a map at `keys` may have."""
    found: list[Any] = [model]
    for key in keys:
        found = [inner for one in found for inner in _inside(one, key)]
    return [
        field.alias or name for one in found if isinstance(one, type) and issubclass(one, BaseModel)
        for name, field in one.model_fields.items()
    ]


def _inside(kind: Any, key: str | int) -> Iterator[Any]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        for name, field in kind.model_fields.items():
            if key in (name, field.alias):
                yield from _plain(field.annotation)
    elif get_origin(kind) is dict:
        yield from _plain(get_args(kind)[1])
    elif get_origin(kind) in (tuple, list):
        yield from _plain(get_args(kind)[0])


def _plain(annotation: Any) -> Iterator[Any]:
    """The members of a union, without `Annotated`."""
    if get_origin(annotation) is Annotated:
        yield from _plain(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, types.UnionType):
        for one in get_args(annotation):
            yield from _plain(one)
    else:
        yield annotation
