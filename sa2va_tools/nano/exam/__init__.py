"""The nano's exam: cases that no training has seen, questions about them, their marking, and a report."""
