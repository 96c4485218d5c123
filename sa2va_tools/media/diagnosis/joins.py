"""Whether a recording begins in the middle of a transport stream: there, packets seem to be lost."""

from __future__ import annotations

from pathlib import Path

from sa2va_tools.media.failures import translate_decoder_errors

_PACKET = 188
_MAX_TABLES = 8
"""Packets of tables before the first picture."""
_SOUND_AND_PICTURES = 0x100
"""Writers use lower packet numbers for tables only, and commonly 0x1000 for the map of the programme."""
_PROGRAMME_MAP = 0x1000


def begins_recording(path: Path, at: int) -> bool:
    """Whether the picture that begins at byte `at` follows tables that are counted from 0, as every writer
    begins. Raises MediaError."""
    start = max(0, at - _MAX_TABLES * _PACKET)
    with translate_decoder_errors(path), path.open("rb") as file:
        file.seek(at - (at - start) // _PACKET * _PACKET)
        data = file.read(at - file.tell())
    for packet in (data[end - _PACKET : end] for end in range(len(data), 0, -_PACKET)):
        number = int.from_bytes(packet[1:3], "big") & 0x1FFF
        if packet[0] != 0x47 or _SOUND_AND_PICTURES <= number != _PROGRAMME_MAP:
            return False
        if number == 0:
            return packet[3] & 0x0F == 0
    return False
