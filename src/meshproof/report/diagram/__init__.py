"""A topology as a picture: what was planned, what is there, and what was proven on each arrow.

The SVG is written by hand, element by element: matplotlib takes a second and a half to load, knows neither tooltips
nor `<desc>`, and measures text in a font that the reader may not have; graphviz is a program of its own, and places
boxes by its own taste, so that a new claim would move them.
"""
