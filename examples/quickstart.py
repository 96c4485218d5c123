from sa2va_tools import load_engine

with load_engine("nano") as engine:
    result = engine.segment("sa2va-demo/clip.mp4", ["the red circle", "the yellow star"])
    for thing in result.objects:
        print(thing.label, thing.found, thing.handle or thing.reason, round(thing.score, 2))
    print(result.save("sa2va-demo/found")["overlay"])
