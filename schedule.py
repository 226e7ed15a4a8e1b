#!/usr/bin/env python3
"""Place, find and destroy virtual machines: `schedule.py --help`."""

from placet.cli.main import run

if __name__ == "__main__":
    run()
