from sa2va_tools import Engine

with Engine.load("nano") as engine:
    result = engine.segment("sa2va-demo/clip.mp4", ["the red circle", "the yellow star"])
    for thing in result.objects:
        print(thing.label, thing.handle, f"score {thing.score:.2f}") if thing.found else print(thing.reason)
    print(engine.export(result.handle, "sa2va-demo/found").files["overlay"])
