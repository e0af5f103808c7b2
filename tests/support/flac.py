"""FLAC files of silence, written by hand: each frame is one number, however long it lasts.

https://www.rfc-editor.org/rfc/rfc9639
"""

import struct


def silence(rate: int, *frames: int) -> bytes:
    """16-bit, one channel, at `rate` samples a second. `frames`: samples of each, 65,535 at most;
    all but the last are of one length.
    """
    longest = max(frames)
    sizes = struct.pack(">HH", longest, longest)
    facts = rate << 44 | 15 << 36 | sum(frames)
    info = sizes + bytes(6) + facts.to_bytes(8) + bytes(16)
    blocks = [_frame(number, samples) for number, samples in enumerate(frames)]
    return b"fLaC" + bytes((0x80, 0, 0, len(info))) + info + b"".join(blocks)


def _frame(number: int, samples: int) -> bytes:
    assert number < 128, "a larger number takes more than one byte"
    # Its length stands behind the number, its rate in the file's head; 16 bits, one channel.
    head = bytes((0xFF, 0xF8, 0x70, 0x08, number)) + struct.pack(">H", samples - 1)
    head += bytes((_crc(head, 8, 0x07),))
    constant = b"\0\0\0"
    return head + constant + _crc(head + constant, 16, 0x8005).to_bytes(2)


def _crc(data: bytes, bits: int, polynomial: int) -> int:
    found, top = 0, 1 << bits - 1
    for byte in data:
        found ^= byte << bits - 8
        for _ in range(8):
            found = (found << 1 ^ polynomial if found & top else found << 1) & (top * 2 - 1)
    return found
