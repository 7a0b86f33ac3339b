#!/usr/bin/env bash
# Every linter of the tree; script/test and pre-commit run this. `script/lib/lint.sh [NAME...]` runs those named.
# All of them run, so that one run tells all; exit code 1 if one found something.
set -uo pipefail
root=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.." && pwd -P)
# shellcheck source=script/lib/environment.sh
. "$root/script/lib/environment.sh"
cd "$root" || exit 1
enter_environment
[ -t 1 ] || export NO_COLOR=1

lint_ruff() { ruff check . && ruff format --check .; }
lint_mypy() { mypy; }
# The cloud programs' types: mypy takes minutes and gigabytes for the clouds' SDKs, basedpyright half a minute.
lint_basedpyright() {
  [ -x pulumi/.venv/bin/basedpyright ] || { say "lint basedpyright: skipped, pulumi/.venv is not there"; return 0; }
  (cd pulumi && .venv/bin/basedpyright)
}
lint_yamllint() { yamllint --strict .; }
lint_ansible-lint() { ansible-lint --offline --profile production; }
# Tests misspell keys on purpose, to see the right ones suggested; te is a header of HTTP, parms the kernel's word.
lint_codespell() { codespell --skip "*/requirements/*.txt,./tests" --ignore-words-list te,parms,iif .; }
lint_shellcheck() {
  local scripts
  # By their first line: scripts have no ending.
  mapfile -t scripts < <(grep -rlE --include='*' '^#!(/usr/bin/env |/bin/)(ba)?sh' script .ci; printf '%s\n' script/lib/*.sh)
  mapfile -t scripts < <(printf '%s\n' "${scripts[@]}" | sort -u)
  shellcheck --external-sources "${scripts[@]}"
}

all=(ruff mypy basedpyright yamllint ansible-lint shellcheck codespell)
[ $# -gt 0 ] || set -- "${all[@]}"
for name in "$@"; do
  declare -F "lint_$name" >/dev/null || fail "no linter '$name'" "there are: ${all[*]}"
done

# All at once, since most use one core; told in this order.
said=$(mktemp -d)
trap 'kill "${pids[@]}" 2>/dev/null || true; rm -rf "$said"' EXIT
pids=()
for name in "$@"; do
  "lint_$name" >"$said/$name" 2>&1 &
  pids+=($!)
done
failed=()
for name in "$@"; do
  if wait "${pids[0]}"; then
    say "lint $name: ok"
  else
    failed+=("$name")
    cat "$said/$name"
    say "lint $name: FAILED"
  fi
  pids=("${pids[@]:1}")
done
[ ${#failed[@]} -eq 0 ] || { say "linters that found something: ${failed[*]}"; exit 1; }
