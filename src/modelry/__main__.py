"""`python -m modelry` is `modelry`."""

from modelry.cli.main import main

if __name__ == "__main__":
    main()
