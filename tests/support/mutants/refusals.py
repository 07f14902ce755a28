"""Bugs in how what is refused ends, and in what keeps strangers' code and options out."""

from support.mutants.mutant import Mutant

MUTANTS = (
    Mutant(
        "what is refused ends with status 1",
        "errors.py",
        "REFUSED = 2",
        "REFUSED = 1",
        ("test_cli.py::test_an_error_in_a_process_is_one_message_and_status_2",),
    ),
    Mutant(
        "a client that gives up first is told as itself",
        "machine/hub.py",
        "if error is not None and time.monotonic() - start >= seconds:",
        "if isinstance(error, TimeoutError):",
        ("test_hub.py::test_the_client_that_gives_up_first_is_told_as_the_wait_that_ends",),
    ),
    Mutant(
        "pickled weights are loaded",
        "models/loading.py",
        "        use_safetensors=True,\n",
        "",
        ("test_security.py::test_weights_that_are_pickled_are_refused",),
    ),
    Mutant(
        "a revision may be an option of Git",
        "commands/verify.py",
        '"show", "--end-of-options", f"',
        '"show", f"',
        ("test_security.py::test_a_revision_is_no_option_of_git",),
    ),
)
