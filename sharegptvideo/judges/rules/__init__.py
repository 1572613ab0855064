"""The rules of `answer-match`, which scores an answer 1 to 5 from texts alone."""
