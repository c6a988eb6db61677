"""A static site of several reports: who may stand on it, its index, a card for each model, and putting it on disk."""
