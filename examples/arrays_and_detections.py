"""A NumPy array in, boolean masks and `supervision.Detections` out. Needs `pip install supervision`."""

from __future__ import annotations

import numpy as np

from sa2va_tools import load_engine

frames = np.full((8, 192, 256, 3), (78, 84, 96), np.uint8)  # (frames, height, width, RGB)
frames[:, 60:130, 90:160] = (220, 40, 40)

with load_engine("nano") as engine:
    result = engine.segment(frames, ["the red square"], fps=8)
print(result.masks.shape, "masks; pixels in the first one:", result.masks[0, 0].sum())
print(result.to_detections(frame_index=0).xyxy)
