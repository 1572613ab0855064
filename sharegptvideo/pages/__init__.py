"""The pages that commands write: one style, one template."""
