"""The metadata service of one node: tells each guest about itself at http://169.254.169.254. `python -m md_server`.

A process of its own, started by the agent (placet/metadata_process.py): it answers on while the agent restarts, and
whatever a guest sends, the agent is not what it reaches. It reads the guests' records, keeps what they publish of
themselves, and touches nothing else; a guest is known by the address its socket comes from, never by what it says.

    __main__     argv, wiring, the life of the process
    listening    the sockets on the guests' bridge
    privileges   giving up what root may
    admission    who may be connected, and how often
    connection   bytes and time: one HTTP/1.1 connection, its limits
    messages     requests and answers as values
    answers      what a request gets: which guest, whether it may, which part below answers
    tokens       IMDSv2 session tokens
    documents    the guests' documents
    publishing   what guests tell of themselves
    rates        how often they may
"""
