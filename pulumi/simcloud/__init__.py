"""Simulated clouds behind Pulumi's provider protocol: they validate, compute and refuse as the clouds do."""
