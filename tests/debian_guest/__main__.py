"""`python -m tests.debian_guest OUT.qcow2`: build the Debian guest, or copy it out of the cache."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from placet.guestimage.tools import BuildFailed
from tests.debian_guest.build import put_debian_image


def main(argv: list[str]) -> int:
    if len(argv) != 1:
        print("usage: python -m tests.debian_guest OUT.qcow2", file=sys.stderr)
        return 2
    started = time.monotonic()
    try:
        built = put_debian_image(Path(argv[0]))
    except (BuildFailed, OSError) as error:
        print(f"debian guest: {error}", file=sys.stderr)
        return 1
    how = "built" if built else "copied from the cache"
    print(f"{argv[0]}: {Path(argv[0]).stat().st_size / 1e6:.1f} MB, {how} in {time.monotonic() - started:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
