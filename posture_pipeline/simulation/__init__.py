"""The embedded simulated AWS organization: accounts and findings, and an endpoint before them.

`organization.py` is the model (pure, no network), `server.py` puts it behind HTTP. Nothing is
imported here: the server needs a web framework that the rest of the package can do without.
"""
