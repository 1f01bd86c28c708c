"""One run file carried out, from its files to a run folder."""

from finsignal.study.inputs import Inputs, read_inputs
from finsignal.study.run import RUN_FOLDER_MARK, Study, run_study, write_study
from finsignal.study.signal import make_signal_rows

__all__ = ["RUN_FOLDER_MARK", "Inputs", "Study", "make_signal_rows", "read_inputs", "run_study", "write_study"]
