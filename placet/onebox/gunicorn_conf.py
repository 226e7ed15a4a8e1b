"""How Placement is served: a gunicorn configuration file (https://docs.gunicorn.org/en/stable/settings.html).

Workers and addresses come by the command line (services.py).
"""

from __future__ import annotations

import gc
from typing import Any

worker_class = "sync"
# candidates of some thousand providers take their time on a slow machine
timeout = 120
graceful_timeout = 5
# its own control socket would lie outside the state directory
control_socket_disable = True


def post_worker_init(_worker: Any) -> None:
    """What is loaded by now lives for ever: keep the collector off it. Halved the time for candidates."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)
