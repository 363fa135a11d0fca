"""What pyproject.toml can't say: the wheel carries the starter set and the demo's models and data.

They stay where a reader of the repository looks for them; a wheel has them in `orchestrator/starters`, laid out as in
the checkout, so that the relative paths in the pipelines hold in both places.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
STARTERS = (
    "pipelines",
    "policies",
    "examples/order_lines/data",
    "examples/order_lines/models",
    "examples/support_tickets",
)
LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.db*", ".*")


class BuildWithStarters(build_py):
    def run(self) -> None:
        super().run()
        if self.editable_mode:  # the checkout itself is found then
            return
        for name in STARTERS:
            target = Path(self.build_lib) / "orchestrator" / "starters" / name
            shutil.copytree(ROOT / name, target, ignore=LEFT_OUT, dirs_exist_ok=True)


setup(cmdclass={"build_py": BuildWithStarters})
