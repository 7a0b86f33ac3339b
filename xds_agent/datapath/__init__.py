"""The XDP datapath seen from Python: load the program, write its maps, read its counters.

Layouts and names come from the object's BTF; nothing here repeats a C struct.
"""
