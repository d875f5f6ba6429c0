"""A teacher's logits: predicted, stored, verified, read back."""
