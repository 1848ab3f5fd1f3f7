"""The page of kinds."""


def page() -> str:
    """Markdown."""
    return "# Kinds\n"
