"""The files a pipeline names, resolved against the file that names them, each remembered for `check` to show."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from orchestrator.config.checked import key_name, nearest
from orchestrator.config.document import Document, KeyPath
from orchestrator.config.pipeline import PipelineConfig
from orchestrator.config.policy import AfterRule, BeforeRule, PolicyConfig
from orchestrator.config.schema import imported_schema, is_import, read_schema
from orchestrator.errors import ConfigError


@contextmanager
def located(document: Document, keys: KeyPath) -> Iterator[None]:
    """Give a ConfigError that names no file the place in `document` that led to it."""
    try:
        yield
    except ConfigError as error:
        if error.file is not None:
            raise
        raise ConfigError(
            str(error), file=str(document.path), line=document.line(keys), key=error.key or key_name(keys),
            hint=error.hint,
        ) from error


class References:
    """Resolves what one pipeline file names. `resolved` grows as it goes, by the dotted name of the key."""

    def __init__(self, document: Document, allow_imports: Sequence[str]) -> None:
        self._document, self._allow_imports = document, allow_imports
        self._models: tuple[str, ...] = ()
        self.resolved: dict[str, Path] = {}

    def path(self, keys: KeyPath, named: str | None, *, must_exist: bool = True) -> Path | None:
        """The file that `named` stands for; None where nothing is named. Raises ConfigError where there is none."""
        if named is None:
            return None
        try:
            found = (self._document.path.parent / named).resolve()
        except ValueError as error:  # a NUL, or half of a surrogate pair
            raise self._error(keys, f"{named!r} can't be a path: {error}") from None
        self.resolved[self._name(keys)] = found
        if must_exist and not found.exists():
            raise self._error(keys, f"{named!r} is not there: it resolves to {found}")
        return found

    def schema(self, keys: KeyPath, named: str | None) -> tuple[dict[str, Any] | None, type[BaseModel] | None]:
        """The JSON Schema of a file, or of an allow-listed pydantic model and that model."""
        if named is None:
            return None, None
        if is_import(named):
            with located(self._document, keys):
                return imported_schema(named, self._allow_imports)
        path = self.path(keys, named)
        assert path is not None
        return read_schema(path), None

    def models(self, config: PipelineConfig) -> None:
        """Resolve the folders of embedded models."""
        self._models = tuple(config.models)
        for name, model in config.models.items():
            if model.kind == "embedded":
                folder = self.path(("models", name, "use"), model.target)
                if folder is not None and not folder.is_dir():
                    raise self._error(("models", name, "use"), f"{str(folder)!r} is a file, where a folder is needed")

    def known_models(self, policy: PolicyConfig, document: Document) -> None:
        """A rule's `to:` must be a model of the pipeline."""
        rules: dict[str, Sequence[BeforeRule | AfterRule]] = {"before": policy.before, "after": policy.after}
        for part in rules:
            for i, rule in enumerate(rules[part]):
                if rule.to is not None and rule.to not in self._models:
                    at = (part, i, "to")
                    missing = f"{rule.to!r} is no model of {self._document.path}{nearest(rule.to, self._models)}"
                    raise ConfigError(
                        f"{key_name(at)}: {missing}", file=str(document.path), line=document.line(at), key=key_name(at)
                    )

    def _name(self, keys: KeyPath) -> str:
        """`steps.extract.prompt`: a step by its id."""
        if keys[0] == "steps":
            step = self._document.data["steps"][keys[1]]
            keys = ("steps", step["id"], *keys[2:])
        return key_name(keys)

    def _error(self, keys: KeyPath, message: str) -> ConfigError:
        return ConfigError(
            f"{key_name(keys)}: {message}", file=str(self._document.path), line=self._document.line(keys),
            key=key_name(keys), hint="paths resolve against the file that names them",
        )
