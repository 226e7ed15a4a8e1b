"""The etcd3 package on a current protobuf, and gRPC as Placet wants it: who needs either takes it from here.

etcd3's generated messages are of 2019, and no protobuf since 3.21 runs such code. The descriptions inside them are
sound, so protobuf makes the messages of those, as it does for code generated today: in C instead of in Python, which
takes a tenth of the time for each message and a tenth of what it took to load them.
"""

from __future__ import annotations

import ast
import os
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from google.protobuf import descriptor_pool
from google.protobuf.internal import builder

# gRPC reads these when it is loaded. Its fork handlers crash children of a process with live channels (we only ever
# fork to exec, which needs none of them), and its informational lines are no user's business.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

FILES = ("kv", "auth", "rpc")  # each needs those before it
SERIALIZED = re.compile(r"^ *serialized_pb=_b\((.*)\)$", re.MULTILINE)


def _make(name: str, source: Path) -> ModuleType:
    """The module that the generated file at `source` would be. Its description is text, a character for each byte."""
    found = SERIALIZED.search(source.read_text())
    if found is None:
        raise ImportError(f"{source} is not of the etcd3 package that requirements.txt names; install that one")
    file = descriptor_pool.Default().AddSerializedFile(ast.literal_eval(found[1]).encode("latin-1"))
    module = ModuleType(name)
    module.__dict__["DESCRIPTOR"] = file
    builder.BuildMessageAndEnumDescriptors(file, vars(module))
    builder.BuildTopDescriptorsAndMessages(file, name, vars(module))
    return module


def _install() -> None:
    package = find_spec("etcd3")
    if package is None or not package.submodule_search_locations:
        raise ImportError("the etcd3 package is missing; pip install -r requirements.txt")
    directory = Path(package.submodule_search_locations[0], "etcdrpc")
    for file in FILES:
        name = f"etcd3.etcdrpc.{file}_pb2"
        if name not in sys.modules:
            sys.modules[name] = _make(name, directory / f"{file}_pb2.py")


_install()

import etcd3  # noqa: E402
import grpc  # noqa: E402
from etcd3 import etcdrpc  # noqa: E402

__all__ = ["etcd3", "etcdrpc", "grpc"]
