"""Requests that a canary's own node agent makes through its Envoy, before a change and after it.

`sample` makes a request of a rule, `choose` takes the few that a change touches, `judge` compares the replies
(all three pure), `rounds` asks.
"""
