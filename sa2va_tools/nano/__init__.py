"""The nano model: the world of shapes that it knows, the course that trains it, the exam that scores it, and
the checkpoint that is shipped. `course` and `exam` build on `world`, and neither on the other."""
