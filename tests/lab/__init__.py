"""A cloud of several isolated hosts on one machine, for tests and for people: `python -m tests.lab --help`."""

from tests.lab.lab import Lab, lab
from tests.lab.nodes import LabNode

__all__ = ["Lab", "LabNode", "lab"]
