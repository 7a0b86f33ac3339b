"""What the tests of the inventory write into it."""

SHOP = """
certificates: [{name: shop}]
domains: [{name: shop.example.com, certificate: shop}]
services:
  - name: shop
    domains: [shop.example.com]
    endpoints:
      - {group: backends, port: 8080}
"""
PLANTED = "planted-secret-9f8e7d"
