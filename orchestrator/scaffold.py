"""`orchestrator init`: the starter pipelines and policies, copied into a folder of the user's own so that they run, and
the labelled tasks that a certificate can be made of.

Paths that leave the copied set (an embedded model's weights, for instance) are rewritten to where they resolve; all
others stay as they are, and so the folder can be moved.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from orchestrator.errors import InputError

_SETS = ("pipelines", "policies")
_LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.db", "*.db-*", "certificates", ".*")
_MODULE = re.compile(r"python:(?P<package>examples\.\w+)\.")
_PATH = re.compile(r"(?P<before>[:\s\[\"'])(?P<path>(?:\.\./)+[\w./-]+)")


def starters() -> Path:
    """The folder that holds the starter set: a checkout's root, or the package's data. Raises InputError if neither."""
    package = Path(__file__).resolve().parent
    for folder in (package.parent, package / "starters"):
        if all((folder / name).is_dir() for name in _SETS):
            return folder
    raise InputError("the starter pipelines are not part of this installation", hint="reinstall draftgate")


def starter_names() -> list[str]:
    """The pipelines that `init` can copy."""
    return sorted(path.parent.name for path in (starters() / "pipelines").glob("*/pipeline.yaml"))


def scaffold(folder: Path, *, pipeline: str | None = None) -> list[Path]:
    """Copy the starter set, or one pipeline of it with all policies, into `folder`; returns the pipeline files.

    Raises InputError where the folder holds something of the same name already: nothing is ever overwritten.
    """
    source = starters()
    names = starter_names()
    if pipeline is not None and pipeline not in names:
        raise InputError(f"there is no starter pipeline {pipeline!r}", hint=f"there are {', '.join(names)}")
    chosen = [pipeline] if pipeline is not None else names
    parts = [Path("policies"), *(Path("pipelines") / name for name in chosen)]
    parts += [module for name in chosen for module in _modules(source / "pipelines" / name / "pipeline.yaml")]
    parts += [data for name in chosen if (source / (data := Path("examples", name, "data"))).is_dir()]
    for part in parts:
        if (folder / part).exists():
            raise InputError(f"{folder / part} is there already", hint="name another folder; nothing was written")
    for part in parts:
        _copy(source / part, folder / part)
    return [_rewritten(source, folder, folder / "pipelines" / name / "pipeline.yaml") for name in chosen]


def _modules(pipeline: Path) -> list[Path]:
    """The example folders whose code the pipeline calls."""
    named = {found["package"] for found in _MODULE.finditer(pipeline.read_text(encoding="utf-8"))}
    return [Path(*package.split(".")) for package in sorted(named)]


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=_LEFT_OUT)
    else:
        shutil.copyfile(source, target)


def _rewritten(source: Path, folder: Path, copied: Path) -> Path:
    """`copied`, its paths that lead out of the copied set now leading to where they led from the original."""
    original = source / copied.relative_to(folder)

    def moved(found: re.Match[str]) -> str:
        if (copied.parent / found["path"]).exists():
            return found[0]
        resolved = (original.parent / found["path"]).resolve()
        return f"{found['before']}{resolved}" if resolved.exists() else found[0]

    text = copied.read_text(encoding="utf-8")
    copied.write_text(_PATH.sub(moved, text), encoding="utf-8")
    return copied
