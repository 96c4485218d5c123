"""`python -m sa2va_server` is the `sa2va` command."""

from sa2va_server.cli.app import main

if __name__ == "__main__":
    main()
