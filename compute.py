#!/usr/bin/env python3
"""The agent of one compute node: `compute.py --help`."""

from placet.cli.compute import run

if __name__ == "__main__":
    run()
