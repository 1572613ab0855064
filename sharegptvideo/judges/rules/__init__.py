"""Rules that judge from texts alone: `answer-match`, `yes-no` and `choice`."""
