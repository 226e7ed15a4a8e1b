"""The default image: built once, where the node's image_dirs look, and named `mini`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from placet.onebox.layout import StateDirectory
from placet.onebox.steps import StepFailed

NAME = "mini"


def build(state: StateDirectory) -> tuple[Path, bool]:
    """The image's path, and whether it was made now. Raises StepFailed."""
    path = state.images / f"{NAME}.qcow2"
    if path.exists():
        return path, False
    log = state.log("guestimage")
    with log.open("wb") as output:
        command = [sys.executable, "-m", "placet.guestimage", str(path)]
        found = subprocess.run(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, check=False)
    if found.returncode != 0:
        raise StepFailed(
            "the guest image could not be built",
            "see the log, mend that and run ./up.sh again; the cloud itself runs, and takes any image by path or URL",
            log,
        )
    return path, True
