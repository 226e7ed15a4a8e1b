#!/usr/bin/env bash
# A cloud on this machine: ./up.sh [up] | status | down | destroy; ./up.sh up --help lists the options.
# This part brings Debian's packages and a .venv; placet/onebox does the rest. Nothing is done twice.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
me=up.sh
. "$here/placet/onebox/setup.sh"

if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null || { echo "up.sh: root is needed (packages, libvirt, networks): become root" >&2; exit 1; }
  exec sudo env ${PLACET_STATE_DIR:+"PLACET_STATE_DIR=$PLACET_STATE_DIR"} \
    ${PLACET_CACHE_DIR:+"PLACET_CACHE_DIR=$PLACET_CACHE_DIR"} "$here/up.sh" "$@"
fi

exec 9<"$here"  # one at a time here, too
flock 9
case " ${*:-up} " in
  *" status "* | *" down "* | *" destroy "* | *" -h "* | *" --help "*)
    [ -x "$here/.venv/bin/python" ] || { echo "up.sh: no .venv here, so nothing was started from here" >&2; exit 1; } ;;
  *)
    step packages "see that apt-get works here (network, sources, disk space), then run ./up.sh again" \
      packages $(python_packages) "${RUN_PACKAGES[@]}" "${BUILD_PACKAGES[@]}" "${IMAGE_PACKAGES[@]}"
    step python "see the log; the network and a compiler are needed; then run ./up.sh again" \
      environment run requirements.txt ;;
esac
exec 9<&-
PYTHONPATH=$here exec "$here/.venv/bin/python" -m placet.onebox "$@"
