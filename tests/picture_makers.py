"""Files whose pictures a player does not show as they are stored: HDR, several streams, fields, profiles."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from media_makers import keep_priority, numbered_frame
from PIL import Image

RED, GREY, WHITE = (220, 40, 40), (70, 76, 86), (255, 255, 255)
BT709, BT2020, P3 = 1, 9, 12
SDR_2020, PQ, SRGB, HLG = 14, 16, 13, 18
TO_BT2020 = np.array(
    [[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]]
)  # BT.2087, from linear BT.709
TO_P3 = np.array([[0.8225, 0.1774, 0.0], [0.0332, 0.9669, 0.0], [0.0171, 0.0724, 0.9108]])


# ---- signals ----------------------------------------------------------------------------------------


def encode_pq(nits: np.ndarray) -> np.ndarray:
    """BT.2100, table 4."""
    power = (nits / 10_000) ** 0.1593017578125
    return np.asarray(((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375)


def encode_hlg(nits: np.ndarray) -> np.ndarray:
    """BT.2100, table 5, of a screen of 1000 cd/m²."""
    screen = nits / 1000
    luminance = screen @ np.array([0.2627, 0.6780, 0.0593])
    scene = screen * luminance[..., None] ** (1 / 1.2 - 1)
    curve = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), curve)


def srgb_light(colours: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """Linear light, with white at 1."""
    code = np.array(colours) / 255
    return np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)


def encode_signal(colours: Sequence[tuple[int, int, int]], transfer: int, srgb: bool = False) -> np.ndarray:
    """SDR colours, with white at 203 cd/m², as BT.2020 signals 0 … 1, (n, 3)."""
    light = srgb_light(colours) if srgb else (np.array(colours) / 255) ** 2.4
    light = light @ TO_BT2020.T
    if transfer == SDR_2020:
        return np.asarray(light ** (1 / 2.4))
    return encode_pq(light * 203) if transfer == PQ else encode_hlg(light * 203)


def make_patches(signals: np.ndarray, size_wh: tuple[int, int] = (96, 48)) -> np.ndarray:
    """Vertical stripes, one for each signal: (H, W, 3) 16-bit RGB."""
    width, height = size_wh
    rgb = np.zeros((height, width, 3), np.uint16)
    for at, signal in enumerate(signals):
        rgb[:, at * width // len(signals) :] = np.rint(signal * 65535)
    return rgb


def read_patches(rgb: np.ndarray, count: int) -> list[tuple[int, ...]]:
    """The colours in the middle of such stripes."""
    height, width = rgb.shape[:2]
    centres = ((2 * at + 1) * width // (2 * count) for at in range(count))
    return [tuple(int(level) for level in rgb[height // 2, centre]) for centre in centres]


# ---- videos -----------------------------------------------------------------------------------------


def make_colour_video(
    path: Path,
    rgb16: np.ndarray,
    *,
    transfer: int,
    primaries: int = BT2020,
    codec: str = "ffv1",
    pix_fmt: str = "yuv420p10le",
    is_full: bool = False,
    count: int = 3,
    options: dict[str, str] | None = None,
) -> Path:
    """The same picture `count` times, with its colours described."""
    height, width = rgb16.shape[:2]
    matrix = 9 if primaries == BT2020 else 1
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.options = options or {}
        context = stream.codec_context
        context.color_trc, context.color_primaries, context.colorspace = transfer, primaries, matrix
        context.color_range = 2 if is_full else 1
        for index in range(count):
            frame = av.VideoFrame.from_ndarray(rgb16, format="rgb48le")
            frame = frame.reformat(
                format=pix_fmt, dst_colorspace=matrix, dst_color_range="JPEG" if is_full else "MPEG"
            )
            frame.color_trc, frame.color_primaries = transfer, primaries
            frame.pts = index
            frame.time_base = Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    keep_priority()
    return path


def make_streams(
    path: Path,
    sizes_wh: Sequence[tuple[int, int]],
    *,
    default: Sequence[int] = (),
    codecs: Sequence[str] = (),
    counts: Sequence[int] = (),
    attached: Sequence[int] = (),
    audio: bool = False,
) -> Path:
    """A file with several video streams; frame i of stream s is `numbered_frame(i + 2 s)`."""
    marks = av.stream.Disposition
    with av.open(str(path), "w") as container:
        streams = []
        for at, size_wh in enumerate(sizes_wh):
            codec = codecs[at] if codecs else "libx264"
            stream = container.add_stream(codec, rate=10)
            stream.width, stream.height = size_wh
            stream.pix_fmt = {"mjpeg": "yuvj420p", "png": "rgb24"}.get(codec, "yuv420p")
            stream.disposition = marks.attached_pic if at in attached else marks.default * (at in default)
            streams.append(stream)
        sound = container.add_stream("aac", rate=8000, layout="mono") if audio else None
        for index in range(max(counts, default=12)):
            for at, stream in enumerate(streams):
                if index < (counts[at] if counts else 12):
                    frame = av.VideoFrame.from_ndarray(numbered_frame(index + 2 * at, sizes_wh[at]))
                    frame.pts = index
                    frame.time_base = Fraction(1, 10)
                    container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode())
        if sound is not None:
            add_silence(container, sound, 1.0)
    return path


def add_silence(container: av.container.OutputContainer, stream: av.AudioStream, seconds: float) -> None:
    for index in range(int(seconds * 8000 / 1024) + 1):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 8000, index * 1024
        container.mux(stream.encode(frame))
    container.mux(stream.encode())


def make_late_video(path: Path, late_s: float) -> Path:
    """Sound from 0 s, a picture from `late_s` on."""
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=8000, layout="mono")
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.options = {"bf": "0"}
        add_silence(container, sound, late_s + 1)
        for index in range(8):
            frame = av.VideoFrame.from_ndarray(numbered_frame(index))
            frame.pts = index + round(late_s * 10)
            frame.time_base = Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def make_interlaced(
    path: Path, codec: str, pix_fmt: str = "yuv420p", *, is_top_first: bool = True, count: int = 8, **how: str
) -> list[np.ndarray]:
    """A red square that moves 6 pixels a field, over a green bar that rests. Returns the pictures of the
    moments at which the upper fields (lines 0, 2, …) are shown."""
    shown = []
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, pix_fmt
        stream.options = how
        stream.codec_context.flags |= (1 << 18) | (1 << 29)  # interlaced DCT and motion estimation
        if codec != "libx264":
            stream.codec_context.field_order = 2 if is_top_first else 3
        for index in range(count):
            fields = [_moving_square(2 * index), _moving_square(2 * index + 1)]
            top, bottom = fields if is_top_first else fields[::-1]
            container.mux(stream.encode(_weave(top, bottom, pix_fmt, index)))
            shown.append(top)
        container.mux(stream.encode())
    return shown


def _moving_square(moment: int) -> np.ndarray:
    rgb = np.full((240, 320, 3), GREY, np.uint8)
    rgb[160:208, 40:280] = (48, 166, 60)
    at = 20 + 6 * moment % 180
    rgb[40:120, at : at + 80] = RED
    return rgb


def _weave(top: np.ndarray, bottom: np.ndarray, pix_fmt: str, pts: int) -> av.VideoFrame:
    """Each field gets chroma of its own, as in a camera."""
    fields = [
        av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb[parity::2])).reformat(format=pix_fmt)
        for parity, rgb in enumerate((top, bottom))
    ]
    frame = av.VideoFrame(top.shape[1], top.shape[0], pix_fmt)
    for target, *sources in zip(frame.planes, *(field.planes for field in fields), strict=True):
        lines = np.zeros((target.buffer_size // target.line_size, target.line_size), np.uint8)
        for parity, plane in enumerate(sources):
            rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
            lines[parity::2][: len(rows), : plane.line_size] = rows
        target.update(lines)
    frame.pts = pts
    frame.time_base = Fraction(1, 25)
    return frame


# ---- JPEGs in a row ---------------------------------------------------------------------------------


def make_jpegs(count: int, size_wh: tuple[int, int] = (64, 48), **save: object) -> list[bytes]:
    made = []
    for index in range(count):
        buffer = io.BytesIO()
        Image.fromarray(numbered_frame(index, size_wh)).save(buffer, "JPEG", quality=95, **save)
        made.append(buffer.getvalue())
    return made


# ---- pictures ---------------------------------------------------------------------------------------


def make_png16(path: Path, rgb16: np.ndarray, code_points: tuple[int, int] | None = None) -> Path:
    """A 16-bit PNG, with the chunk cICP for (colour primaries, transfer characteristics)."""
    height, width = rgb16.shape[:2]
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in rgb16)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0))]
    if code_points is not None:
        chunks.append((b"cICP", bytes([*code_points, 0, 1])))
    chunks += [(b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


def make_icc(columns_xyz: np.ndarray, gamma: float) -> bytes:
    """An RGB profile (ICC version 2): the XYZ of the primaries under D50 as columns, and one power curve."""

    def xyz(values: Sequence[float]) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    curve = b"curv\0\0\0\0" + struct.pack(">IHxx", 1, round(gamma * 256))
    tags: list[tuple[bytes, bytes]] = [
        (b"desc", b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + bytes(79)),
        (b"wtpt", xyz((0.9642, 1.0, 0.8249))),
        *(
            (name, xyz(column))
            for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns_xyz.T, strict=True)
        ),
        *((name, curve) for name in (b"rTRC", b"gTRC", b"bTRC")),
    ]
    at = 128 + 4 + 12 * len(tags)
    table, data = struct.pack(">I", len(tags)), b""
    for name, body in tags:
        body += bytes(-len(body) % 4)
        table += name + struct.pack(">II", at + len(data), len(body))
        data += body
    head = struct.pack(
        ">I4sI4s4s4s12x4s", at + len(data), b"\0\0\0\0", 0x02400000, b"mntr", b"RGB ", b"XYZ ", b"acsp"
    )
    head += bytes(28) + struct.pack(">iii", 63190, 65536, 54061)
    return head + bytes(128 - len(head)) + table + data


P3_D50 = np.array([[0.5151, 0.2920, 0.1571], [0.2412, 0.6922, 0.0666], [-0.0011, 0.0419, 0.7841]])
"""Display P3 under D50, as its usual profile has it."""
SRGB_D50 = np.array([[0.4361, 0.3851, 0.1431], [0.2225, 0.7169, 0.0606], [0.0139, 0.0971, 0.7141]])
