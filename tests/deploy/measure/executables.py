"""The functions' executables: where builds leave them, and how big they are."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Executable:
    """A function's executable."""

    name: str
    path: Path

    @staticmethod
    def find(folder: Path, name: str) -> Executable:
        """Looks where cargo, cargo-lambda and SAM put it.

        Raises SystemExit if it is in none of these places.
        """
        logical = "".join(part.capitalize() for part in name.split("-")) + "Function"
        for path in (folder / name / "bootstrap", folder / logical / "bootstrap", folder / name):
            if path.is_file():
                return Executable(name, path)
        raise SystemExit(f"{folder} has no executable of {name}: build them first, as by `sam build --beta-features`")

    def size(self) -> int:
        """Bytes of the file."""
        return self.path.stat().st_size

    def zipped_size(self) -> int:
        """Bytes of a zip with it, as SAM uploads it."""
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
            file.write(self.path, "bootstrap")
        return len(archive.getvalue())
