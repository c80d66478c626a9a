"""Packing of series: pure functions over numpy arrays, no Django."""
