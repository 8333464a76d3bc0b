"""What pyproject.toml cannot say: the data of `spec/`, which is at the top of the checkout, is part of `acp`.

`acp.conformance.facts` finds it there, or in the checkout where the project is installed to be edited.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

DATA = ("*.json", "*/*.json")


class WithSpec(build_py):
    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            for path in (path for pattern in DATA for path in Path("spec").glob(pattern)):
                target = Path(self.build_lib, "acp", "conformance", path)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)


setup(cmdclass={"build_py": WithSpec})
