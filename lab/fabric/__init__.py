"""The networks of simulated clouds on this machine: what they let through, and which way.

A packet between two hosts leaves its host by a card that belongs to an address. The bridge that takes it
switches nothing: every packet is routed, as in a cloud. Before it reaches the other bridge, the rules of the
machine that gets it let it through or not. All of it is a table of nftables on this machine, made anew when
the clouds change: nothing of it is inside a host, and nothing of it concerns other networks.
"""
