# What up.sh and test.sh share: one line a step, Debian's packages, the .venv. Sourced, with `here` and `me` set.

. "$here/placet/onebox/packages.sh"

# step NAME REMEDY COMMAND...: one line with its time; its output goes to a log, whose end is shown when it fails
step() {
  local name=$1 remedy=$2 log began status
  shift 2
  log=$(mktemp /tmp/placet-step.XXXXXX)
  began=$EPOCHREALTIME
  set +e  # a subshell of its own: in the left part of `||` its set -e would not count
  (set -e; "$@") </dev/null >"$log" 2>&1
  status=$?
  set -e
  if [ $status != 0 ]; then
    line "$name" "$began" failed
    { echo "$me: $1 failed; the end of $log:"; tail -n "${STEP_LINES:-10}" "$log" | cut -c 1-160 | sed 's/^/    /'
      echo "  what to do: $remedy"; } >&2
    exit 1
  fi
  line "$name" "$began" "$(sed -n '$s/^done: //p' "$log")"
  rm -f "$log"
}

line() {
  awk -v name="$1" -v began="$2" -v now="$EPOCHREALTIME" -v text="$3" \
    'BEGIN { gsub(",", ".", began); gsub(",", ".", now); printf "%-10s %6.1f s  %s\n", name, now - began, text }'
}

# packages NAME...: those that are missing, installed
packages() {
  local missing
  mapfile -t missing < <(missing_packages "$@")
  [ ${#missing[@]} = 0 ] || install_packages "${missing[@]}"
  echo "done: ${#missing[@]} installed"
}

# Debian's own Python first: python3-venv and python3-dev belong to it. Placement needs 3.11.
choose_python() {
  local python
  for python in /usr/bin/python3 python3 python3.13 python3.12 python3.11; do
    if "$python" -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$python"
      return
    fi
  done
  echo "no Python 3.11 or later with venv found; install python3.11 and python3.11-venv" >&2
  return 1
}

# environment NAME FILE...: .venv with what the requirements files say; NAME is the stamp that tells it was done
environment() {
  local python wanted stamp=$here/.venv/placet-$1 files=() file
  shift
  for file in "$@"; do files+=(-r "$here/$file"); done
  python=$(choose_python)
  wanted=$({ "$python" -V; cd "$here"; cat "$@" constraints.txt; } | sha256sum)
  if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    [ -x "$here/.venv/bin/python" ] || "$python" -m venv "$here/.venv"
    "$here/.venv/bin/python" -m pip install "${files[@]}" -c "$here/constraints.txt"
    echo "$wanted" >"$stamp"
  fi
  echo "done: $("$here/.venv/bin/python" -V) in .venv"
}
