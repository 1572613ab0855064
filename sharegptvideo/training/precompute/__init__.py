"""What is computed once, kept on disk and read by every later step and run."""
