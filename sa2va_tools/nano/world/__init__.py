"""The world of shapes: scenes, their pixels, and questions with answers about them."""
