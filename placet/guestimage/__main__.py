"""`python -m placet.guestimage OUT.qcow2 [--cache DIR] [--force]`: build the guest image, say where it is."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from placet.guestimage.build import build
from placet.guestimage.tools import BuildFailed


def main(argv: list[str]) -> int:
    arguments = parse(argv)
    signal.signal(signal.SIGTERM, interrupt)
    started = time.monotonic()
    try:
        built = build(arguments.out, arguments.cache, force=arguments.force)
    except (BuildFailed, OSError) as error:
        print(f"guest image: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("guest image: interrupted, nothing is left behind", file=sys.stderr)
        return 130
    size_mb = arguments.out.stat().st_size / 1e6
    how = "built" if built else "copied from the cache"
    print(f"{arguments.out}: {size_mb:.1f} MB, {how} in {time.monotonic() - started:.1f} s")
    return 0


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m placet.guestimage", description=__doc__, allow_abbrev=False)
    parser.add_argument("out", type=Path, metavar="OUT.qcow2", help="where the image shall be")
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path(os.environ.get("PLACET_CACHE_DIR", "/var/cache/placet")),
        metavar="DIR",
        help="packages and built images ($PLACET_CACHE_DIR, or /var/cache/placet)",
    )
    parser.add_argument("--force", action="store_true", help="build even if this recipe's image is in the cache")
    return parser.parse_args(argv)


def interrupt(_signal: int, _frame: FrameType | None) -> None:
    """End as Ctrl-C does, so that temporary directories are removed."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
