"""What several files of unit tests need."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def crc32c() -> Callable[[bytes | bytearray], int]:
    """CRC-32C (RFC 3720, appendix B.4), bit by bit."""

    def checksum(data: bytes | bytearray) -> int:
        rest = 0xFFFF_FFFF
        for byte in data:
            rest ^= byte
            for _ in range(8):
                rest = rest >> 1 ^ (0x82F6_3B78 if rest & 1 else 0)
        return rest ^ 0xFFFF_FFFF

    return checksum
