"""Runs one Pulumi program in the interpreter of its project: the child of language_host.py."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import runpy
import sys
import traceback
from concurrent import futures

import pulumi.runtime

import pulumi

JOB = "MARCHPROXY_PULUMI_JOB"
ALREADY_SAID = 32
# The SDK waits for the engine in threads; this many for each resource that may be made at one time.
THREADS_PER_RESOURCE = 4


def main() -> int:
    """Run the program of the job in the environment; 0, or ALREADY_SAID after the engine was told why not."""
    job = json.loads(os.environ.pop(JOB))
    pulumi.runtime.set_all_config(
        pulumi.runtime.get_config_env(), pulumi.runtime.get_config_secret_keys_env()
    )
    pulumi.runtime.configure(pulumi.runtime.Settings(**job["settings"]))
    sys.argv = [job["program"], *job["args"]]
    if job["pwd"]:
        os.chdir(job["pwd"])
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    pool = futures.ThreadPoolExecutor(max(job["settings"]["parallel"], 1) * THREADS_PER_RESOURCE)
    loop.set_default_executor(pool)
    try:
        loop.run_until_complete(pulumi.runtime.run_in_stack(lambda: _run(job["program"])))
    except pulumi.RunError as problem:
        pulumi.log.error(str(problem))
        return ALREADY_SAID
    except Exception:
        pulumi.log.error(f"the program failed:\n{traceback.format_exc()}")
        return ALREADY_SAID
    finally:
        pool.shutdown(wait=True)
        loop.close()
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def _run(program: str) -> None:
    runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    sys.exit(main())
