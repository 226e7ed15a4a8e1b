#!/bin/sh
# Takes the guest agent's place on its port and answers libvirt's question for addresses as badly as it is told to, by an
# `execute` of a mode's name, which it answers as the handshake (guest-sync). $1 holds its lies.

lies=$1
answer=/run/answer
for port in /sys/class/virtio-ports/*; do
    read -r name <"$port/name"
    [ "$name" = org.qemu.guest_agent.0 ] && device=/dev/${port##*/}
done

usleep 300000 # the real one still answers who started this
rm "$(which qemu-ga)" # init would start it again
killall -9 qemu-ga
until (: <>"$device") 2>/dev/null; do usleep 1000; done
exec 3<>"$device"

bytes() {
    head -c "$1" /dev/zero | tr '\0' "$2"
}

# libvirt may hang up in the middle, and then takes nothing; whoever opens the port again is heard again. QEMU tells of
# a port that is closed and opened once a second: of two changes in one, libvirt would see none.
say_and_reopen() {
    cat "$answer" >&3 &
    for _ in $(seq 50); do
        kill -0 $! 2>/dev/null || break
        usleep 100000
    done
    kill -9 $! 2>/dev/null
    wait
    exec 3<&-
    sleep 2
    exec 3<>"$device"
}

mode=silent
while true; do
    read -r line <&3 || usleep 50000 # the port ends while libvirt is away
    if [ "$mode" = deaf ]; then # for one line, or it could never be told otherwise
        mode=silent
        continue
    fi
    case $line in
    *'"guest-sync"'*)
        id=${line##*'"id":'}
        printf '{"return":%s}\n' "${id%%\}*}" >&3
        ;;
    *'"guest-network-get-interfaces"'*)
        case $mode in
        lies) cat "$lies" >&3 ;;
        long) { printf '{"return":[{"name":"' && bytes 11000000 a && echo '"}]}'; } >$answer && say_and_reopen ;;
        deep) { printf '{"return":' && bytes 100000 '[' && bytes 100000 ']' && echo '}'; } >$answer && say_and_reopen ;;
        bottomless) { printf '{"return":' && bytes 100000 '[' && echo; } >$answer && say_and_reopen ;;
        noise) { head -c 100000 /dev/urandom && echo; } >$answer && say_and_reopen ;;
        esac
        ;;
    *'"execute"'*)
        mode=${line##*'"execute":"'}
        mode=${mode%%'"'*}
        echo '{"return":{}}' >$answer
        if [ "$mode" = reopen ]; then say_and_reopen; else cat $answer >&3; fi
        ;;
    esac
done
