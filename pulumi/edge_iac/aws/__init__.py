"""Amazon Web Services."""

from edge_iac.aws.program import AwsProgram

__all__ = ["AwsProgram"]
