"""Issuing from the site's own CA: host leaves, service leaves, revocation lists, renewal without Ansible."""
