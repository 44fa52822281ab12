"""`python -m tests.benchmarks`. What is measured is in other modules: processes of their own can't import this one."""

from tests.benchmarks.reading import main

if __name__ == "__main__":
    main()
