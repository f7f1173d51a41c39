"""Calibration of claims: they fail on meshes with one fault (mutants), and hold on every legal mesh (variants)."""
