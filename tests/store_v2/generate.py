"""Writes clip.mp4 and records.json: a store of format 2, made by the last version that wrote one.

Run it in a checkout of commit fdb2ad7 (sa2va-tools 0.1.0): `PYTHONPATH=. python
…/tests/store_v2/generate.py`. The records are kept as the text that was in their compressed files. The path
of the clip, which is not part of its handle, is relative; tests put the clip's own path there.
"""

import gzip
import json
import tempfile
from pathlib import Path

from sa2va_tools import Engine, Region, Settings
from sa2va_tools.testing import synthetic_clip

HERE = Path(__file__).parent
EXPRESSIONS = ["the red square", "the blue circle"]


def make_results(engine, clip):
    first = engine.describe(clip, "What is in the video?")
    second = engine.describe(clip, "What color is the square?", after=first.handle)
    segment = engine.segment(clip, EXPRESSIONS)
    square = Region(mask=segment.objects[0].handle)
    return {
        "first": first,
        "second": second,
        "segment": segment,
        "tight": engine.segment(clip, EXPRESSIONS[:1], after=second.handle, threshold=0.7, smooth=True),
        "missing": engine.segment(clip, EXPRESSIONS[1:], stride=2),
        "ground": engine.ground(clip, "Describe the video."),
        "track": engine.track(clip, Region(box_xyxy=(0, 16, 20, 34)), frame_index=0),
        "extended": engine.extend(segment.handle, ["a red square"]),
        "caption": engine.caption_region(clip, square),
    }


def read_record(file):
    document = json.loads(gzip.decompress(file.read_bytes()))
    if document["kind"] == "media":
        document["record"]["media"]["path"] = "clip.mp4"
        document["record"]["stamp"] = ""
    return document


def main():
    clip = synthetic_clip(HERE / "clip.mp4", frames=8)
    with tempfile.TemporaryDirectory() as folder:
        with Engine.load(settings=Settings(device="cpu", store_dir=Path(folder))) as engine:
            results = make_results(engine, clip)
        files = sorted(Path(folder, "v2").rglob("*.json.gz"))
        records = {f"{file.parent.name}/{file.name}": read_record(file) for file in files}
    handles = {name: result.handle for name, result in results.items()}
    handles["media"] = results["first"].media.handle
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(record)}" for name, record in records.items())
    text = f'{{"handles": {json.dumps(handles, indent=2)},\n"records": {{\n{lines}\n}}}}\n'
    (HERE / "records.json").write_text(text)


main()
