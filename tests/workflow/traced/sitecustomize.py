"""Found first on the path of a run's processes: each job writes which functions of `abi` its step called.

A file per process in the folder `ABI_TRACED`: a line `file<TAB>function` per function, those of the step first. What runs
when modules are imported is not noted.
"""

import atexit
import os
import sys
import threading
from pathlib import Path

FOLDER = os.environ.get("ABI_TRACED")
FUNCTION = 0x1  # CO_OPTIMIZED: the body of a class has it not
called: dict[tuple[str, str], None] = {}


def note(frame, event, _):
    code = frame.f_code
    if event != "call" or not code.co_flags & FUNCTION or f"{os.sep}abi{os.sep}" not in code.co_filename:
        return
    if called or (code.co_name == "run" and Path(code.co_filename).parent.name == "steps"):
        called[code.co_filename, code.co_qualname] = None


def write():
    sys.settrace(None)
    if called:
        lines = "".join(f"{file}\t{name}\n" for file, name in called)
        path = Path(FOLDER, f"{os.getpid()}.part")
        path.write_text(lines, encoding="utf-8")
        path.replace(path.with_suffix(".tsv"))  # a process may be killed as it writes


def begin():
    called.clear()
    sys.settrace(note)  # not `setprofile`, which would tell of every call of C too: twice the price
    threading.settrace(note)


def leave(code, leave_now=os._exit):
    write()  # a job that was forked ends without `atexit`
    leave_now(code)


if FOLDER:
    os.register_at_fork(after_in_child=begin)
    atexit.register(write)
    os._exit = leave
    begin()
