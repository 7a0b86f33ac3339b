"""Distance between the lab's networks: delay, jitter, loss and bandwidth of each direction.

The kernel of the machine routes between the lab's networks. Where a direction has a distance, a rule sends
its packets into a TUN device instead; a small program (`wan.c`) holds them there as long as they are under
way and puts them back, and the kernel routes them on. Without distances there is no rule, no device and no
program. Should the program die, its device goes with it, and packets take the short way again.
"""
