"""Guests under libvirt, by its Python binding alone.

`LibvirtConnection(uri, virt_type)` is the hypervisor: what it is can be asked before this node knows its cloud or its
subnet. `LibvirtDriver(connection, …)` is what a node that knows both does with it.
"""

from placet.drivers.libvirt.connection import LibvirtConnection
from placet.drivers.libvirt.driver import LibvirtDriver

__all__ = ["LibvirtConnection", "LibvirtDriver"]
