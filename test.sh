#!/usr/bin/env bash
# Every test and check: ./test.sh. Quick ones alone: --fast. Many more random histories, and others each time: --long.
# Installs what it needs on Debian 12.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
me=test.sh
. "$here/placet/onebox/setup.sh"
cd "$here"

limit=5400
case ${1:-} in
  "") layers=(unit contract flow stateful live faults) ;;
  --fast) layers=(unit flow) ;;
  --long)
    layers=(stateful) limit=0
    export PLACET_HISTORIES=${PLACET_HISTORIES:-10000} PLACET_SEED=${PLACET_SEED:-$RANDOM}
    echo "PLACET_HISTORIES=$PLACET_HISTORIES PLACET_SEED=$PLACET_SEED"
    ;;
  *) echo "test.sh: unknown option '$1'; there are --fast and --long" >&2; exit 2 ;;
esac
[ "$(id -u)" = 0 ] || { echo "test.sh: root is needed (packages, libvirt, namespaces): sudo ./test.sh" >&2; exit 1; }

remedy="mend what the lines above say, then run ./test.sh again"
step packages "see that apt-get works here, then run ./test.sh again" \
  packages $(python_packages) "${RUN_PACKAGES[@]}" "${BUILD_PACKAGES[@]}" "${IMAGE_PACKAGES[@]}" "${TEST_PACKAGES[@]}"
step python "see the log; the network and a compiler are needed" \
  environment tests requirements.txt requirements-dev.txt
PATH=$here/.venv/bin:$PATH
export STEP_LINES=40
[ "${1:-}" = --long ] || export PYTHONHASHSEED=0  # random tests are the same each time, sets' order included
step format "ruff format" ruff format --check .
step lint "ruff check --fix, and by hand what is left" ruff check .
step types "$remedy" mypy
step layers "$remedy" lint-imports
for layer in "${layers[@]}"; do
  echo "== $layer"
  # pytest ends a test that hangs (pyproject.toml); this ends a pytest that does
  timeout --kill-after=60 "$limit" python -m pytest "tests/$layer" --durations=5
done
