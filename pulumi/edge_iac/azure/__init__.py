"""Microsoft Azure."""

from edge_iac.azure.program import AzureProgram

__all__ = ["AzureProgram"]
