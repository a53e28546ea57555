"""How the HTML page looks: one style sheet, readable from 390 px on, light and dark."""

CSS = """\
:root { --ink: #1b1f24; --soft: #57606a; --paper: #ffffff; --edge: #d8dee4; --wash: #f6f8fa; --link: #0a58a8; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ed; --soft: #a4adb8; --paper: #15181c; --edge: #3a424c; --wash: #1e2329; --link: #7ab8ff; }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; max-width: 1200px; padding: 1.5rem 1.25rem 4rem; color: var(--ink); background: var(--paper);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", Arial, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem; }
h2 { font-size: 1.45rem; line-height: 1.25; margin: 2.8rem 0 .7rem; padding-top: .9rem; border-top: 1px solid var(--edge); }
h3 { font-size: 1.18rem; margin: 2.2rem 0 .5rem; }
h4 { font-size: 1.03rem; margin: 1.7rem 0 .4rem; }
h5, h6 { font-size: .95rem; margin: 1.3rem 0 .3rem; color: var(--soft); }
p, ul { max-width: 75ch; }
p { margin: .55rem 0; }
a { color: var(--link); text-underline-offset: .15em; }
header p { color: var(--soft); margin-top: 0; }
.lead { font-size: 1.08rem; }
.quote { border-left: 3px solid var(--edge); padding-left: .9rem; color: var(--soft); }
.note { color: var(--soft); font-size: .92rem; }
code { font: .88em ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; background: var(--wash); padding: .05em .3em;
  border-radius: 3px; overflow-wrap: anywhere; }
pre { background: var(--wash); border: 1px solid var(--edge); padding: .8rem; overflow-x: auto; border-radius: 6px;
  font: .82rem/1.45 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
nav { background: var(--wash); border: 1px solid var(--edge); border-radius: 6px; padding: .6rem 1.1rem; margin: 1.2rem 0; font-size: .93rem; }
nav p { margin: .2rem 0; font-weight: 600; }
nav ol { margin: .3rem 0; padding-left: 1.4rem; }
nav ul { columns: 24rem; padding-left: .2rem; max-width: none; list-style: none; }
.scroll { overflow-x: auto; margin: .9rem 0; border: 1px solid var(--edge); border-radius: 6px; }
table { border-collapse: collapse; font-size: .85rem; line-height: 1.4; min-width: 100%; }
caption { text-align: left; color: var(--soft); padding: .5rem .6rem; caption-side: top; }
th, td { text-align: left; vertical-align: top; padding: .38rem .5rem; border-top: 1px solid var(--edge); font-weight: 400; min-width: 4.5rem; }
td:not(.number) { max-width: 34rem; } .long { min-width: 17rem; }
.number span { display: block; color: var(--soft); font-size: .93em; }
thead th { font-weight: 600; background: var(--wash); border-top: 0; }
tbody th { white-space: nowrap; }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.word { white-space: nowrap; font-size: .92em; letter-spacing: .01em; border-radius: 3px; padding: .05em .35em; border: 1px solid currentcolor; }
.supported, .match { color: #0b6b4f; } .refuted, .contradicted { color: #a8420a; }
.inconclusive, .no-evidence { color: #57606a; } .vacuous, .inconsistent { color: #8a3a6c; }
@media (prefers-color-scheme: dark) {
  .supported, .match { color: #5fd0a8; } .refuted, .contradicted { color: #ff9d66; }
  .inconclusive, .no-evidence { color: #b6c0cb; } .vacuous, .inconsistent { color: #e6a3cb; }
}
details { margin: .8rem 0; border: 1px solid var(--edge); border-radius: 6px; padding: .3rem .8rem; }
summary { cursor: pointer; padding: .25rem 0; font-size: .95rem; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 340px), max-content)); gap: 1rem; margin: 1rem 0; align-items: start; }
figure { margin: 0; min-width: 0; }
.plot { overflow-x: auto; background: #ffffff; border: 1px solid var(--edge); border-radius: 6px; padding: .3rem; }
.plot svg { display: block; }
figcaption { font-size: .82rem; line-height: 1.4; color: var(--soft); padding: .35rem .1rem; max-width: 70ch; }
figcaption code { white-space: normal; }
@media (max-width: 480px) { body { padding: 1rem .8rem 3rem; } h1 { font-size: 1.5rem; } h2 { font-size: 1.25rem; }
  tbody th { white-space: normal; overflow-wrap: anywhere; min-width: 7rem; } .long { min-width: 13rem; } }
@media print { nav { display: none; } .scroll, .plot { overflow: visible; } }
"""
