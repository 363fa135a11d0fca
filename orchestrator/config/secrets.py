"""Secrets come as `${NAME}` from the environment, into the settings of models and the address of a hook, and are
shown by name only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from orchestrator.config.checked import key_name
from orchestrator.config.document import Document, KeyPath
from orchestrator.config.pipeline import LapseHook, ModelConfig
from orchestrator.errors import ConfigError

EXPANDED = ("api_key", "endpoints", "litellm_params", "extra_body")
"""The keys of a model in which `${NAME}` is replaced."""

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_SECRET_WORDS = frozenset({"secret", "token", "password", "credential", "credentials", "authorization"})
_SECRET_ENDS = ("api_key", "apikey", "access_key", "private_key")
_ADDRESSES = frozenset({"endpoints", "api_base", "base_url"})
_NO_SECRET = frozenset({"", "EMPTY", "none"})


class Expanded(str):
    """A value with its `${NAME}` replaced. It is the value to those who use it; its `repr` is what the file says."""

    __slots__ = ("written",)
    written: str

    def __new__(cls, value: str, written: str) -> Expanded:
        made = super().__new__(cls, value)
        made.written = written
        return made

    def __getnewargs__(self) -> tuple[str, str]:  # type: ignore[override]  # copies keep what was written, too
        return str(self), self.written

    def __repr__(self) -> str:
        return repr(self.written)


class Environment:
    """Replaces `${NAME}` where secrets may stand."""

    def __init__(self, document: Document, variables: Mapping[str, str]) -> None:
        self._document, self._variables = document, variables

    def expand(self, name: str, model: ModelConfig) -> ModelConfig:
        """A copy of `model` with values in place. Raises ConfigError on a missing variable or a written-out secret."""
        at: KeyPath = ("models", name)
        for key in ("use", "revision", "price", "account"):
            if _VARIABLE.search(str(getattr(model, key) or "")):
                raise self._error((*at, key), f"${{…}} is replaced in {', '.join(EXPANDED)} only")
        return model.model_copy(update={key: self._value((*at, key), getattr(model, key)) for key in EXPANDED})

    def expand_hook(self, hook: LapseHook | None) -> LapseHook | None:
        """A copy of the hook with values in place: the address of a webhook is often a secret itself."""
        if hook is None or hook.webhook is None:
            return hook
        return hook.model_copy(update={"webhook": self._value(("on_lapse", "webhook"), hook.webhook)})

    def _value(self, at: KeyPath, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: self._value((*at, key), inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(self._value((*at, i), inner) for i, inner in enumerate(value))
        return self._text(at, value) if isinstance(value, str) else value

    def _text(self, at: KeyPath, written: str) -> str:
        names = _VARIABLE.findall(written)
        for name in names:
            if not self._variables.get(name):
                raise self._error(at, f"the environment variable {name!r} is not set, or empty")
        value = _VARIABLE.sub(lambda found: self._variables[found[1]], written)
        key = next(key for key in reversed(at) if isinstance(key, str))
        if key in _ADDRESSES:
            self._refuse_credentials(at, value)
        elif not names and _is_secret(key) and written not in _NO_SECRET:
            raise self._error(at, "a secret is written into the file: name an environment variable, as ${NAME}")
        return Expanded(value, written) if names else written

    def _refuse_credentials(self, at: KeyPath, address: str) -> None:
        """Addresses are shown, and stored with each call: they may hold no secret."""
        try:
            parts = urlsplit(address)
        except ValueError:
            return  # told where addresses are looked at
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise self._error(at, "an address holds no user, password or query: it is stored with each call")

    def _error(self, at: KeyPath, message: str) -> ConfigError:
        document = self._document
        return ConfigError(
            f"{key_name(at)}: {message}", file=str(document.path), line=document.line(at), key=key_name(at)
        )


def shown_address(url: str) -> str:
    """Scheme, host and port of a URL: what may be shown of it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def written(value: Any) -> Any:
    """`value` as the file says it: what was expanded stands as `${NAME}` again."""
    if isinstance(value, Mapping):
        return {key: written(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [written(inner) for inner in value]
    return value.written if isinstance(value, Expanded) else value


def _is_secret(key: str) -> bool:
    words = re.split(r"[^a-z0-9]+", _CAMEL.sub("_", key).lower())
    return bool(_SECRET_WORDS.intersection(words)) or "_".join(words).endswith(_SECRET_ENDS)
