"""Parquet shards, cards and the upload of a repository."""
