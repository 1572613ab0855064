"""Servers, small models and made data that several tests use."""
