"""One Markdown template for each config: the page that a published dataset shows."""
