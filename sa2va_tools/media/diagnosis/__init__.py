"""What is wrong with a file that cannot be read: cut off, encrypted, or no media at all. Reads the structure
of files, decodes nothing."""
