"""Placet: a small compute cloud made of Placement, etcd and libvirt (docs/architecture.md)."""

__version__ = "0.1.0"
