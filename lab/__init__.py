"""The lab: a whole multi-cloud site on this machine, as podman containers that run systemd.

``script/lab`` is its front. What lives where: ``place`` (names and addresses of this checkout's lab),
``image`` (the hosts' root file system), ``network``, ``hosts``, ``partners`` (client certificates),
``client``, ``checks`` and ``traffic`` (requests sent through the site, and the table of what they met),
``steady`` (requests that go on while something else happens), ``demos`` (what goes wrong on purpose).
"""
