"""Images on this node: brought once, inspected before anything opens them, shared as backing files. Step 4, first part.

`ImageCache.fetch` is all that a worker needs. Images are never written to again once they are in the cache; nothing in
here knows of instances, etcd or libvirt. docs/images.md says what an image may be.

    cache        who asks for what; finds it, or has it brought
    remote       over connection, places, addresses: by http(s)
    local        from a file on this node
    bringing     part -> unpacking -> inspection, headers -> qemu_img
    directory    over origins, eviction: what is here, and for how long
"""

from placet.images.cache import ImageCache
from placet.images.transfer import Limits, shown

__all__ = ["ImageCache", "Limits", "shown"]
