"""Names that stand for another model: how a variant takes its source's place, and gives it back."""
