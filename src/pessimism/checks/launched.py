"""What :func:`pessimism.checks.launcher.check_launcher` has the launcher start in place of a stage."""

from pessimism import errors

LAUNCHED = f"launched where {errors.__name__} is found"

if __name__ == "__main__":
    print(LAUNCHED, flush=True)
