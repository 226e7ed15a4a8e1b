"""Makes docs/session.svg: a terminal session whose every line is what the commands really printed.

python docs/make_session.py        needs a cloud that runs (./up.sh); places two VMs and destroys them again
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

PROJECT = Path(__file__).resolve().parent.parent
COLUMNS = 104
FONT_FACES = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
UUID = re.compile(r"OF INSTANCE ([0-9a-f-]{36})")

SESSION = (
    "python schedule.py 'resources=VCPU:1,DISK_GB:1,MEMORY_MB:256'",
    "python schedule.py {uuid}",
    "python schedule.py 'resources=VCPU:1,MEMORY_MB:128' --name web --wait",
    "python schedule.py list",
    "python schedule.py show web -c name -c state -c addresses -c stages",
    "python schedule.py events web -c at -c what -c reason",
    "python schedule.py nodes",
    "python schedule.py doctor",
    "python schedule.py 'resources=MEMORY_MB:999999'",
    "python schedule.py destroy {uuid} web && python schedule.py list",
)


def main() -> None:
    """Run the session and write the picture."""
    console = Console(record=True, width=COLUMNS, file=sys.stderr, force_terminal=True)
    uuid = ""
    for line in SESSION:
        command = line.format(uuid=uuid)
        if line.endswith("{uuid}"):
            _run(f"python schedule.py ip {uuid} >/dev/null 2>&1 || python - <<'wait'\n{_WAIT.format(uuid=uuid)}\nwait")
        output = _run(command)
        console.print(Text.assemble(("$ ", "bold green"), (command, "bold")))
        console.print(Text(output.rstrip("\n")))
        uuid = uuid or next(iter(UUID.findall(output)), "")
    picture = console.export_svg(title="Placet", unique_id="placet")
    (PROJECT / "docs" / "session.svg").write_text(FONT_FACES.sub("", picture))


# the reader is not shown the seconds in which the VM boots
_WAIT = """
import subprocess, time
while subprocess.run(["python", "schedule.py", "{uuid}"], capture_output=True).returncode == 4:
    time.sleep(0.2)
"""


def _run(command: str) -> str:
    """What a command printed, both streams in their order; run in a shell since that is what is shown."""
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    shell = ["bash", "-c", f"PATH={path}; {command}"]
    done = subprocess.run(shell, cwd=PROJECT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return done.stdout


if __name__ == "__main__":
    main()
