"""Real boots, as a simulated hypervisor repeats them."""

from __future__ import annotations

# Seconds from the start of the domain until the guest had its IP, and until its agent spoke: the twenty boots that
# `python -m bench boots` recorded on 2026-11-21 (the small guest image, QEMU without KVM, 2 cores with other work on
# them; eight one after the other, then two at once, the last four together).
BOOTS: tuple[tuple[float, float], ...] = (
    (3.46, 3.67),
    (3.40, 3.71),
    (3.34, 3.58),
    (3.23, 3.45),
    (3.42, 3.75),
    (3.37, 3.64),
    (3.23, 3.43),
    (2.99, 3.26),
    (4.70, 5.14),
    (4.07, 4.40),
    (3.95, 4.53),
    (4.59, 5.02),
    (4.50, 5.18),
    (3.67, 4.15),
    (4.76, 5.28),
    (4.40, 4.67),
    (9.35, 9.99),
    (11.19, 11.19),
    (11.30, 11.71),
    (7.02, 8.34),
)
