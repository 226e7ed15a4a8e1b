"""Every error Placet raises on purpose, in one tree; the command line maps it to an exit code.

    PlacetError                     1  failed
    ├── Usage                       2  the words or a file of the user's are wrong
    │   ├── BadConfig                  an unknown key, a wrong type in a YAML file
    │   └── BadQuery                   malformed `resources=…`
    ├── NothingFits                 3  a fresh, full candidates query came back empty
    ├── NotYet                      4  it is not there yet, or did not come in time
    ├── Conflict                    5  someone else's, or the wrong state
    ├── NotFound                    1  no such instance, node, image
    ├── Unreachable                 1  a service does not answer: says which address and what to start
    ├── Refused                     1  a service answered, and said no
    │   └── LeaseGone                  what was to be put under a lease came after the lease's end
    ├── WatchLost                   1  a watch ended or fell silent: list again (never shown to a user)
    └── Fault                       1  a build cannot go on; becomes the status's `fault`

A message names the thing, what is wrong with it, and what to do. It never holds a secret.
"""

from __future__ import annotations


class PlacetError(Exception):
    """Base of all; `exit_code` is what the command line ends with."""

    exit_code = 1


class Usage(PlacetError):
    exit_code = 2


class BadConfig(Usage):
    pass


class BadQuery(Usage):
    pass


class NothingFits(PlacetError):
    exit_code = 3


class NotYet(PlacetError):
    exit_code = 4


class Conflict(PlacetError):
    exit_code = 5


class NotFound(PlacetError):
    pass


class Unreachable(PlacetError):
    pass


class Refused(PlacetError):
    pass


class LeaseGone(Refused):
    pass


class WatchLost(PlacetError):
    pass


class Fault(PlacetError):
    """A build that cannot go on by itself.

    `code` is a stable word for programs (`image-not-found`, `image-invalid`, `disk-full`, `hypervisor`,
    `no-allocation`, `bad-spec`, `disk-missing` …), the message is for people and names the remedy.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
