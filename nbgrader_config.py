"""How nbgrader works in this course: where things lie, and who grades.

Read by every `nbgrader` command that is run in this folder, and by formgrader in a JupyterLab started here. For a class
in another folder, say so: `nbgrader autograde attention --course-dir=/path/to/class`. Its submitted/, autograded/,
feedback/ and gradebook.db are then that folder's; assignments and hidden tests stay these.
"""

import os
import sys
import warnings
from pathlib import Path

from autograder.source import refresh_sources

HERE = Path(__file__).resolve().parent
c = get_config()  # noqa: F821 - nbgrader puts it there

# nbgrader calls `alembic` by its bare name, which fails where the environment was not activated.
if str(Path(sys.executable).parent) not in os.environ.get("PATH", "").split(os.pathsep):
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])

# nbgrader's own way of filling its database makes a newer SQLAlchemy warn once for each class; nothing is lost.
warnings.filterwarnings("ignore", message="Object of type <Submitted(Assignment|Notebook)> not in session")

c.CourseDirectory.course_id = "gpt"
c.CourseDirectory.root = str(HERE)
c.CourseDirectory.source_directory = "build/source"  # made from solutions/, never edited
c.CourseDirectory.release_directory = "assignments"
c.Grading.solutions = str(HERE / "solutions")
refresh_sources(HERE)

# The release. It is generated and committed: making it again replaces it.
c.GenerateAssignment.force = True
c.GenerateAssignment.preprocessors = [
    "nbgrader.preprocessors.IncludeHeaderFooter",
    "nbgrader.preprocessors.InstantiateTests",
    "nbgrader.preprocessors.LockCells",
    "nbgrader.preprocessors.ClearSolutions",
    "nbgrader.preprocessors.ClearOutput",
    "nbgrader.preprocessors.CheckCellMetadata",
    "autograder.release.CheckRelease",  # ours: tasks, points and hidden tests fit; no solution is left
    "nbgrader.preprocessors.ComputeChecksums",
    "nbgrader.preprocessors.SaveCells",
    "nbgrader.preprocessors.ClearHiddenTests",
    "nbgrader.preprocessors.ClearMarkScheme",
    "nbgrader.preprocessors.ComputeChecksums",
    "nbgrader.preprocessors.CheckCellMetadata",
]

# Grading. No kernel runs: the file that was handed in is graded in a sandbox; the score comes from the report alone.
c.Autograde.exporter_class = "autograder.intake.Intake"
c.Autograde.sanitize_preprocessors = [
    "autograder.gradebook.Transplant",  # ours: the released notebook, with the student's sources in it
    "nbgrader.preprocessors.ClearOutput",
    "nbgrader.preprocessors.DeduplicateIds",
    "nbgrader.preprocessors.OverwriteKernelspec",
    "nbgrader.preprocessors.OverwriteCells",
    "nbgrader.preprocessors.CheckCellMetadata",
]
c.Autograde.autograde_preprocessors = [
    "autograder.gradebook.IsolatedGrade",  # ours: in place of Execute
    "nbgrader.preprocessors.LimitOutput",
    "autograder.gradebook.SaveIsolatedGrades",  # ours: in place of SaveAutoGrades
    "nbgrader.preprocessors.AssignLatePenalties",
    "nbgrader.preprocessors.CheckCellMetadata",
]

# Pages. Nothing that a student wrote may act in a browser: not in feedback, not in formgrader.
c.GenerateFeedback.exporter_class = "autograder.safe_html.Page"
c.GenerateFeedback.preprocessors = [
    "autograder.gradebook.Grades",  # ours: what is not graded is no zero
    "nbconvert.preprocessors.CSSHTMLHeaderPreprocessor",
]
c.HTMLExporter.sanitize_html = True
c.HTMLExporter.filters = {
    "markdown2html": "autograder.safe_html.markdown2html",
    "clean_html": "autograder.safe_html.clean_html",
    "round": "autograder.safe_html.round_or_say",
}
