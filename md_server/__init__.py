"""The metadata service of one node: tells each guest about itself at http://169.254.169.254. `python -m md_server`.

A process of its own, started by the agent (placet/metadata_process.py): it answers on while the agent restarts, and
whatever a guest sends, the agent is not what it reaches. It reads the guests' records and nothing else; a guest is
known by the address its socket comes from, never by what it says.

    __main__     argv, wiring, the life of the process
    listening    the socket on the guests' bridge
    connection   bytes and time: one HTTP/1.1 connection, its limits
    answers      what a request gets: pure but for the lookup of the guest
    tokens       IMDSv2 session tokens
"""
