"""Calibration of claims: runs the suites on meshes with one fault each, and judges whether the right claims fail."""
