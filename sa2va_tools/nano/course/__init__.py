"""How the nano model is trained from nothing: its sizes, its recipe, its stages."""
