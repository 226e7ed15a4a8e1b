"""The small guest image, from the cache of built ones; built if this recipe is not there yet."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from placet.config import BESIDE_SCRIPT


def put_mini_image(path: Path) -> Path:
    """Make the image at `path`. Raises CalledProcessError."""
    subprocess.run(
        [sys.executable, "-m", "placet.guestimage", path], check=True, cwd=BESIDE_SCRIPT, capture_output=True
    )
    return path
