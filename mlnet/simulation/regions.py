"""Latencies between the regions of the world.

Figures: IBM Cloud's published average inter-region latency, 28 September to 27 October 2024 (IBM Cloud docs
for VPC, "Network latency dashboards"), round trips in milliseconds. Where the two directions differ, the
larger one is taken; within a region it is 2 ms.
"""

from __future__ import annotations

REGIONS = ("dallas", "washington", "london", "frankfurt", "tokyo", "sydney", "sao-paulo")
ROUND_TRIP_MS = (
    # dal, was, lon, fra, tok, syd, sao
    (2, 31, 114, 123, 143, 185, 144),
    (31, 2, 76, 92, 169, 214, 119),
    (114, 76, 2, 13, 242, 261, 188),
    (123, 92, 13, 2, 231, 250, 198),
    (143, 169, 242, 231, 2, 115, 283),
    (185, 214, 261, 250, 115, 2, 328),
    (144, 119, 188, 198, 283, 328, 2),
)


def one_way_us(one: int, other: int) -> int:
    """Half of the round trip between two regions, in microseconds."""
    return ROUND_TRIP_MS[one][other] * 500
