"""How errors name arguments, calls and settings to a person at a shell: by options and commands."""

from __future__ import annotations

from sa2va_tools.wording import Vocabulary

OPTIONS = {
    "after": "--after",
    "box_xyxy": "--box",
    "end_s": "--end",
    "expressions": "EXPRESSION",
    "formats": "--format",
    "fps": "--fps",
    "frame_index": "--frame",
    "gate_by_object_score": "--keep-doubtful",
    "handles": "HANDLE",
    "llm_frames": "--llm-frames",
    "mask": "--mask",
    "max_frames": "--max-frames",
    "max_new_tokens": "--max-new-tokens",
    "max_side": "--max-side",
    "media": "MEDIA",
    "mode": "--mode",
    "older_than_s": "--older-than",
    "everything": "--all",
    "negative_points_xy": "--negative-point",
    "out_dir": "--out",
    "points_xy": "--point",
    "polygon_xy": "--polygon",
    "question": "QUESTION",
    "regions": "--box, --point, --polygon, --mask or --rle",
    "rle": "--rle",
    "smooth": "--smooth",
    "start_s": "--start",
    "stride": "--stride",
    "threshold": "--threshold",
    "time_s": "--time",
    "unit": "--fraction",
    "video_stream": "--video-stream",
}
"""Arguments of methods and tools → what is typed instead."""
COMMANDS = {
    "caption_region": "sa2va caption",
    "describe": "sa2va describe",
    "export": "sa2va export",
    "ground": "sa2va ground",
    "list_results": "sa2va list",
    "remove_results": "sa2va rm",
    "segment": "sa2va segment",
    "track": "sa2va track",
    "view": "sa2va view",
}
"""Methods of `Engine` → commands."""
_SETTINGS = {"store_dir": "--store"}
_WITH_OPTION = ("device", "dtype", "model", "quantize", "sam2_decoder", "store_dir")


HOW_TO_POINT = (
    "Use --box x0,y0,x1,y1, --point x,y, --mask mask:…, --polygon x,y,x,y,x,y (with numbers only) or "
    "--rle FILE."
)


def _spell_argument(name: str, value: str) -> str:
    # `regions.0.box_xyxy.2` is about the box.
    known = [OPTIONS[part] for part in name.split(".") if part in OPTIONS]
    if not known:
        return f"--{name.replace('_', '-')}"
    return known[-1] if not value or name == "unit" else f"{known[-1]} {value}"


def _spell_setting(name: str, value: str) -> str:
    variable = f"SA2VA_{name.upper()}"
    if name not in _WITH_OPTION:
        return f"{variable}={value}".rstrip("=")
    option = _SETTINGS.get(name, f"--{name.replace('_', '-')}")
    return f"{option} {value}" if value else f"{option} (or {variable})"


SHELL = Vocabulary(
    argument=_spell_argument,
    call=lambda method: COMMANDS.get(method, method),
    setting=_spell_setting,
    phrases={"region_shapes": HOW_TO_POINT},
)
