"""The APIs of model providers that the scripted model speaks, each as far as the clients use it."""
