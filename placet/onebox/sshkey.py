"""The ssh key that new VMs get by default. Made once, never overwritten."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path


def make_key(private: Path, environment: Mapping[str, str]) -> bool:
    """Make the pair where it is missing, owned by the user behind sudo; whether it was."""
    public = private.with_name(f"{private.name}.pub")
    if private.exists() and public.exists():
        return False
    if private.exists():
        found = subprocess.run(["ssh-keygen", "-y", "-f", private], check=True, capture_output=True)
        public.write_bytes(found.stdout)
    else:
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "placet", "-f", str(private)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    private.chmod(0o600)
    public.chmod(0o644)
    user, group = environment.get("SUDO_UID"), environment.get("SUDO_GID")
    if user and group:
        os.chown(private, int(user), int(group))
        os.chown(public, int(user), int(group))
    return True
