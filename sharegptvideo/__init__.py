"""Video captions, QA and preferences as datasets; an evaluation to trust; SFT and DPO recipes."""

__version__ = "0.1.0"
__all__ = ["__version__"]
