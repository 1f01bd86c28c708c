"""One run file carried out, from its files to a run folder, and a run folder made again."""

from finsignal.study.inputs import Inputs, read_inputs
from finsignal.study.manifest import RUN_FOLDER_MARK, Request
from finsignal.study.request import run_request
from finsignal.study.run import Study, run_study, write_study
from finsignal.study.signal import make_signal_rows
from finsignal.study.verify import Verified, verify_run

__all__ = [
    "RUN_FOLDER_MARK",
    "Inputs",
    "Request",
    "Study",
    "Verified",
    "make_signal_rows",
    "read_inputs",
    "run_request",
    "run_study",
    "verify_run",
    "write_study",
]
