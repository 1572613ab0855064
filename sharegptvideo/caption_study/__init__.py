"""What a set of captions is like: length, words, repetition, what it speaks of."""
