"""The look of the class page."""

STYLE = """
:root {
  --ink: #1d2430; --soft: #5b6675; --line: #d9dee6; --paper: #ffffff; --tint: #f5f7fa;
  --pass: #d5eedd; --partial: #fcefc7; --fail: #f8d5d3; --withheld: #e5d8f3; --ungraded: #dfe3e9; --bar: #7c9bd1;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e6e9ee; --soft: #a0abba; --line: #3a4350; --paper: #171b21; --tint: #20262e;
    --pass: #1d4a2f; --partial: #57471a; --fail: #5d2626; --withheld: #432a5c; --ungraded: #3b424d; --bar: #4c6da8;
  }
}
* { box-sizing: border-box; }
body {
  font: 15px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  margin: 2rem auto; padding: 0 1.5rem; max-width: 75rem;
}
h1 { font-size: 1.7rem; margin: 0; }
h2 { font-size: 1.3rem; margin: 2rem 0 .8rem; border-bottom: 1px solid var(--line); padding-bottom: .3rem; }
h3 { font-size: 1.05rem; margin: 2rem 0 .6rem; }
.under, small { color: var(--soft); font-size: .85rem; } .under { margin: .2rem 0; } td small { display: block; }
td, th, p { overflow-wrap: anywhere; }
.figures { display: flex; flex-wrap: wrap; gap: .8rem; }
.figures div {
  background: var(--tint); border: 1px solid var(--line); border-radius: 8px; padding: .6rem 1rem; min-width: 8rem;
}
.figures b { display: block; font-size: 1.4rem; } .figures span { color: var(--soft); font-size: .85rem; }
code { font-size: .92em; }
.warning { border-left: 4px solid #c77d1e; padding: .4rem .8rem; background: var(--tint); }
table { border-collapse: collapse; } .wide { width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem; border-bottom: 1px solid var(--line); }
thead th { font-size: .85rem; color: var(--soft); font-weight: 600; vertical-align: bottom; }
.wide th:first-child, .wide td:first-child { white-space: nowrap; width: 1%; }
.count { position: relative; min-width: 6rem; } .count b { position: relative; padding-left: .4rem; }
.count i {
  position: absolute; left: 0; top: .35rem; height: 1.4rem; background: var(--bar); opacity: .45; border-radius: 3px;
}
.mistakes td:nth-child(4) { width: 22%; }
.mistakes td:nth-child(3) { white-space: nowrap; }
.scroll { overflow-x: auto; }
.matrix { font-variant-numeric: tabular-nums; }
.matrix td { text-align: right; border: 1px solid var(--line); min-width: 3.2rem; }
.matrix th { font-weight: 500; white-space: nowrap; overflow-wrap: normal; }
.matrix .total { font-weight: 600; white-space: nowrap; }
.turned span { display: inline-block; writing-mode: vertical-rl; transform: rotate(180deg); max-height: 14rem; }
.matrix tfoot td, .matrix tfoot th { color: var(--soft); font-size: .85rem; }
.pass { background: var(--pass); } .partial { background: var(--partial); } .fail { background: var(--fail); }
.withheld { background: var(--withheld); } .ungraded { background: var(--ungraded); }
.matrix td.ungraded { white-space: nowrap; font-size: .8rem; }
.legend { display: flex; flex-wrap: wrap; gap: .5rem; }
.key { padding: .1rem .6rem; border-radius: 4px; font-size: .85rem; }
@media print { body { margin: 0; max-width: none; } .scroll { overflow: visible; } tr { break-inside: avoid; } }
"""
