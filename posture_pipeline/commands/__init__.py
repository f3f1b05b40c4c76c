"""The commands of `posture`, a module for those that belong together, loaded when one is called.

How arguments are read stands in `cli`.
"""
