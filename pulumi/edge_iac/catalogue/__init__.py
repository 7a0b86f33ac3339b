"""What the clouds have: regions and zones, sizes with their NIC, images, prices. Dated data, no I/O."""
