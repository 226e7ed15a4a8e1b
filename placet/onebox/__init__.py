"""The cloud on one machine: what `./up.sh` runs once Python and the packages are there.

    __main__        argv -> verb; prints; maps errors to exit codes
    options         the command line
    choose          options + what is remembered + what the machine has -> settings (decides, touches nothing)
    settings layout what was chosen (onebox.json), and where everything lies below the state directory
    services        the one table of what runs: name, argv, environment, ready check, order
    processes units what starts and stops that table: plain daemons, or systemd units
    hypervisor      the parent of a libvirtd of our own
    up status down destroy   the four verbs

Nothing here is needed to run compute.py and schedule.py against an etcd, a Placement and a libvirtd of one's own.
"""
