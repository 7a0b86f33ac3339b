"""The hosts of a site in AWS, Google Cloud and Azure, from one site file.

`site` reads and checks the file, `catalogue` knows sizes, regions, images and prices, `plan` says what is to
be made, all without a cloud's SDK; `aws`, `gcp` and `azure` make it, behind the protocol in `base`.
"""
