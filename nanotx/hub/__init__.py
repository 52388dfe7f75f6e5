"""Hand a model on: as a pack that nanotx loads elsewhere, or in a format that needs no nanotx."""
