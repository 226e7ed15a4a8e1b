#!/usr/bin/env bash
# etcd and Placement in containers, built from docker/Dockerfile; plain docker commands, no compose needed.
set -euo pipefail

usage() {
  cat <<'END'
Usage: ./docker.sh up [--listen ADDR] | down [--volumes] | status | logs [etcd | placement [-f ...]]

  up      build the images, start what does not run as asked, wait until it is healthy; can be repeated
  down    stop and remove the containers; data stay in volumes. --volumes: data and images go, too
  status  what runs; exit 0 when both are healthy
  logs    the last lines of both, or of one; further words go to `docker logs`

Each `up` goes by these settings as they are then:
  PLACET_DOCKER_NAME=placet          names containers, volumes, network and images
  PLACET_ETCD_PORT=2379
  PLACET_PLACEMENT_PORT=8080
  PLACET_PLACEMENT_DB=URL            instead of SQLite in a volume:
                                     postgresql+psycopg2://USER:PASSWORD@host.docker.internal/DATABASE
  PLACET_PLACEMENT_WORKERS=1         more than 1 need PostgreSQL
  PIP_INDEX_URL, PIP_EXTRA_INDEX_URL, PIP_TRUSTED_HOST, http_proxy, https_proxy, no_proxy: for the build
END
}

HEALTHY_WITHIN_S=60
BUILD_SETTINGS=(PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_TRUSTED_HOST http_proxy https_proxy no_proxy)
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
name=${PLACET_DOCKER_NAME:-placet}
listen=127.0.0.1
etcd_port=${PLACET_ETCD_PORT:-2379}
placement_port=${PLACET_PLACEMENT_PORT:-8080}
workers=${PLACET_PLACEMENT_WORKERS:-1}
database=${PLACET_PLACEMENT_DB:-sqlite:////data/placement.db}

die() { echo "docker.sh: $1" >&2; exit 1; }
misuse() { echo "docker.sh: $1; ./docker.sh --help says more" >&2; exit 2; }

# say WHAT BEGAN TEXT: one line with the time since BEGAN, as up.sh prints them
say() {
  awk -v name="$1" -v began="$2" -v now="$EPOCHREALTIME" -v text="$3" \
    'BEGIN { gsub(",", ".", began); gsub(",", ".", now); printf "%-10s %6.1f s  %s\n", name, now - began, text }'
}

# last_lines TEXT REMEDY: what a failed step said, and what to do about it
last_lines() {
  { tail -n 10 <<<"$1" | cut -c 1-160 | sed 's/^/    /'; echo "  what to do: $2"; } >&2
  exit 1
}

check_settings() {
  local port
  [[ $name =~ ^[a-z][a-z0-9-]*$ ]] || misuse "PLACET_DOCKER_NAME=$name: expected lower-case letters, digits and -"
  for port in "$etcd_port" "$placement_port"; do
    [[ $port =~ ^[1-9][0-9]{0,4}$ && $port -le 65535 ]] || misuse "$port is no port (1 to 65535)"
  done
  [[ $workers =~ ^[1-9][0-9]*$ ]] || misuse "PLACET_PLACEMENT_WORKERS=$workers: expected a number from 1 on"
  [[ $workers = 1 || $database != sqlite:* ]] ||
    misuse "PLACET_PLACEMENT_WORKERS=$workers: SQLite stands one writer; set PLACET_PLACEMENT_DB to a PostgreSQL"
}

need_engine() {
  local answer
  command -v docker >/dev/null || die "there is no docker here: install it (Debian: apt-get install docker.io)"
  answer=$(timeout 20 docker version --format '{{.Server.Version}}' 2>&1) && return
  [[ $answer != *"permission denied"* ]] ||
    die "this user may not use Docker: run it by sudo, or join the group docker and log in again"
  die "no Docker engine answers at ${DOCKER_HOST:-its default socket}: start it (systemctl start docker)"
}

ours() { echo "label=placet=$name"; }

build() {
  local service output setting arguments=() began=$EPOCHREALTIME
  for setting in "${BUILD_SETTINGS[@]}"; do
    [ -z "${!setting:-}" ] || arguments+=(--build-arg "$setting")
  done
  for service in etcd placement; do
    # the machine's own network, so that an index or a proxy on its loopback serves, too
    output=$(docker build --force-rm --network host --target "$service" --label "placet=$name" --tag "$name-$service" \
      "${arguments[@]}" --file "$here/docker/Dockerfile" "$here" 2>&1) || {
      echo "docker.sh: the image of $service could not be built; the end of what docker said:" >&2
      last_lines "$output" "see that Debian's mirror and Python's package index can be reached, then run it again"
    }
  done
  say images "$began" "$name-etcd, $name-placement"
}

# start SERVICE PORT INNER_PORT ARGUMENT...: run its container unless it runs just so already
start() {
  local container=$name-$1 place=$listen output arguments=("${@:4}") wanted
  [[ $place != *:* ]] || place="[$place]"
  arguments+=(--publish "$place:$2:$3" --volume "$container:/data")
  wanted=$( { docker image inspect --format '{{.Id}}' "$container"
              printf '%s\n' "${arguments[@]}" "${OS_PLACEMENT_DATABASE__CONNECTION:-}"; } | sha256sum | cut -c 1-16)
  [ "$(docker ps --quiet --filter "$(ours)" --filter "label=placet.settings=$wanted" --filter status=running)" = "" ] ||
    return 0
  stop "$1"
  docker volume create --label "placet=$name" "$container" >/dev/null
  # `local` is the one log driver that never fills the disk by itself
  output=$(docker run --detach --name "$container" --label "placet=$name" --label "placet.settings=$wanted" \
    --network "$name" --restart unless-stopped --log-driver local \
    --cap-drop ALL --security-opt no-new-privileges "${arguments[@]}" "$container" 2>&1) && return
  stop "$1"
  case $output in
    *"address already in use"* | *"port is already allocated"*)
      die "port $2 of $listen is taken: end what has it, or set PLACET_${1^^}_PORT to another" ;;
    *"is already in use by container"*)
      die "there is a container $container that is not this program's: set PLACET_DOCKER_NAME to another name" ;;
  esac
  echo "docker.sh: $container could not be started:" >&2
  last_lines "$output" "mend that, then run ./docker.sh up again"
}

stop() {
  local container
  container=$(docker ps --all --quiet --filter "$(ours)" --filter "name=^/$name-$1\$")
  [ -z "$container" ] || docker stop "$container" >/dev/null
  [ -z "$container" ] || docker rm "$container" >/dev/null
}

# await SERVICE BEGAN TEXT: return when it is healthy
await() {
  local container=$name-$1 deadline=$((SECONDS + HEALTHY_WITHIN_S))
  until healthy "$1"; do
    # three deaths are a cause that does not go away by waiting
    if [ $SECONDS -ge $deadline ] || [ "$(docker inspect --format '{{.RestartCount}}' "$container")" -ge 3 ]; then
      echo "docker.sh: $container does not get healthy; the end of its log:" >&2
      last_lines "$(docker logs --tail 10 "$container" 2>&1)" \
        "mend what it says (docker.sh logs $1 shows more), then run ./docker.sh up again"
    fi
    sleep 0.2
  done
  say "$1" "$2" "$3"
}

healthy() { docker exec "$name-$1" healthy >/dev/null 2>&1; }

up() {
  local began placement=(--env OS_PLACEMENT_DATABASE__CONNECTION --env "PLACET_PLACEMENT_WORKERS=$workers")
  [[ $database != *host.docker.internal* ]] || placement+=(--add-host host.docker.internal:host-gateway)
  build
  began=$EPOCHREALTIME
  docker network inspect "$name" >/dev/null 2>&1 || docker network create --label "placet=$name" "$name" >/dev/null
  start etcd "$etcd_port" 2379
  # by the environment: a password shall not be seen in the list of processes
  OS_PLACEMENT_DATABASE__CONNECTION=$database start placement "$placement_port" 8080 "${placement[@]}"
  await etcd "$began" "$listen:$etcd_port"
  await placement "$began" "http://$listen:$placement_port"
  case $listen in
    127.* | ::1) ;;
    *) echo "Whoever reaches $listen:$etcd_port or :$placement_port owns every node: let only nodes through." ;;
  esac
}

down() {
  local found
  stop placement
  stop etcd
  found=$(docker network ls --quiet --filter "$(ours)")
  [ -z "$found" ] || docker network rm "$found" >/dev/null
  [ "$1" = --volumes ] || return 0
  found=$(docker volume ls --quiet --filter "$(ours)")
  [ -z "$found" ] || xargs docker volume rm <<<"$found" >/dev/null
  found=$(docker image ls --filter "$(ours)" --filter "reference=$name-*" --format '{{.Repository}}:{{.Tag}}')
  [ -z "$found" ] || xargs docker image rm <<<"$found" >/dev/null
  for found in "placet=$name" placet.stage; do  # what no name points to any more
    docker image prune --force --filter "label=$found" >/dev/null
  done
}

status() {
  local service state all=0
  for service in etcd placement; do
    state="does not run"
    if healthy "$service"; then
      state="healthy at $(docker port "$name-$service" | sed 's/.*-> //' | paste -sd ' ')"
    elif docker inspect "$name-$service" >/dev/null 2>&1; then
      state="not healthy (docker.sh logs $service)"
    fi
    [[ $state = healthy* ]] || all=1
    printf '%-10s %s\n' "$service" "$state"
  done
  return $all
}

logs() {
  local service
  case ${1:-} in
    etcd | placement)
      docker inspect "$name-$1" >/dev/null 2>&1 || die "there is no container $name-$1: start it with ./docker.sh up"
      docker logs --tail 100 "${@:2}" "$name-$1" 2>&1 ;;
    "") for service in etcd placement; do echo "==> $service <=="; logs "$service"; done ;;
    *) misuse "logs $1: expected etcd or placement" ;;
  esac
}

verb=${1:-}
shift || true
case $verb in
  up)
    while [ $# -gt 0 ]; do
      [[ $1 = --listen && -n ${2:-} ]] || misuse "up $1: expected --listen ADDR"
      listen=$2
      shift 2
    done
    check_settings; need_engine; up ;;
  down)
    [[ $# = 0 || "$*" = --volumes ]] || misuse "down $*: expected nothing or --volumes"
    check_settings; need_engine; down "${1:-}" ;;
  status) check_settings; need_engine; status ;;
  logs) check_settings; need_engine; logs "$@" ;;
  -h | --help | help) usage ;;
  "") usage >&2; exit 2 ;;
  *) misuse "unknown verb $verb: expected up, down, status or logs" ;;
esac
