"""Several control hosts of one site: one leads, the others follow; all serve nodes and answer people."""
