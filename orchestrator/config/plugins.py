"""Callables that a pipeline names by import path. Only what `allow_imports` lists is ever imported."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any

from orchestrator.errors import ConfigError

_PATH = re.compile(r"^(?P<module>[A-Za-z]\w*(?:\.[A-Za-z]\w*)*):(?P<name>[A-Za-z]\w*)$", re.ASCII)


def load_callable(path: str, allow_imports: Sequence[str]) -> Callable[..., Any]:
    """The callable `module:name`, where `allow_imports` holds it, its module or a package above.

    Raises ConfigError where the path is malformed, not allowed, not importable or not callable.
    """
    found = _PATH.match(path)
    if found is None:
        raise ConfigError(f"{path!r} is not an import path: write module:function")
    module, name = found["module"], found["name"]
    if path not in allow_imports and not any(
        module == allowed or module.startswith(f"{allowed}.") for allowed in allow_imports
    ):
        raise ConfigError(
            f"{path!r} may not be imported: `allow_imports` has only {list(allow_imports)!r}",
            hint=f"add {module} to `allow_imports:` of the pipeline, if you trust that code",
        )
    try:
        loaded = getattr(importlib.import_module(module), name)
    except AttributeError:
        raise ConfigError(f"{path!r}: module {module!r} has no {name!r}") from None
    except Exception as error:  # a user's module may raise anything while it is imported
        raise ConfigError(f"{path!r} can't be imported: {type(error).__name__}: {error}") from error
    if not callable(loaded):
        raise ConfigError(f"{path!r} is {type(loaded).__name__}, not a function")
    return loaded  # type: ignore[no-any-return]  # callable() does not narrow Any


def source_digest(function: Callable[..., Any]) -> str:
    """Sixteen hex digits of the function's source, so that changed code is a changed setting; "" where it has none."""
    try:
        source = inspect.getsource(function)
    except (OSError, TypeError):
        return ""
    return hashlib.blake2b(source.encode(), digest_size=8).hexdigest()
