"""What of Azure the simulation knows."""

from __future__ import annotations

PUBLIC = "198.19.0.0/17"
SUBSCRIPTION = "00000000-0000-0000-0000-000000000000"
# Region -> its availability zones.
ZONES = {
    "eastus": "123", "eastus2": "123", "centralus": "123", "westus2": "123", "westus3": "123", "westus": "",
    "northeurope": "123", "westeurope": "123", "germanywestcentral": "123", "uksouth": "123",
    "swedencentral": "123", "francecentral": "123", "southeastasia": "123", "japaneast": "123",
    "brazilsouth": "123",
}  # fmt: skip
REGIONS = frozenset(ZONES)
# (publisher, offer, sku), whose case means nothing -> versions.
IMAGES = {
    ("debian", "debian-12", "12-gen2"): (
        "0.20250316.2053", "0.20250428.2096", "0.20250703.2162", "0.20250814.2204", "0.20260316.2418",
    ),
    ("debian", "debian-12", "12-arm64"): ("0.20250316.2053",),
}  # fmt: skip
# Size -> virtual processors, and whether it takes accelerated networking.
SIZES = {
    "Standard_B1s": (1, False), "Standard_B2s": (2, False), "Standard_B2ms": (2, False),
    "Standard_D2s_v5": (2, True), "Standard_D4s_v5": (4, True), "Standard_D8s_v5": (8, True),
    "Standard_D16s_v5": (16, True), "Standard_D64s_v5": (64, True),
    "Standard_D2ds_v5": (2, True), "Standard_D4ds_v5": (4, True),
    "Standard_F2s_v2": (2, True), "Standard_F4s_v2": (4, True), "Standard_F8s_v2": (8, True),
    "Standard_F16s_v2": (16, True), "Standard_D2as_v5": (2, True), "Standard_D4as_v5": (4, True),
    "Standard_D2s_v6": (2, True), "Standard_D4s_v6": (4, True), "Standard_D8s_v6": (8, True),
}  # fmt: skip
QUOTAS = {"VirtualNetworks": 1000, "PublicIPAddresses": 1000, "cores": 512, "NetworkSecurityGroups": 5000}
