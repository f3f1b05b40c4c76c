"""`python -m posture_pipeline` is the command line."""

from posture_pipeline.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
