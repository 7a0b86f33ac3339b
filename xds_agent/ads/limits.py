"""How large one gRPC message may be, in either direction, between control hosts, node agents and Envoys.

gRPC's own 4 MB are too few for what thousands of services take in one response. Without any bound, a peer
that is broken or broken into could take all memory by one message.
"""

MIB = 1 << 20
# What control and agents send: a whole site at most.
LARGEST_SENT_BYTES = 256 * MIB
# What nodes and Envoys ask of whoever serves them: the longest names all resources that are held, with their
# versions, or carries an inventory to the control host that leads.
LARGEST_ASKED_BYTES = 64 * MIB

SERVING = (
    ("grpc.max_send_message_length", LARGEST_SENT_BYTES),
    ("grpc.max_receive_message_length", LARGEST_ASKED_BYTES),
)
ASKING = (
    ("grpc.max_send_message_length", LARGEST_ASKED_BYTES),
    ("grpc.max_receive_message_length", LARGEST_SENT_BYTES),
)
