"""Demonstrations: what goes wrong on purpose on the running lab, and what the site makes of it.

One file per demonstration; each is a `Demo` and stands in `DEMOS` (`catalogue`).
"""
