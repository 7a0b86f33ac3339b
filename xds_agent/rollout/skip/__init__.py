"""`skip_bad`: which parts of a change a shadow refuses, and the change without them.

`parts` cuts a change into parts and puts it together without some, `search` finds the bad ones by bisection
(both pure), `trials` asks the shadow, `leaving_out` does so for a change that was refused.
"""
