"""Manifests: the small JSON files that lie beside texts, weights, states and evidence and promise what is in them."""
