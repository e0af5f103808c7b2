"""The catalogue: model cards, where their weights come from, and the weights store."""
