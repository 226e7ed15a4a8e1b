"""Images on this node: brought once, inspected before anything opens them, shared as backing files. Step 4, first part.

`ImageCache.fetch` is all that a worker needs. Never written to again once they are in the cache; nothing in here
knows of instances, etcd or libvirt.
"""

from placet.images.cache import ImageCache

__all__ = ["ImageCache"]
