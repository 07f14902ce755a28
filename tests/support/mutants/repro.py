"""Bugs where stages run side by side, and as forks of one process."""

from support.mutants.mutant import Mutant

_COMMAND = "commands/repro.py"
_BESIDE = "fanout/side_by_side.py"
_RESIDENT = "fanout/resident.py"
_HANDED = "machine/hand_over.py"


def _beside(test: str) -> tuple[str, ...]:
    return (f"test_side_by_side.py::test_{test}",)


def _resident(test: str) -> tuple[str, ...]:
    return (f"test_resident.py::test_{test}",)


_ORDER = _beside("cells_run_at_one_time_and_a_stage_after_those_it_reads")
_ENDS = _resident("it_ends_as_the_script_does")
_ENVIRONMENT = _resident("its_environment_is_that_of_the_script_without_the_way_to_the_resident")

MUTANTS = (
    Mutant(
        "the order of the lock is left as stages ended",
        _COMMAND,
        "            dvc_project.order_lock(recorded)\n",
        "            pass\n",
        _beside("the_lock_becomes_that_of_a_plain_run_whichever_cell_ends_first"),
    ),
    Mutant(
        "entries of the lock change their places",
        _COMMAND,
        "order_lock(recorded)",
        "order_lock([])",
        _beside("entries_of_the_lock_keep_their_places"),
    ),
    Mutant(
        "a scale that fills a GPU gets a stage per core",
        _COMMAND,
        'params.scale.device == "cuda"',
        'params.scale.device == "cpu"',
        _beside("one_job_per_core_and_one_where_the_scale_fills_a_gpu"),
    ),
    Mutant(
        "a stage starts before those that it reads have ended",
        _BESIDE,
        "TopologicalSorter(graph.upstream)",
        "TopologicalSorter(dict.fromkeys(graph.upstream, ()))",
        _ORDER,
    ),
    Mutant(
        "one stage more than the jobs",
        _BESIDE,
        "len(line.running) < jobs",
        "len(line.running) <= jobs",
        _beside("no_more_than_the_jobs_run_at_one_time"),
    ),
    Mutant(
        "what is up to date runs again",
        _BESIDE,
        "if self.graph.changed(name):",
        "if True:",
        _beside("what_is_up_to_date_starts_no_process"),
    ),
    Mutant(
        "others start after a failure",
        _BESIDE,
        "while not line.failed and len",
        "while len",
        _beside("a_failure_leaves_a_free_place_free"),
    ),
    Mutant(
        "a closed terminal leaves stages over",
        _BESIDE,
        "for number in (signal.SIGTERM, signal.SIGHUP) if",
        "for number in (signal.SIGTERM,) if",
        _beside("an_interrupt_leaves_no_process_and_loses_nothing"),
    ),
    Mutant(
        "what ignores an interrupt goes on",
        _BESIDE,
        "            self._signal(signal.SIGKILL)\n",
        "            pass\n",
        _beside("what_does_not_end_when_interrupted_is_killed"),
    ),
    Mutant(
        "half of the cores are a busy machine",
        "machine/cores.py",
        "_BUSY = 0.75",
        "_BUSY = 0.5",
        _beside("a_busy_machine_is_named_once"),
    ),
    Mutant(
        "a fork outlives the interpreter that handed it over",
        _RESIDENT,
        "        os.killpg(0, signal.SIGKILL)\n",
        "        pass\n",
        _resident("a_fork_is_killed_with_the_interpreter_that_handed_it_over"),
    ),
    Mutant(
        "a fork keeps the resident's environment",
        _RESIDENT,
        '    os.environ.update(order["environment"])\n',
        "",
        _ENVIRONMENT,
    ),
    Mutant(
        "the resident's environment stays beneath the script's",
        _RESIDENT,
        "    os.environ.clear()\n",
        "",
        _ENVIRONMENT,
    ),
    Mutant(
        "a script runs in the resident's folder",
        _RESIDENT,
        'os.chdir(order["folder"])',
        "pass",
        _resident("a_script_sees_what_it_would_see_alone_and_nothing_of_those_before"),
    ),
    Mutant("every script ends well", _RESIDENT, "os.waitstatus_to_exitcode(status)", "0", _ENDS),
    Mutant("a killed script ends with status 1", _HANDED, "os.kill(os.getpid(), -status)", "os._exit(1)", _ENDS),
    Mutant(
        "signals are not passed on",
        _HANDED,
        "        os.kill(process, number)\n",
        "        pass\n",
        _resident("signals_are_passed_on"),
    ),
    Mutant(
        "a hang-up is not passed on",
        _HANDED,
        "signal.SIGTERM, signal.SIGHUP)",
        "signal.SIGTERM)",
        _resident("signals_are_passed_on"),
    ),
    Mutant(
        "a script of another environment runs",
        _RESIDENT,
        'if order["library"] != sysconfig.get_path("purelib"):',
        "if False:",
        _resident("another_environment_is_refused"),
    ),
    Mutant(
        "packages are not compared",
        _RESIDENT,
        "if _packages() != packages:",
        "if False:",
        _resident("changed_packages_are_refused"),
    ),
    Mutant(
        "a package that is installed again is the same",
        _RESIDENT,
        "(entry.name, entry.stat().st_mtime_ns)",
        "(entry.name, 0)",
        _resident("changed_packages_are_refused"),
    ),
    Mutant(
        "a fork outlives the process that watches over it",
        _RESIDENT,
        "        _end_with_parent()\n",
        "",
        _resident("a_fork_is_killed_with_the_process_that_watches_over_it"),
    ),
    Mutant(
        "a library's thread is forked without",
        _RESIDENT,
        "if len(threads) > 1:",
        "if False:",
        _resident("a_thread_of_a_library_is_refused"),
    ),
)
