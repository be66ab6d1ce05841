"""The error tree: what the student can fix, and what we must fix.

    AutograderError
      SubmissionError        the student can fix it: shown to the student
        NotebookUnreadable   the file is no notebook
        StudentError         the student's code raised, or answered with something that is no plain value
        CheckFailed          the student's answer is wrong
      GraderError            we must fix it: never costs points
        CourseBroken         solutions/ does not hold together
        SandboxUnavailable   this machine does not offer the isolation asked for

    WorkerLost               a BaseException: no test may go on with a worker that is gone
      Exhausted              out of time or memory, though the worker lives
"""

from __future__ import annotations


class AutograderError(Exception):
    """Everything the kit raises on purpose."""


class SubmissionError(AutograderError):
    """The student can fix this; the message is written for them."""


class NotebookUnreadable(SubmissionError):
    """The submitted file cannot be read as a notebook."""


class StudentError(SubmissionError):
    """The student's code raised, or returned something that cannot be judged.

    `kind` is the exception's class name, `kinds` the names of all its classes, `text` its message, `where` the
    lines of the student's own code that led there, innermost last.
    """

    def __init__(self, kind: str, text: str, *, kinds: tuple[str, ...] = (), where: str = "", call: str = "") -> None:
        """Keep the parts apart, so that a check can ask for them."""
        self.kind, self.text, self.kinds, self.where, self.call = kind, text, kinds or (kind,), where, call
        raised = f"{kind}: {text}" if text else kind
        super().__init__(f"{call} raised {raised}" if call else raised)


class CheckFailed(SubmissionError):
    """An answer that is wrong; the message says what must hold and what came."""


class GraderError(AutograderError):
    """Our fault; never costs points."""


class CourseBroken(GraderError):
    """The course folder does not hold together; the message names the file and what to change."""


class SandboxUnavailable(GraderError):
    """The isolation asked for cannot be had here; the message says why and what would mend it."""


class WorkerLost(BaseException):
    """The worker is gone: killed for time, crashed, or speaking nonsense.

    A BaseException, so that neither a student's `except Exception` (in-process) nor Hypothesis goes on after it:
    a hanging answer costs one time limit, not fifteen.
    """

    def __init__(self, reason: str) -> None:
        """`reason` completes the sentence "`softmax` ..." for the student."""
        self.reason = reason
        super().__init__(reason)


class Exhausted(WorkerLost):
    """The student's code used up its time or memory; the worker could be kept. Not tried again and again: it is slow.

    `kind`: the exception's class name; `where`: the lines that were running; `advice`: what to look for.
    """

    def __init__(self, reason: str, *, kind: str, where: str = "", advice: str = "") -> None:
        """As `WorkerLost`."""
        self.kind, self.where, self.advice = kind, where, advice
        super().__init__(reason)
