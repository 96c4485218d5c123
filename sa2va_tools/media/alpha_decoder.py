"""Decoding of VP8 and VP9 with an alpha channel, which WebM stores beside each frame.

FFmpeg's own decoders ignore it; those of libvpx return it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import av

_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


def stores_alpha_aside(stream: Any) -> bool:
    """Whether the frames have an alpha channel that is no part of the codec's pixel format."""
    tags = {name.lower(): value for name, value in stream.metadata.items()}
    return tags.get("alpha_mode") == "1"


def find_alpha_decoder(stream: Any) -> str | None:
    """The decoder that reads such an alpha channel; None if this build of FFmpeg lacks it."""
    name = _ALPHA_DECODERS.get(str(stream.codec_context.name))
    if name is None or not stores_alpha_aside(stream):
        return None
    try:
        av.Codec(name, "r")
    except ValueError:  # of which FFmpeg's "unknown codec" is one
        return None
    return name


def make_decode(stream: Any) -> Callable[[Any], list[Any]]:
    """What turns a packet of the stream into frames; an empty packet flushes it."""
    name = find_alpha_decoder(stream)
    if name is None:
        return lambda packet: list(packet.decode())
    decoder: Any = av.CodecContext.create(name, "r")
    decoder.thread_type = stream.thread_type
    return lambda packet: list(decoder.decode(packet if packet.size else None))
