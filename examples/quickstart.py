from sa2va_tools import Engine

with Engine.load("nano") as engine:
    result = engine.segment("sa2va-demo/clip.mp4", ["the red circle", "the yellow star"])
    for thing in result.objects:
        print(thing.label, thing.found, thing.handle or thing.reason, round(thing.score, 2))
    print(engine.export(result.handle, "sa2va-demo/found").files["overlay"])
