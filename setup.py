"""The part of the build that pyproject.toml cannot say: recipes/ goes into the package."""

from pathlib import Path
from shutil import copytree

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithRecipes(build_py):
    """Copies the recipes to where an installed package looks for them. An editable one finds them in the clone."""

    def run(self) -> None:
        """Build the package."""
        super().run()
        if not self.editable_mode:
            copytree("recipes", Path(self.build_lib, "hamr_lightning", "recipes"), dirs_exist_ok=True)


setup(cmdclass={"build_py": BuildWithRecipes})
