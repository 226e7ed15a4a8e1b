"""Thousands of nodes in one process, on a hypervisor that only pretends: `compute.py --simulate N`.

What they say and do in etcd and Placement is real, and done by the code of real nodes; docs/simulation.md tells what
differs. `running.py` has the way from start to end, `nodes.py` builds one node, `pools.py` has the threads they share.
"""
