"""Everything that talks to AWS. Outside the simulation, only this folder imports boto3.

Nothing here knows of the lake or of Dagster: pages go to a `PageSink`, tables come back as frames.
"""
