"""nbgrader's side of grading: transplant, grading elsewhere, saving, feedback. Named in nbgrader_config.py.

    submitted/ ─Intake, Transplant─► autograded/ ─IsolatedGrade─► report ─SaveIsolatedGrades─► gradebook.db
                                                                                └─Grades─► feedback/

No kernel is started. What is graded is the file as it was handed in; what is shown is the released notebook with the
student's sources in it. A score comes from a report alone; where there is none, the gradebook says "needs manual
grading".
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from nbformat import NotebookNode
from nbgrader import utils  # type: ignore[import-untyped]
from nbgrader.api import Gradebook  # type: ignore[import-untyped]
from nbgrader.preprocessors import (  # type: ignore[import-untyped]
    GetGrades,
    NbGraderPreprocessor,
    SaveAutoGrades,
)

from autograder import elsewhere as there
from autograder import feedback, nodes
from autograder.assignment import submission
from autograder.cache import Cache
from autograder.errors import GraderError, NotebookUnreadable
from autograder.intake import Grading, Resources
from autograder.notebook import Cell, read_ipynb
from autograder.report import Report, TaskResult
from autograder.transplant import is_untouched, transplant


class Transplant(Grading, NbGraderPreprocessor):  # type: ignore[misc]
    """First of the sanitizers: in place of the student's file, the released notebook with the student's sources."""

    def preprocess(self, _nb: NotebookNode, resources: Resources) -> tuple[NotebookNode, Resources]:
        """Forget the old scores, and make the notebook to show. Nothing is taken from what nbgrader read."""
        facts = resources["nbgrader"]
        assignment = self.assignment(facts["assignment"])
        self._forget_scores(facts)
        cells: list[Cell] = []
        try:
            cells = read_ipynb(self.submitted(resources))
        except NotebookUnreadable as error:
            self.log.warning("%s of %s cannot be read: %s", facts["assignment"], facts["student"], error)
        return transplant(assignment, cells), resources

    def _forget_scores(self, facts: dict[str, str]) -> None:
        """Should anything go wrong from here on, no old score stands for the new submission."""
        with Gradebook(facts["db_url"]) as gradebook:
            submission = gradebook.find_submission_notebook(facts["notebook"], facts["assignment"], facts["student"])
            for grade in submission.grades:
                grade.auto_score, grade.needs_manual_grade = None, True
            gradebook.db.commit()


class IsolatedGrade(Grading, NbGraderPreprocessor):  # type: ignore[misc]
    """In place of nbgrader's `Execute`: grades the file that was handed in, elsewhere. Never raises."""

    def preprocess(self, nb: NotebookNode, resources: Resources) -> tuple[NotebookNode, Resources]:
        """Put the report into the resources, and its words into the notebook."""
        report, why = self._report(resources)
        resources["autograder"] = report
        _annotate(nb, report, why)
        return nb, resources

    def _report(self, resources: Resources) -> tuple[Report, str]:
        facts = resources["nbgrader"]
        try:
            solutions = self.solutions_folder()
            work = there.Work(
                solutions=solutions,
                reports=Path(self.reports).resolve() if self.reports else solutions.parent / "build" / "reports",
                assignment=facts["assignment"], student=facts["student"],
                notebook=self.submitted(resources), isolation=self.isolation, seed=self.seed,
                call_seconds=self.call_seconds,
            )  # fmt: skip
            known = self._known(work)
            return known or there.elsewhere.run(self.seconds, there.grade, work), feedback.NOT_YOURS
        except NotebookUnreadable as error:
            return self._ungraded(facts, str(error)), feedback.UNREADABLE
        except GraderError as error:
            # The message says it all.
            self.log.error("%s of %s stays ungraded: %s", facts["assignment"], facts["student"], error)  # noqa: TRY400
        except Exception:
            self.log.exception("%s of %s stays ungraded", facts["assignment"], facts["student"])
        return self._ungraded(facts, feedback.NOT_YOURS), feedback.NOT_YOURS

    def _known(self, work: there.Work) -> Report | None:
        """The report from the cache. No process is started for it.

        Raises:
            NotebookUnreadable: the file is no notebook.
        """
        assignment = self.assignment(work.assignment)
        digest = submission(assignment, read_ipynb(work.notebook)).digest
        cache = Cache(work.reports, work.isolation, work.seed, "cpu", work.call_seconds)
        known = cache.find(digest, assignment)
        return known.for_student(work.student) if known else None

    def _ungraded(self, facts: dict[str, str], reason: str) -> Report:
        tasks = tuple(TaskResult(task.name, task.points, 0.0, "ungraded") for task in self._tasks(facts["assignment"]))
        total = sum(task.points for task in tasks)
        return Report(facts["student"], facts["assignment"], "ungraded", 0.0, total, tasks, (reason,))

    def _tasks(self, name: str) -> tuple[Any, ...]:
        try:
            return self.assignment(name).tasks
        except GraderError:
            return ()


def _annotate(nb: NotebookNode, report: Report, why: str) -> None:
    results = {result.task: result for result in report.tasks}
    untouched = {cell.metadata.nbgrader.grade_id: is_untouched(cell) for cell in nb.cells if utils.is_solution(cell)}
    for cell in nb.cells:
        if utils.is_grade(cell) and not utils.is_solution(cell):
            task = cell.metadata.nbgrader.grade_id.removeprefix("test_")
            if task in results:
                blank = untouched.get(task, False) and why != feedback.UNREADABLE
                cell.outputs = [_output(results[task], why, untouched=blank)]
    notes = feedback.notes_html(report)
    if notes is not None:
        cell = nodes.cell("markdown", notes)
        cell["id"] = "notes"
        nb.cells.insert(0, cell)


def _output(result: TaskResult, why: str, *, untouched: bool) -> NotebookNode:
    return nodes.output({
        "text/html": feedback.task_html(result, untouched=untouched, why=why),
        "text/plain": feedback.task_text(result, untouched=untouched, why=why),
    })


class SaveIsolatedGrades(SaveAutoGrades):  # type: ignore[misc]
    """Takes scores from the report alone, and books them all or none."""

    def preprocess(self, nb: NotebookNode, resources: Resources) -> tuple[NotebookNode, Resources]:
        """Save every score and hint in one transaction."""
        facts = resources["nbgrader"]
        report: Report = resources["autograder"]
        results = {result.task: result for result in report.tasks}
        with Gradebook(facts["db_url"]) as gradebook:
            place = (facts["notebook"], facts["assignment"], facts["student"])
            for cell in nb.cells:
                if utils.is_grade(cell):
                    grade = gradebook.find_grade(cell.metadata.nbgrader.grade_id, *place)
                    grade.auto_score = self._score(cell, results, report)
                    grade.needs_manual_grade = grade.auto_score is None or grade.manual_score is not None
                if utils.is_solution(cell):
                    comment = gradebook.find_comment(cell.metadata.nbgrader.grade_id, *place)
                    comment.auto_comment = self._comment(cell, results, report)
            gradebook.db.commit()
        return nb, resources

    def _score(self, cell: NotebookNode, results: dict[str, TaskResult], report: Report) -> float | None:
        if utils.is_solution(cell):  # written: a person reads it, unless there is nothing to read
            return 0.0 if is_untouched(cell) and report.status == "graded" else None
        result = results.get(cell.metadata.nbgrader.grade_id.removeprefix("test_"))
        if result is None or result.status == "ungraded" or not math.isfinite(result.score):
            return None
        return min(max(result.score, 0.0), float(cell.metadata.nbgrader.points))

    def _comment(self, cell: NotebookNode, results: dict[str, TaskResult], report: Report) -> str | None:
        result = results.get(cell.metadata.nbgrader.grade_id)
        if result is None:
            return "No response." if is_untouched(cell) and report.status == "graded" else None
        return None if result.status == "ungraded" else feedback.hints(result, untouched=is_untouched(cell))


class Grades(GetGrades):  # type: ignore[misc]
    """nbgrader's reader of grades for the feedback page; a task without a grade is no zero there either."""

    def preprocess(self, nb: NotebookNode, resources: Resources) -> tuple[NotebookNode, Resources]:
        """As nbgrader's, but the total is no number while an automatic part is missing."""
        nb, resources = super().preprocess(nb, resources)
        if any(_is_missing(cell) and not utils.is_solution(cell) for cell in nb.cells):
            resources["nbgrader"]["score"] = math.nan
        return nb, resources

    def _get_score(self, cell: NotebookNode, resources: Resources) -> None:
        super()._get_score(cell, resources)
        name = cell.metadata.nbgrader.grade_id
        grade = self.gradebook.find_grade(name, self.notebook_id, self.assignment_id, self.student_id)
        if grade.auto_score is None and grade.manual_score is None:
            cell.metadata.nbgrader["score"] = math.nan


def _is_missing(cell: NotebookNode) -> bool:
    score = cell.metadata.get("nbgrader", {}).get("score")
    return isinstance(score, float) and math.isnan(score)
